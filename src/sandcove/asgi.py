"""What the server's and the agent's web applications share: errors, the loop they run in."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, TypeVar

import uvicorn
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandcove.calls import MAX_BODY, Call, Json, table
from sandcove.errors import (
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    SandboxError,
    ServiceUnavailableError,
    UnauthorizedError,
    error_to_wire,
)
from sandcove.linux import BACKLOG

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["Listener", "PatientSocket", "application", "disconnected", "prepare", "while_there"]

T = TypeVar("T")

KEEP_ALIVE = 3600
"""Seconds that an idle connection of a client's pool is kept."""

_log = logging.getLogger("sandcove")


async def disconnected(request: Request) -> None:
    """Returns when the caller has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def while_there(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. It is cancelled when the caller leaves, once, and what it does then is waited for.

    Raises:
        ClientDisconnect: the caller has left.
    """
    own = asyncio.current_task()
    assert own is not None
    left = False

    async def watch() -> None:
        nonlocal left
        await disconnected(request)
        left = True
        own.cancel()

    watching = asyncio.ensure_future(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if left and own.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()


def _answer(error: Exception) -> Response:
    if isinstance(error, SandboxError):
        response = Json(error_to_wire(error), error.status)
        if isinstance(error, ServiceUnavailableError) and error.retry_after is not None:
            response.headers["retry-after"] = str(math.ceil(error.retry_after))
        if isinstance(error, UnauthorizedError):
            response.headers["www-authenticate"] = "Bearer"
        return response
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        known: SandboxError
        if error.status_code == 404:
            known = NotFoundError("no such route; see the wire's documentation")
        elif error.status_code == 405:
            known = MethodNotAllowedError(f"this route takes {headers.get('Allow', 'another method')}")
        else:
            known = InvalidRequestError(str(error.detail))
        response = Json(error_to_wire(known), error.status_code)
        response.headers.update(headers)
        return response
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    _log.error("internal error", exc_info=error)
    return Json(
        error_to_wire(
            SandboxError("internal error; the log has the details (server.log, or agent.log in the sandbox's folder)")
        ),
        500,
    )


def application(
    calls: Sequence[Call | BaseRoute],
    around: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    answered: Callable[[Scope, int], None] | None = None,
    after: Callable[[Scope, int, float], None] | None = None,
    longest: int = MAX_BODY,
) -> ASGIApp:
    """An application whose every error is JSON with ``error`` and ``code``, and leaves the connection usable.

    When the answer has begun already, it is left unfinished: the connection breaks, and its reader knows.

    Args:
        calls: what it answers.
        around: makes the application that is called before them, and calls them.
        answered: called when the answer begins, with the scope and its status.
        after: called when a request has ended, with its scope, the status that was answered (499: none, since its
            caller had left) and how many seconds it took.
        longest: bytes of a request's body that is no stream.
    """
    for call in calls:
        if isinstance(call, Call):
            call.longest = longest
    router = around(Router(table(calls)))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        status = 499
        start = time.monotonic()

        async def send_on(message: Message) -> None:
            nonlocal begun, status
            if not begun:
                begun, status = True, message["status"]
                if answered is not None:
                    answered(scope, status)
            await send(message)

        scope["app"] = app  # The router raises where it would else answer an error in plain text.
        try:
            await router(scope, receive, send_on)
        except Exception as error:  # noqa: BLE001 - none may cross the wire as a traceback
            response = _answer(error)
            if begun:
                _log.warning("an answer broke off: %s", error)
            else:
                await response(scope, receive, send_on)
        finally:
            if answered is not None and not begun:
                answered(scope, status)
            if after is not None:
                after(scope, status, time.monotonic() - start)

    return app


def prepare(app: ASGIApp, http: type[asyncio.Protocol] | None = None) -> uvicorn.Config:
    """Loads all that serving `app` needs, so that a fork of this process imports nothing.

    Args:
        http: the protocol of a connection, if it is not uvicorn's own.
    """
    config = uvicorn.Config(
        app,
        http=http or "httptools",
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        backlog=BACKLOG,
    )
    config.load()
    return config


class PatientSocket(socket.socket):
    """A listening socket that takes another's place. Out of descriptors, it says so once in each turn of the loop.

    asyncio waits a second then, in which callers wait in the kernel. But the asyncio of some Pythons goes on with its
    turn: it fails, logs a traceback and starts to wait as often as the backlog is long, twice as often after a second.
    """

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(fileno=listening.detach())
        self._wanting = False

    def accept(self) -> tuple[socket.socket, Any]:
        if self._wanting:
            self._wanting = False
            raise BlockingIOError
        try:
            return super().accept()
        except OSError as error:
            self._wanting = error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
            raise


class Listener:
    """Serves a prepared application on listening sockets, without uvicorn's ten ticks a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        self._config = config
        self._server = uvicorn.Server(config)
        self._servers: list[asyncio.Server] = []

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._server.server_state.connections)

    @property
    def tasks(self) -> AbstractSet[asyncio.Task[None]]:
        """The requests that run."""
        return self._server.server_state.tasks

    async def start(
        self,
        *sockets: socket.socket,
        tls: SSLContext | None = None,
        protocol: Callable[[], asyncio.BaseProtocol] | None = None,
    ) -> None:
        """Serves connections to these sockets, which are its own from then on.

        Args:
            protocol: of a new connection, if it is not the application's at once; it may hand over to `protocol()`.
        """
        loop = asyncio.get_running_loop()
        make = protocol or self.protocol
        within: dict[str, Any] = {} if tls is None else {"ssl_handshake_timeout": 10, "ssl_shutdown_timeout": 5}
        for sock in sockets:
            patient = sock if isinstance(sock, PatientSocket) else PatientSocket(sock)
            server = await loop.create_server(make, sock=patient, backlog=self._config.backlog, ssl=tls, **within)
            self._servers.append(server)

    def protocol(self) -> asyncio.Protocol:
        """A protocol for one more connection."""
        return self._config.http_protocol_class(  # type: ignore[call-arg]
            config=self._config, server_state=self._server.server_state, app_state={}
        )

    async def refuse(self) -> None:
        """Takes no more requests; those that run go on. None gets lost that a Unix socket's peer has sent by now.

        The peer of a connection that were simply closed could have sent a request into it that nobody reads, and not
        know whether it was. So connections that wait to be taken are taken, and the idle ones are shut for reading:
        what was sent before is read and answered, what is sent later fails before a byte has left.
        """
        await _let_the_loop_turn()
        for server in self._servers:
            server.close()
        for connection in list(self._server.server_state.connections):
            if connection.cycle is None or connection.cycle.response_complete:  # type: ignore[union-attr]
                with contextlib.suppress(OSError):
                    connection.transport.get_extra_info("socket").shutdown(socket.SHUT_RD)
            else:
                connection.shutdown()
        await _let_the_loop_turn()

    async def stop(self, grace: float) -> None:
        """Takes no more connections, lets requests end for at most `grace` seconds, then cuts them off."""
        state = self._server.server_state
        await self.refuse()
        try:
            async with asyncio.timeout(grace):
                while state.tasks:
                    await asyncio.wait(state.tasks)
        except TimeoutError:
            for task in list(state.tasks):
                task.cancel()


async def _let_the_loop_turn() -> None:
    """Returns when the loop has taken, read and begun with all that was there: each is a turn or two of its."""
    for _ in range(8):
        await asyncio.sleep(0)


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Runs `main` on a new event loop: asyncio's own.

    uvloop answers a fifth faster, but libuv closes descriptors by number in every fork of the process, and takes a
    megabyte more of each sandbox.
    """

    async def entry() -> None:
        await main()

    asyncio.run(entry())
