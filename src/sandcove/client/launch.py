"""Starts the local server of the current user when none runs."""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandcove.errors import SandboxError, ServiceUnavailableError, error_from_wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandcove.home import Home

__all__ = ["ensure_server"]

READY_SECONDS = 60.0
MAX_ANSWER_BYTES = 64 * 1024


def ensure_server(home: Home) -> None:
    """Returns when a server listens on `home.server_socket`, and starts it if need be. Any number may call it at once.

    Raises:
        SandboxError: what the server said that keeps it from starting (`HostUnsupportedError`, as a rule).
        ServiceUnavailableError: it did not start, or did not get ready in time; names its log.
    """
    home.make()
    with _alone(home.path / "start.lock"):
        if not _listens(home.server_socket):
            _start(home)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds a lock among all processes of the user: of many scripts that begin at once, one starts the server."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
    return True


def _start(home: Home) -> None:
    if not sys.executable:
        raise ServiceUnavailableError(
            "the local server can't be started: this Python does not say where its own executable is; "
            "run `sandcove serve` and try again"
        )
    ready, told = os.pipe2(os.O_CLOEXEC)
    try:
        log = os.open(home.server_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            # -P: a script's folder may have a file named like a module of the standard library.
            server = subprocess.Popen(
                [sys.executable, "-P", "-m", "sandcove.server", "--auto", "--ready-fd", str(told)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(told,),
                start_new_session=True,
                env={**os.environ, "SANDCOVE_HOME": str(home.path)},
            )
        except OSError as error:
            raise ServiceUnavailableError(f"the local server can't be started: {sys.executable}: {error}") from error
        finally:
            os.close(log)
            os.close(told)
        # It outlives this process; without this, Python would warn that its end was not waited for.
        server.returncode = 0
        answer = _first_line(ready)
    finally:
        os.close(ready)
    if answer.get("ready") is True:
        return
    if "error" in answer:
        raise _as_error(answer)
    raise ServiceUnavailableError(f"the local server ended while it started; its log says why: {home.server_log}")


def _first_line(pipe: int) -> dict[str, Any]:
    """The JSON object of the first line from `pipe`, or an empty one when it ends without."""
    deadline = time.monotonic() + READY_SECONDS
    line = b""
    while b"\n" not in line and len(line) < MAX_ANSWER_BYTES:
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise ServiceUnavailableError(f"the local server was not ready after {READY_SECONDS:.0f} s; try again")
        piece = os.read(pipe, 4096)
        if not piece:
            break
        line += piece
    try:
        answer = json.loads(line)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _as_error(answer: dict[str, Any]) -> SandboxError:
    status = answer.get("status")
    return error_from_wire(status if isinstance(status, int) else 500, answer)
