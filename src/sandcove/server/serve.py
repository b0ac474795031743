"""What the server's process does: everything is put together here, serves, and is taken apart again."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from sandcove.asgi import Listener, prepare, run
from sandcove.home import Home
from sandcove.runtimes.local.runtime import LocalRuntime
from sandcove.runtimes.local.zygote import Zygote
from sandcove.server.app import Server
from sandcove.server.caller import LOCAL
from sandcove.server.config import Settings
from sandcove.server.lifecycle import Sandboxes
from sandcove.server.ports import Ports
from sandcove.server.preview.api import ApiConnection
from sandcove.server.preview.previews import Previews
from sandcove.server.reaper import reap, wait_until_idle
from sandcove.server.registry import Registry
from sandcove.trees import delete_tree

__all__ = ["serve"]

STOP_GRACE = 2.0
"""Seconds that calls have to end when the server stops."""

_log = logging.getLogger("sandcove.server")


def serve(home: Home, settings: Settings, zygote: Zygote, *, auto: bool, ready: Callable[[], None]) -> None:
    """Serves until it is told to stop.

    Args:
        zygote: spawned already.
        auto: stop also after a time without use.
        ready: called when the socket listens.
    """
    run(lambda: _serve(home, settings, zygote, auto=auto, ready=ready))


async def _serve(home: Home, settings: Settings, zygote: Zygote, *, auto: bool, ready: Callable[[], None]) -> None:
    runtime = LocalRuntime(home, zygote=zygote)
    registry = Registry(home.registry)
    sandboxes = Sandboxes(home, runtime, registry, settings.sleep_after)
    previews = Previews(sandboxes, Ports(registry), home)
    server = Server(sandboxes, home, settings, lambda: runtime.zygote.pid, previews)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop.set)
    try:
        await runtime.start()
        await sandboxes.restore()
        listener = Listener(prepare(server.app, ApiConnection))
        front = previews.serve_with(listener, LOCAL)
        await listener.start(_bind(home.server_socket), protocol=front)
        await previews.start()
        _log.info("serving on %s (pid %d)", home.server_socket, os.getpid())
        ready()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(reap(sandboxes)),
                group.create_task(asyncio.to_thread(_empty_trash, home.trash)),
            ]
            if auto and settings.idle_stop > 0:
                tasks.append(
                    group.create_task(_stop_when_idle(server, sandboxes, listener, previews.ports, settings.idle_stop))
                )
            await server.stop.wait()
            _log.info("stopping")
            for task in tasks:
                task.cancel()
        # New calls find no socket and start another server, which waits for this one's lock to be gone.
        home.server_socket.unlink(missing_ok=True)
        await listener.stop(0.1)
        await previews.close()
        await sandboxes.close()
        await listener.stop(STOP_GRACE)
    finally:
        await runtime.close()
        registry.close()
    _log.info("stopped")


async def _stop_when_idle(
    server: Server, sandboxes: Sandboxes, listener: Listener, ports: Ports, seconds: float
) -> None:
    await wait_until_idle(sandboxes, listener, ports, seconds)
    _log.info("unused for %g s", seconds)
    server.stop.set()


def _bind(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(2048)
    return listener


def _empty_trash(trash: Path) -> None:
    for entry in trash.iterdir():
        try:
            delete_tree(entry)
        except OSError as error:
            _log.warning("%s could not be deleted: %s", entry, error)
