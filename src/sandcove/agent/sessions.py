"""A sandbox's sessions by name. Each has a shell; an isolated one also a PID namespace of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from sandcove.agent.confines import Confines
from sandcove.agent.files import text
from sandcove.agent.init import Init
from sandcove.agent.inputs import Inputs
from sandcove.agent.memory import Memory, SessionMemory
from sandcove.agent.shell import Command, Shell
from sandcove.errors import (
    ConflictError,
    InvalidRequestError,
    PathNotFoundError,
    SandboxError,
    SessionAlreadyExistsError,
    SessionNotFoundError,
)
from sandcove.wire.clock import timestamp
from sandcove.wire.confine import Confine
from sandcove.wire.models import DEFAULT_SESSION, WORKSPACE, CreateSession, SessionInfo
from sandcove.wire.names import check_env, check_path, check_session_id

__all__ = ["Session", "Sessions"]

HOME = "/root"
RUN = Path("/run/sandcove")
STATE = Path("/var/lib/sandcove/sessions")
MOST = 256
"""Sessions of a sandbox: each has a shell and an environment."""
REST_GRACE = 2.0
"""Seconds that processes have to end by themselves before their sandbox sleeps."""


class Session:
    """A name, a shell, and the folder that relative paths start from."""

    def __init__(
        self, info: SessionInfo, env: dict[str, str], init: Init, *, own_init: bool, run: Path, state: Path
    ) -> None:
        self.info = info
        self.init = init
        self._own_init = own_init
        self._shell = Shell(init, run=run, state=state, env=env, cwd=info.cwd)

    @property
    def deleted(self) -> bool:
        """Nothing starts in it any more."""
        return self._shell.ended

    def check(self) -> None:
        """Raises `SessionNotFoundError` when it is deleted."""
        self._shell.check()

    @property
    def cwd(self) -> str:
        return self._shell.cwd

    async def start(self) -> None:
        """Starts the shell ahead of the first command."""
        await self._shell.start()

    async def run(
        self,
        command: str | list[str],
        *,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        stdin: bytes | Path | None = None,
        keep: int | None = None,
        wanted: Callable[[], Awaitable[bool]] | None = None,
    ) -> Command:
        """Starts a command in the shell, when its turn has come; see `Shell.run` and `Output`."""
        if cwd is not None:
            cwd = self.folder(cwd)
        return await self._shell.run(command, cwd=cwd, env=env, stdin=stdin, keep=keep, wanted=wanted)

    async def environment(self) -> dict[str, str]:
        """The variables that a program has which starts in the session now."""
        return await self._shell.environment()

    def folder(self, path: str | None) -> str:
        """The session's folder, or the one at `path`.

        Raises:
            PathNotFoundError: none is there.
        """
        if path is None:
            return self.cwd
        path = self.resolve(path)
        if not os.path.isdir(path):
            raise PathNotFoundError(f"cwd {path} is no folder of the sandbox; make it with mkdir first")
        return path

    def resolve(self, path: str) -> str:
        """The absolute form of a path: ``~`` is the home folder, a relative one starts in the session's."""
        if path == "~" or path.startswith("~/"):
            path = HOME + path[1:]
        return os.path.normpath(path) if path.startswith("/") else os.path.join(self.cwd, path)

    def set_env(self, env: dict[str, str | None]) -> None:
        self._shell.set_env(env)

    async def keep(self) -> None:
        """Writes the shell's state to where it outlasts the room."""
        await self._shell.settle()
        self._shell.keep()

    def delete(self) -> None:
        """From here on nothing starts in it, and a session of the same name has nothing to do with this one."""
        self._shell.forget()

    async def end(self) -> None:
        """Ends all that runs in it, after `delete`."""
        await self._shell.end()
        if self._own_init:
            await self.init.end()


