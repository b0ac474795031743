"""Python kernels for tests: warm, forked from `zygote.py`, and cold, from the archive."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from sandcove.kernels.python.archive import COLD, archive
from tests.kernels.driver import Driver

__all__ = ["Cold", "Warm", "Zygote", "environment"]


def environment(**more: str) -> dict[str, str]:
    """What a context's environment has at least."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8", **more}


class Zygote:
    """A warm process; it ends with the test's end of its socket."""

    def __init__(self, python: str = sys.executable) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = str(Path(__file__).with_name("zygote.py"))
        with theirs:
            self.process = subprocess.Popen([python, program, str(theirs.fileno())], pass_fds=[theirs.fileno()])
        self.state: dict[str, Any] = json.loads(self.control.recv(1 << 16))

    def ask(self, fds: Sequence[int], cwd: Path, env: Mapping[str, str], **more: Any) -> int:
        request = json.dumps({"cwd": str(cwd), "env": dict(env), **more})
        socket.send_fds(self.control, [request.encode()], list(fds))
        return int(self.control.recv(64))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.control.close()
        self.process.wait()


class Warm(Driver):
    def __init__(self, zygote: Zygote, *, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self._zygote = zygote
        super().__init__((), cwd=cwd, env=environment() if env is None else env)

    def _start(self, argv: Sequence[str], fds: Sequence[int], cwd: Path, env: Mapping[str, str]) -> int:
        return self._zygote.ask(fds, cwd, env)


class Cold(Driver):
    def __init__(self, python: str, *, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        super().__init__((python, *COLD), cwd=cwd, env=environment() if env is None else env)

    def _start(self, argv: Sequence[str], fds: Sequence[int], cwd: Path, env: Mapping[str, str]) -> int:
        made = os.memfd_create("kernel", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(made, archive())
        fcntl.fcntl(made, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        high = fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, 20)
        os.close(made)
        try:
            return super()._start(argv, [*fds, high], cwd, env)
        finally:
            os.close(high)
