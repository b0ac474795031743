"""The server's process, ``python -m sandcove.server``: `sandcove serve` is it, the SDK starts it with ``--auto``."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import sys
from collections.abc import Iterator

from sandcove import linux
from sandcove.errors import ConflictError, SandboxError, error_to_wire
from sandcove.home import Home
from sandcove.runtimes.local.zygote import Zygote
from sandcove.server.config import CONFIG, SETTINGS, load
from sandcove.server.logs import start_logging

LOCK_WAIT = 40.0
"""Seconds that a server which was started on demand waits for the one before it to end, with its `stop_grace`."""


def main() -> int:
    """Serves until it is told to stop; 0 then, 1 when it could not start."""
    options = _arguments()
    try:
        if options.home:
            os.environ["SANDCOVE_HOME"] = options.home
        settings = load(vars(options))
        home = Home.default()
        start_logging(settings.log_format, home.server_log)
        home.make()
        with _only_one(home, LOCK_WAIT if options.auto else 0):
            # It imports the agent side by side with what this process imports now.
            zygote = Zygote(home.path)
            zygote.spawn()
            linux.raise_open_files()
            from sandcove.server.serve import serve

            def ready(addresses: list[str]) -> None:
                _tell(options.ready_fd, {"ready": True, "addresses": addresses})

            serve(home, settings, zygote, auto=options.auto, ready=ready)
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
    parser.add_argument("--config", metavar="FILE", help=f"a TOML file with settings ({CONFIG})")
    for setting in SETTINGS:
        default = f"; default {setting.shown}" if setting.shown else ""
        help_text = f"{setting.help} ({setting.variable}{default})".replace("%", "%%")
        parser.add_argument(setting.flag, metavar=setting.kind.metavar, help=help_text)
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


def _tell(fd: int, message: dict[str, object]) -> None:
    if fd >= 0:
        with contextlib.suppress(OSError):
            os.write(fd, json.dumps(message).encode() + b"\n")
            os.close(fd)


if __name__ == "__main__":
    sys.exit(main())
