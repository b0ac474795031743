"""An application with `proxy_to_sandbox` around it on uvicorn, in a thread or as a program, and a service behind it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

__all__ = ["SERVICE", "Seen", "app_of_its_own", "running", "serving_app", "wait_until"]

Scope = Any

SERVICE = """
import asyncio, sys, threading
from websockets.asyncio.server import serve

closed = []

async def answer(ws):
    path = ws.request.path
    if path == "/close":
        await ws.close(4321, "enough")
    elif path == "/drop":
        ws.transport.abort()
    elif path == "/garbage":
        ws.transport.write(b"\\\\xff" * 20)
    elif path == "/large":
        await ws.send(bytes(17 * 1024 * 1024))
    elif path == "/fragments":
        await ws.send(iter(["ab", "", "c\\u20ac"]))
    elif path == "/pings":
        for _ in range(50):
            await (await ws.ping())
        await ws.send("ponged")
    elif path == "/closed":
        await ws.send(repr(closed))
    else:
        try:
            async for message in ws:
                await ws.send(message)
        finally:
            closed.append((ws.close_code, ws.close_reason))

def page(ws, request):
    if request.path == "/refuse":
        response = ws.respond(418, "no tea")
        response.headers["X-Why"] = "teapot"
        return response

def chosen(ws, offered):
    return "second" if "second" in offered else None

async def main():
    options = {"process_request": page, "select_subprotocol": chosen, "max_size": None}
    async with serve(answer, "127.0.0.1", 4000, **options) as server:
        await server.serve_forever()

asyncio.run(main())
"""


class Seen:
    """What the application itself was asked: types and paths of scopes."""

    def __init__(self) -> None:
        self.scopes: list[tuple[str, str]] = []
        self.started = self.ended = False


def app_of_its_own(seen: Seen) -> Callable[..., Any]:
    """It answers ``own``, and echoes WebSockets."""

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        seen.scopes.append((scope["type"], scope.get("path", "")))
        if scope["type"] == "lifespan":
            await receive()
            seen.started = True
            await send({"type": "lifespan.startup.complete"})
            await receive()
            seen.ended = True
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            message = await receive()
            await send({"type": "websocket.send", "text": f"own {message['text']}"})
            await send({"type": "websocket.close"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
            await send({"type": "http.response.body", "body": b"own"})

    return app


@contextmanager
def serving_app(app: Any, **options: Any) -> Iterator[int]:
    """uvicorn in a thread; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, proxy_headers=False, timeout_graceful_shutdown=1, **options)
    )
    ready = threading.Event()
    startup = server.startup

    async def started(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        ready.set()

    server.startup = started  # type: ignore[method-assign]
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        assert ready.wait(20)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


@contextmanager
def running(target: str) -> Iterator[int]:
    """uvicorn as a program with one of the examples; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.set_inheritable(True)
        line = [sys.executable, "-m", "uvicorn", target, "--fd", str(listener.fileno()), "--log-level", "warning"]
        with subprocess.Popen(
            line,
            pass_fds=[listener.fileno()],
            env=os.environ | {"PREVIEWS": f"localhost:{port}"},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield port
            finally:
                process.terminate()
                told = process.communicate(timeout=20)[1]
    assert "Traceback" not in told, told


def wait_until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    """For what another program does and does not tell."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
