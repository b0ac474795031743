"""The server's process, ``python -m sandcove.server``: `sandcove serve` is it, the SDK starts it with ``--auto``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from sandcove.asgi import Listener, prepare, run
from sandcove.errors import ConflictError, SandboxError, error_to_wire
from sandcove.home import Home
from sandcove.runtimes.local.runtime import LocalRuntime
from sandcove.server.app import Server
from sandcove.server.config import SETTINGS, Settings, load
from sandcove.server.lifecycle import Sandboxes
from sandcove.server.reaper import reap, wait_until_idle
from sandcove.server.registry import Registry
from sandcove.trees import delete_tree

LOCK_WAIT = 10.0
"""Seconds that a server which was started on demand waits for the one before it to end."""
STOP_GRACE = 2.0
"""Seconds that calls have to end when the server stops."""

_log = logging.getLogger("sandcove.server")


def main() -> int:
    """Serves until it is told to stop; 0 then, 1 when it could not start."""
    options = _arguments()
    level = logging.INFO
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        if options.home:
            os.environ["SANDCOVE_HOME"] = options.home
        settings = load(vars(options))
        home = Home.default()
        home.make()
        with _only_one(home, LOCK_WAIT if options.auto else 0):
            run(lambda: _serve(home, settings, auto=options.auto, ready_fd=options.ready_fd))
    except SandboxError as error:
        _tell(options.ready_fd, {**error_to_wire(error), "status": error.status})
        sys.stderr.write(f"sandcove serve: {error}\n")
        return 1
    except OSError as error:
        _tell(options.ready_fd, error_to_wire(SandboxError(f"the server can't start: {error}")))
        sys.stderr.write(f"sandcove serve: {error}\n")
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("sandcove serve", description="Run the local server in the foreground.")
    parser.add_argument("--home", help="the folder for everything it keeps (SANDCOVE_HOME)")
    parser.add_argument("--auto", action="store_true", help="stop after a time without use")
    parser.add_argument("--ready-fd", type=int, default=-1, help=argparse.SUPPRESS)
    for setting in SETTINGS:
        help_text = f"{setting.help} ({setting.variable}; default {setting.default:g})"
        parser.add_argument(setting.flag, type=float, metavar="SECONDS", help=help_text)
    return parser.parse_args()


@contextlib.contextmanager
def _only_one(home: Home, wait: float) -> Iterator[None]:
    """Holds the home's lock; waits at most `wait` seconds for a server that is about to end."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    lock = os.open(home.server_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if wait:
            signal.signal(signal.SIGALRM, give_up)
            signal.setitimer(signal.ITIMER_REAL, wait)
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        signal.setitimer(signal.ITIMER_REAL, 0)
    except (BlockingIOError, TimeoutError):
        os.close(lock)
        raise ConflictError(f"a server runs for {home.path} already; stop it with `sandcove stop`") from None
    try:
        yield
    finally:
        os.close(lock)


async def _serve(home: Home, settings: Settings, *, auto: bool, ready_fd: int) -> None:
    runtime = LocalRuntime(home)
    registry = Registry(home.registry)
    sandboxes = Sandboxes(home, runtime, registry, settings.sleep_after)
    server = Server(sandboxes, home, settings, lambda: runtime.zygote.pid)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop.set)
    try:
        await runtime.start()
        await sandboxes.restore()
        listener = Listener(prepare(server.app))
        await listener.start(_bind(home.server_socket))
        _log.info("serving on %s (pid %d)", home.server_socket, os.getpid())
        _tell(ready_fd, {"ready": True})
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(reap(sandboxes, home)),
                group.create_task(asyncio.to_thread(_empty_trash, home.trash)),
            ]
            if auto and settings.idle_stop > 0:
                tasks.append(group.create_task(_stop_when_idle(server, sandboxes, listener, settings.idle_stop)))
            await server.stop.wait()
            _log.info("stopping")
            for task in tasks:
                task.cancel()
        # New calls find no socket and start another server, which waits for this one's lock to be gone.
        home.server_socket.unlink(missing_ok=True)
        await listener.stop(0.1)
        await sandboxes.close()
        await listener.stop(STOP_GRACE)
    finally:
        await runtime.close()
        registry.close()
    _log.info("stopped")


async def _stop_when_idle(server: Server, sandboxes: Sandboxes, listener: Listener, seconds: float) -> None:
    await wait_until_idle(sandboxes, listener, seconds)
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


def _tell(fd: int, message: dict[str, object]) -> None:
    if fd >= 0:
        with contextlib.suppress(OSError):
            os.write(fd, json.dumps(message).encode() + b"\n")
            os.close(fd)


if __name__ == "__main__":
    sys.exit(main())
