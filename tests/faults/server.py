"""A server's process as a test sees it from outside: what it holds, and that nothing has harmed it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from tests.server.conftest import ask

__all__ = ["Watched"]

IDLE = 8
"""Connections that a server may keep for later."""


@dataclass
class Watched:
    """A server that runs in a folder, with its log in ``server.log`` there."""

    home: Path
    pid: int

    def memory(self) -> float:
        """MiB that it has ever had at once."""
        line = next(line for line in self._status() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def descendants(self) -> int:
        """Processes that belong to its folder."""
        return len(processes.of_home(self.home))

    def log(self) -> str:
        return (self.home / "server.log").read_text(errors="replace")

    @contextmanager
    def unharmed(self, megabytes: float) -> Iterator[None]:
        """In the block it grows by so much memory at most; after it, it answers, has no more descriptors than
        before but some idle connections to agents, and its log has no traceback of that time."""
        memory, descriptors, logged = self.memory(), self.descriptors(), len(self.log())
        yield
        assert ask(self.home / "server.sock", "GET", "/v1/server").status == 200
        until = time.monotonic() + 30
        while self.descriptors() > descriptors + IDLE:
            assert time.monotonic() < until, self._open()
            time.sleep(0.01)  # nothing tells when another process closes something
        told = self.log()[logged:]
        assert "Traceback" not in told and "internal error" not in told, told[-4000:]
        assert self.memory() - memory < megabytes

    def _status(self) -> list[str]:
        return Path(f"/proc/{self.pid}/status").read_text().splitlines()

    def _open(self) -> list[str]:
        found = []
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                found.append(os.readlink(f"/proc/{self.pid}/fd/{name}"))
            except OSError:
                pass
        return found
