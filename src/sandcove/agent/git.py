"""Git as a program among user code: never through a shell, never waiting for input, nothing of it left when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from sandcove.agent.init import Exit, Init
from sandcove.agent.output import Output
from sandcove.agent.progress import GitWords, Progress
from sandcove.errors import ContainerNotReadyError, GitError, SandboxError
from sandcove.wire.repository import SCHEMES, Credentials

__all__ = ["PRIVATE", "SYSTEM_PATH", "Done", "Git", "Secret", "Settings", "find_git", "plain", "private"]

PRIVATE = "/run"
"""Where a git that has credentials keeps its own files: see `Init.start`, ``own_run``."""
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_SECRET_FD = 9
_STDOUT_KEPT = 1024 * 1024
_SIGKILL = 9

_CONFIG = {
    # Nothing goes on in the background after git has answered, and no other repository is asked for anything.
    "gc.auto": "0",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "fetch.unpackLimit": "1",
    "transfer.unpackLimit": "1",
    "advice.detachedHead": "false",
}
_OTHER_REPOSITORY = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)
_ENV = {
    "GIT_TERMINAL_PROMPT": "0",
    # Its words are read: they must not be translated.
    "LC_ALL": "C.UTF-8",
    "LANGUAGE": "",
}


class Secret:
    """Credentials in a file in memory that has no name, as git's credential helpers tell them.

    The helper that git is told of reads it by the descriptor that git inherits. Git asks it for one scheme, host and
    port alone, so that a redirect leads away from them.
    """

    def __init__(self, credentials: Credentials) -> None:
        self.fd = os.memfd_create("git", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(self.fd, f"username={credentials.username}\npassword={credentials.password}\n".encode())
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)

    def close(self) -> None:
        os.close(self.fd)


class Settings(NamedTuple):
    """How git is run: its environment, and its configuration, which goes before the user's own."""

    env: dict[str, str]
    config: dict[str, str]


def plain(env: Mapping[str, str]) -> Settings:
    """Without credentials: the user's own configuration applies."""
    kept = {name: value for name, value in env.items() if name not in _OTHER_REPOSITORY}
    return Settings({**kept, **_ENV, "GIT_ALLOW_PROTOCOL": ":".join(SCHEMES)}, _CONFIG)


def private(base: Mapping[str, str], origin: str, objects: str) -> Settings:
    """With credentials: nothing that user code could have configured is heeded.

    Args:
        base: the environment that the agent itself gives, not one that a session has changed.
        origin: whom the credentials are for, as ``https://host:port``.
        objects: where the objects go.
    """
    env = {
        **{name: value for name, value in base.items() if not name.startswith("GIT_")},
        **_ENV,
        "PATH": SYSTEM_PATH,
        "HOME": PRIVATE,
        "XDG_CONFIG_HOME": PRIVATE,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_OBJECT_DIRECTORY": objects,
        "GIT_ALLOW_PROTOCOL": "http:https",
    }
    config = {
        **_CONFIG,
        "core.hooksPath": "/dev/null",
        "core.fsmonitor": "false",
        "core.askPass": "",
        # The empty one takes back all helpers that were named before it.
        "credential.helper": "",
        f"credential.{origin}.helper": f'!f() {{ if test "$1" = get; then cat /proc/self/fd/{_SECRET_FD}; fi; }}; f',
    }
    return Settings(env, config)


def find_git(path: str) -> str | None:
    """The git that this PATH leads to."""
    for folder in path.split(":"):
        program = os.path.join(folder, "git")
        if folder.startswith("/") and os.path.isfile(program) and os.access(program, os.X_OK):
            return program
    return None


class Done(NamedTuple):
    """A git that ended, and what it said; standard error without progress."""

    exit_code: int
    stdout: str
    stderr: str


class Git:
    """Runs git for one repository.

    Args:
        init: the PID namespace that it runs in.
        program: git's path.
        settings: see `plain` and `private`.
        folder: the folder in which ``.git`` lies.
        secret: for the commands that are given it.
        on_progress: is told all progress.
    """

    def __init__(
        self,
        init: Init,
        program: str,
        settings: Settings,
        folder: str,
        *,
        secret: Secret | None,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._init = init
        self._git = [program]
        for name, value in settings.config.items():
            self._git += ["-c", f"{name}={value}"]
        self._env = {**settings.env, "GIT_DIR": f"{folder}/.git"}
        self._folder = folder
        self._secret = secret
        self._on_progress = on_progress

    async def __call__(self, *arguments: str, remote: bool = False) -> Done:
        """Runs it to its end; when this is cancelled, it is killed with all its children.

        Args:
            remote: it speaks to the remote, and so is given the secret.
        """
        return await self.run([*self._git, *arguments], remote=remote)

    async def run(self, argv: list[str], *, remote: bool = False) -> Done:
        """The same for any program."""
        pid, exit_, output = await self._start(argv, remote)
        words = GitWords()
        stdout = b""
        try:
            async for stream, chunk in output.chunks():
                if stream == "stdout":
                    stdout += chunk[: _STDOUT_KEPT - len(stdout)]
                    continue
                for progress in words.feed(chunk):
                    self._on_progress(progress)
            code = (await exit_).exit_code
        finally:
            await self._end(pid, exit_, output)
        return Done(code, stdout.decode("utf-8", "replace"), words.text())

    async def _start(self, argv: list[str], remote: bool) -> tuple[int, asyncio.Future[Exit], Output]:
        stdout, stdout_write = os.pipe2(os.O_CLOEXEC)
        stderr, stderr_write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(stdout, False)
        os.set_blocking(stderr, False)
        output = Output(stdout, stderr, keep=None)
        fds = {1: stdout_write, 2: stderr_write}
        if remote and self._secret is not None:
            fds[_SECRET_FD] = self._secret.fd
        spawning = asyncio.ensure_future(self._init.spawn(argv, env=self._env, cwd=self._folder, fds=fds, adopts=True))
        try:
            pid, exit_ = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            # It may have started: whoever starts it ends it.
            with contextlib.suppress(SandboxError):
                await self._end(*await spawning, output)
            raise
        except ContainerNotReadyError:
            output.abandon()
            raise
        except SandboxError as error:
            output.abandon()
            raise GitError(f"git could not be started: {error}", stderr=f"{error}\n", exitCode=126) from None
        finally:
            os.close(stdout_write)
            os.close(stderr_write)
        exit_.add_done_callback(lambda _: output.finish())
        return pid, exit_, output

    async def _end(self, pid: int, exit_: asyncio.Future[Exit], output: Output) -> None:
        if not output.ended:
            output.abandon()
        if not exit_.done():
            with contextlib.suppress(SandboxError):
                await self._init.signal(pid, _SIGKILL)
                await exit_
