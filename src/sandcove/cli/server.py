"""`serve`, `stop`, `logs` and `version`."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from argparse import Namespace
from collections import deque
from pathlib import Path

from sandcove._version import __version__
from sandcove.cli.sandboxes import client
from sandcove.errors import InvalidRequestError, ServiceUnavailableError
from sandcove.home import Home
from sandcove.wire import WIRE_VERSION
from sandcove.wire.codec import encode

__all__ = ["logs", "serve", "stop", "version"]

STOP_SECONDS = 30


def serve(options: Namespace) -> int:
    """`sandcove serve`: becomes the server."""
    # -P: the folder that it is started in may have a file named like a module of the standard library.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "sandcove.server", *options.rest])


def stop(_: Namespace) -> int:
    """`sandcove stop`: returns when the server is gone."""
    _only_local("is stopped there; `stop` stops the local one")
    server = client()
    try:
        server.stop()
    except ServiceUnavailableError as error:
        print("sandcove:", error.message, file=sys.stderr)
        return 0
    home = server.endpoint.home
    if home is not None and not _released(home.server_lock):
        raise ServiceUnavailableError(
            f"the server still runs {STOP_SECONDS} s after it was told to stop; its log is {home.server_log}"
        )
    return 0


def _only_local(why: str) -> None:
    if url := os.environ.get("SANDCOVE_URL"):
        raise InvalidRequestError(f"the server at {url}, by SANDCOVE_URL, {why}")


def _released(lock: Path) -> bool:
    """Waits until no process holds the lock, which a server does for as long as it runs."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True

    def too_long(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(STOP_SECONDS)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except TimeoutError:
        return False
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        os.close(descriptor)
    return True


def logs(options: Namespace) -> int:
    """`sandcove logs`."""
    _only_local("has its log on its own machine; `logs` shows the local one's")
    log = Home.default().server_log
    if not log.exists():
        raise InvalidRequestError(f"there is no log yet at {log}: no server has run")
    if options.follow:
        # tail waits for the kernel to tell it of new lines; nothing here could do it better.
        os.execvp("tail", ["tail", "-n", str(options.lines), "-F", str(log)])
    lines: list[bytes] = []
    # What was put aside when it had grown, the newest first.
    for part in (log, *sorted(log.parent.glob(f"{log.name}.[0-9]"))):
        with part.open("rb") as file:
            lines[:0] = deque(file, maxlen=options.lines - len(lines))
        if len(lines) == options.lines:
            break
    sys.stdout.buffer.writelines(lines)
    return 0


def version(options: Namespace) -> int:
    """`sandcove version`."""
    if options.json:
        print(encode({"version": __version__, "wire": WIRE_VERSION}).decode())
    else:
        print(f"sandcove {__version__}, wire version {WIRE_VERSION}")
    return 0
