"""A sandbox's background processes by id."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import time
from collections.abc import Mapping

from sandcove.agent.log import Log, LogSpace
from sandcove.agent.process import Process
from sandcove.agent.programs import find_program
from sandcove.agent.sessions import Session
from sandcove.errors import (
    InvalidRequestError,
    PathNotFoundError,
    ProcessAlreadyExistsError,
    ProcessNotFoundError,
    SandboxError,
)
from sandcove.wire.models import StartProcess
from sandcove.wire.names import check_command, check_env, check_path, check_process_id, check_timeout

__all__ = ["Processes"]

MOST_ENDED = 256
"""Ended processes that are remembered with their logs; the one that ended first goes first."""
PARTING = 10.0
"""Seconds for which one with auto-cleanup can still be followed after its end: its starter may just be about to."""
MOST_PARTING = 64
STARTS_AT_ONCE = 16
"""Each has six descriptors until the program runs."""
LONGEST_ARGUMENT = 128 * 1024 - 1
"""The kernel's MAX_ARG_STRLEN without its NUL."""
BASH = "/bin/bash"


class Processes:
    """All of them.

    Args:
        group: owns the task that waits for each.

    Attributes:
        log_space: what their logs may have together.
    """

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._all: dict[str, Process] = {}
        self._starting: set[str] = set()
        self._slots = asyncio.Semaphore(STARTS_AT_ONCE)
        self._parting: dict[str, Process] = {}
        self.log_space = LogSpace()
        self.log_space.free_some = self._forget_one

    async def start(self, session: Session, request: StartProcess) -> Process:
        """Starts a process in a session: with its folder and its variables, beside what its shell does.

        Raises:
            InvalidRequestError, PathNotFoundError, ProcessAlreadyExistsError, SandboxError.
        """
        options = request.options
        check_command(request.command)
        check_env(options.env or {})
        check_timeout(options.timeout)
        cwd = session.folder(None if options.cwd is None else check_path(options.cwd))
        id_ = options.process_id
        if id_ is None:
            id_ = f"proc_{time.time_ns() // 1_000_000}_{secrets.token_hex(6)}"
        elif check_process_id(id_) in self._all or id_ in self._starting:
            raise ProcessAlreadyExistsError(
                f"a process with id {id_!r} exists; choose another id, or clean it up first"
            )
        self._starting.add(id_)
        try:
            env = {**await session.environment(), **(options.env or {})}
            if options.cwd is not None:
                env["PWD"] = cwd
            argv = _arguments(request.command, env, cwd)
            async with self._slots:
                session.check()
                process = await Process.start(
                    id_,
                    argv,
                    shown=request.command if isinstance(request.command, str) else shlex.join(request.command),
                    session_id=request.session_id,
                    init=session.init,
                    env=env,
                    cwd=cwd,
                    log=Log(space=self.log_space),
                )
        except SandboxError:
            session.check()  # it could not start because the session was deleted meanwhile: that is what counts
            raise
        finally:
            self._starting.discard(id_)
        process.auto_cleanup = options.auto_cleanup
        self._all[id_] = process
        self._group.create_task(self._supervise(process, options.timeout))
        if session.deleted:
            # While the program started: whoever deleted the session has not seen it.
            await process.kill()
            self._forget(process)
            session.check()
        return process

    def get(self, id: str) -> Process:
        """The process.

        Raises:
            ProcessNotFoundError: none has this id.
        """
        if (process := self._all.get(id)) is None:
            raise ProcessNotFoundError(
                f"process {id[:128]!r} does not exist: it was never started, or is cleaned up, or the sandbox slept"
            )
        return process

    def follow(self, id: str) -> Process:
        """The process, or one that has just ended and cleaned up after itself; raises as `get` does."""
        if id not in self._all and (process := self._parting.get(id)) is not None:
            return process
        return self.get(id)

    def of(self, session_id: str | None) -> list[Process]:
        """Those of one session, or all; in the order of their start."""
        return [p for p in self._all.values() if session_id in (None, p.session_id)]

    @property
    def running(self) -> int:
        """How many there are that have not ended, those that are just starting too."""
        return len(self._starting) + sum(not process.exit.done() for process in self._all.values())

    async def kill_all(self, session_id: str | None) -> int:
        """Kills those that run; gives how many that were."""
        running = [process for process in self.of(session_id) if not process.exit.done()]
        await asyncio.gather(*(process.kill() for process in running))
        return len(running)

    def clean_up(self, session_id: str | None) -> int:
        """Forgets those that have ended, and their logs; gives how many that were."""
        ended = [process for process in self.of(session_id) if process.exit.done()]
        for process in ended:
            self._forget(process)
        return len(ended)

    async def _supervise(self, process: Process, timeout: int | None) -> None:
        await process.run(None if timeout is None else timeout / 1000)
        if process.auto_cleanup:
            self._part_from(process)
            return
        ended = [each for each in self._all.values() if each.exit.done()]
        for each in ended[: max(0, len(ended) - MOST_ENDED)]:
            self._forget(each)

    def _forget_one(self) -> bool:
        """Forgets the process that ended first of those that have printed something, to have its log's space."""
        for process in [*self._parting.values(), *self._all.values()]:
            if process.exit.done() and process.log.end:
                self._forget(process)
                return True
        return False

    def _forget(self, process: Process) -> None:
        for known in (self._all, self._parting):
            if known.get(process.id) is process:
                del known[process.id]
        process.log.delete()

    def _part_from(self, process: Process) -> None:
        if self._all.get(process.id) is not process:
            return
        del self._all[process.id]
        if (namesake := self._parting.pop(process.id, None)) is not None:
            self._forget(namesake)
        self._parting[process.id] = process
        for each in list(self._parting.values())[:-MOST_PARTING]:
            self._forget(each)
        asyncio.get_running_loop().call_later(PARTING, self._forget, process)


def _arguments(command: str | list[str], env: Mapping[str, str], cwd: str) -> list[str]:
    """The program's path and its arguments: of bash for a text, of the program itself for a list."""
    argv = [BASH, "-c", command] if isinstance(command, str) else [_found(command[0], env, cwd), *command[1:]]
    for argument in argv:
        if len(os.fsencode(argument)) > LONGEST_ARGUMENT:
            raise InvalidRequestError(
                f"an argument is longer than {LONGEST_ARGUMENT:,} bytes, the most that a program can be started with; "
                "write it to a file and give that"
            )
    return argv


def _found(program: str, env: Mapping[str, str], cwd: str) -> str:
    if (place := find_program(program, env, cwd)) is None:
        raise PathNotFoundError(
            f"the program {program[:200]!r} is not there, or not executable, in the sandbox; "
            f"PATH is {env.get('PATH', '')[:500]!r}"
        )
    return place
