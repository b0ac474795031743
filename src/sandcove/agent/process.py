"""A background process: a program with a log, a pipe to its standard input, signals and an end.

It belongs to nobody's request: who started it may leave, and who asks for it later finds all of its log.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence

from sandcove.agent.init import Exit, Init
from sandcove.agent.log import Log
from sandcove.agent.output import Output, Stream
from sandcove.agent.stdin import Stdin
from sandcove.errors import ContainerNotReadyError, SandboxError
from sandcove.wire.clock import timestamp
from sandcove.wire.models import ProcessInfo, ProcessStatus

__all__ = ["KILL_GRACE", "Process"]

KILL_GRACE = 2.0
"""Seconds that a process has to end after SIGTERM before SIGKILL ends it."""
_NOTHING = 0
"""The signal that only asks who is there."""
_LOOK_AGAIN = 0.02


class _Logged(Output):
    """Output that goes to a log, whether somebody reads that or not."""

    def __init__(self, stdout: int, stderr: int, log: Log) -> None:
        self._log = log
        super().__init__(stdout, stderr, keep=None)

    def _store(self, stream: Stream, data: bytes) -> None:
        self._log.append(stream, data)


class Process:
    """A process that `start` started.

    Attributes:
        id: its name for callers.
        session_id: the session that it was started in.
        log: what it prints.
        stdin: the pipe that it reads.
        exit: done when it has ended.
        auto_cleanup: nobody wants to know of it when it has ended.
    """

    def __init__(
        self, id: str, *, command: str, session_id: str, init: Init, pid: int, exit: asyncio.Future[Exit], log: Log
    ) -> None:
        self.id = id
        self.session_id = session_id
        self.log = log
        self.exit = exit
        self.auto_cleanup = False
        self.stdin: Stdin
        self._command = command
        self._init = init
        self._pid = pid
        self._output: Output
        self._started = timestamp()
        self._ended: str | None = None
        self._killed = False
        self._timed_out = False
        self._oom_kills = init.confines.oom_kills()
        self._out_of_memory = False

    @classmethod
    async def start(
        cls,
        id: str,
        argv: Sequence[str],
        *,
        shown: str,
        session_id: str,
        init: Init,
        env: Mapping[str, str],
        cwd: str,
        log: Log,
    ) -> Process:
        """Starts a program.

        Args:
            argv: the program's absolute path, then its arguments.
            shown: the command as callers see it.
            log: for what it prints.

        Raises:
            SandboxError: it could not be started; the message has the system's reason.
        """
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            fds = {}
            kept = []
            for number in (0, 1, 2):
                try:
                    read, write = os.pipe2(os.O_CLOEXEC)
                except OSError as error:
                    raise SandboxError(
                        f"the process can't be started: {error.strerror}; end others, or clean up those that have ended"
                    ) from None
                fds[number], our_end = (read, write) if number == 0 else (write, read)
                theirs.callback(os.close, fds[number])
                ours.callback(os.close, our_end)
                os.set_blocking(our_end, False)
                kept.append(our_end)
            pid, exit_ = await init.spawn(argv, env=dict(env), cwd=cwd, fds=fds)
            ours.pop_all()
        process = cls(id, command=shown, session_id=session_id, init=init, pid=pid, exit=exit_, log=log)
        process.stdin = Stdin(kept[0], exit_)
        process._output = _Logged(kept[1], kept[2], process.log)
        exit_.add_done_callback(process._on_exit)
        return process

    @property
    def status(self) -> ProcessStatus:
        if not self.exit.done():
            return "running"
        if self._killed or self.exit.result().signal is not None:
            return "killed"
        return "completed" if self.exit.result().exit_code == 0 else "failed"

    def info(self) -> ProcessInfo:
        """What callers are told of it."""
        exit_ = self.exit.result() if self.exit.done() else None
        return ProcessInfo(
            id=self.id,
            pid=self._pid,
            command=self._command,
            status=self.status,
            start_time=self._started,
            session_id=self.session_id,
            end_time=self._ended,
            exit_code=exit_.exit_code if exit_ else None,
            signal=_name(exit_.signal) if exit_ and exit_.signal is not None else None,
            timed_out=self._timed_out,
            out_of_memory=self._out_of_memory,
        )

    async def signal(self, number: int) -> int:
        """Signals it with all that came from it; gives how many that were. None when it has ended."""
        if self.exit.done():
            return 0
        try:
            return await self._init.signal(self._pid, number)
        except ContainerNotReadyError:
            # Its session is being deleted: it has ended with that one's processes, and is told so at once.
            await asyncio.wait({self.exit})
            return 0

    async def kill(self) -> None:
        """Asks it to end with all its children, makes them end after `KILL_GRACE`, and returns when they have."""
        if self.exit.done():
            return
        began = time.monotonic()
        # One that ends by itself just now has not been killed.
        if await self.signal(signal.SIGTERM):
            self._killed = True
        # One that is stopped can't take the signal.
        await self.signal(signal.SIGCONT)
        await asyncio.wait({self.exit}, timeout=KILL_GRACE)
        # Its children may take longer. No other process gets its number while one of them is in its session.
        with contextlib.suppress(ContainerNotReadyError):
            if not await self._all_gone(began + KILL_GRACE):
                await self._init.signal(self._pid, signal.SIGKILL)
                await asyncio.wait({self.exit})
                await self._all_gone(began + 2 * KILL_GRACE)
        await asyncio.wait({self.exit})

    async def _all_gone(self, deadline: float) -> bool:
        """Returns when nothing is left of it, or the time is over: then False."""
        while await self._init.signal(self._pid, _NOTHING):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_LOOK_AGAIN)
        return True

    async def run(self, timeout: float | None) -> None:
        """Returns when it has ended; kills it when that takes longer than `timeout` seconds."""
        await asyncio.wait({self.exit}, timeout=timeout)
        if not self.exit.done():
            self._timed_out = self._killed = True
            with contextlib.suppress(SandboxError):
                await self.signal(signal.SIGKILL)
            await asyncio.wait({self.exit})
        await self.stdin.close()

    def _on_exit(self, exit_: asyncio.Future[Exit]) -> None:
        self._ended = timestamp()
        # A shell tells by its exit code that its program was killed.
        if not self._killed and exit_.result().exit_code == 128 + signal.SIGKILL:
            self._out_of_memory = self._init.confines.oom_kills() > self._oom_kills
        self._output.finish()
        self.log.close()


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"