class Sessions:
    """All sessions; restored from `memory`, and each change written to it.

    Args:
        base_env: what every shell has before the sandbox's own environment.
        init: the PID namespace that sessions without isolation share with background processes.
        run, state: where shells keep what lasts for a command, and what lasts.
        confines: what user code may use.

    Attributes:
        confines: that.
        inputs: standard inputs that wait for their command.
        memory: what all this is written to.
    """

    def __init__(
        self,
        memory: Memory,
        base_env: Mapping[str, str],
        init: Init,
        *,
        run: Path = RUN,
        state: Path = STATE,
        confines: Confines,
    ) -> None:
        self.memory = memory
        self.confines = confines
        self._base_env = dict(base_env)
        self._init = init
        self._run = run
        self._state = state
        self.inputs = Inputs(state.parent / "stdin")
        self._live: dict[str, Session] = {}
        self._numbers = 0

    def get(self, name: str) -> Session:
        """The session; the default one always exists.

        Raises:
            SessionNotFoundError: no session has this name.
        """
        if (session := self._live.get(name)) is not None:
            return session
        remembered = self.memory.sessions.get(name)
        if remembered is not None:
            return self._open(remembered.info, remembered.env)
        if name == DEFAULT_SESSION:
            return self._open(SessionInfo(id=name, cwd=WORKSPACE, isolation=False, created_at=timestamp()), {})
        raise SessionNotFoundError(
            f"session {name[:128]!r} does not exist; create it with create_session",
            availableSessions=self.names(),
        )

    def create(self, request: CreateSession) -> Session:
        """Creates a session and writes it down.

        Raises:
            SessionAlreadyExistsError, ConflictError, InvalidRequestError, PathNotFoundError.
        """
        check_session_id(request.id)
        check_env(request.env or {})
        check_path(request.cwd)
        if request.id in self._live or request.id in self.memory.sessions or request.id == DEFAULT_SESSION:
            raise SessionAlreadyExistsError(f"session {request.id!r} exists; use get_session, or delete it first")
        if not request.cwd.startswith("/"):
            raise InvalidRequestError(f"cwd {request.cwd!r} of a session must be an absolute path, such as /workspace")
        if not os.path.isdir(request.cwd):
            raise PathNotFoundError(f"cwd {request.cwd} is no folder of the sandbox; make it with mkdir first")
        if len(self._live.keys() | self.memory.sessions.keys()) >= MOST:
            raise ConflictError(f"there are {MOST} sessions, which is the most; delete one first")
        info = SessionInfo(id=request.id, cwd=request.cwd, isolation=request.isolation, created_at=timestamp())
        session = self._open(info, request.env or {})
        self.memory.sessions[request.id] = SessionMemory(info, dict(request.env or {}))
        self.memory.save()
        return session

    def take(self, name: str) -> Session:
        """Forgets a session and gives it to the caller to end. The default one begins anew with its next use."""
        session = self.get(name)
        self.memory.sessions.pop(name, None)
        self.memory.save()
        self._live.pop(name, None)
        session.delete()
        return session

    async def rest(self) -> None:
        """Before sleep: asks all that runs to end, waits a little, and keeps what the shells know."""
        await asyncio.gather(*(session.keep() for session in self._live.values()))
        inits = {session.init for session in self._live.values()} | {self._init}
        await asyncio.gather(*(init.ask_to_end(REST_GRACE) for init in inits))

    async def confine(self, confine: Confine) -> None:
        """Puts other limits in force."""
        self.confines.confine = confine
        for init in {session.init for session in self._live.values()} | {self._init}:
            await init.confine()

    def names(self) -> list[str]:
        return sorted({DEFAULT_SESSION, *self._live, *self.memory.sessions})

    def details(self) -> list[SessionInfo]:
        return [
            SessionInfo(id=s.info.id, cwd=text(s.cwd), isolation=s.info.isolation, created_at=s.info.created_at)
            for s in map(self.get, self.names())
        ]

    def set_env(self, env: dict[str, str | None], name: str | None) -> None:
        """For all that starts afterwards, in one session or everywhere."""
        check_env(env)
        if name is not None:
            session = self.get(name)
            remembered = self.memory.sessions.get(name)
            check_env({**(remembered.env if remembered is not None else {}), **env})
            session.set_env(env)
            if remembered is not None:
                _apply(env, remembered.env)
            self.memory.save()
            return
        check_env({**self.memory.env, **env})
        _apply(env, self.memory.env)
        self.memory.save()
        for each in self.names():
            self.get(each).set_env(env)

    def _open(self, info: SessionInfo, env: Mapping[str, str]) -> Session:
        self._numbers += 1
        own_init = info.isolation
        init = self._init
        if own_init:
            try:
                init = Init.start(own_mounts=True, confines=self.confines)
            except OSError as error:
                raise SandboxError(f"the session can't be started: {error.strerror}; end some processes") from None
            init.attach()
        merged = {**self._base_env, **self.memory.env, **env}
        run, state = self._run / str(self._numbers), self._state / info.id
        session = Session(info, merged, init, own_init=own_init, run=run, state=state)
        self._live[info.id] = session
        return session


def _apply(changes: Mapping[str, str | None], env: dict[str, str]) -> None:
    for name, value in changes.items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
