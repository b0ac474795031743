"""The agent's handle on a kernel: cells go in, one at a time, and what they give comes out as lines of the wire."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from sandcove.agent.init import Exit, Init
from sandcove.agent.kernel_feed import BrokenKernelError, Feed
from sandcove.errors import CodeExecutionError, ContextEndedError, SandboxError
from sandcove.kernels.messages import Fork, Message, Run, encode

__all__ = ["Ends", "Kernel", "KernelSilentError", "Tell", "Verdict", "new_ends"]

Tell = Callable[[bytes], Awaitable[None]]

READY_WITHIN = 60.0
"""Seconds that a kernel may take to begin; the machine may be loaded."""
PARTING = 2.0
"""Seconds between the end of a kernel's channel and that of its process; then it is killed."""
LATE_LIMIT = 1024 * 1024
"""Bytes of what comes when no cell runs that are kept for the next one: the newest."""
_LOOK_AGAIN = 0.02


@dataclass
class Verdict:
    """How a cell ended. `error` is its own, if it raised; `rest` are the lines that have not been told yet."""

    execution_count: int
    error: Message | None
    rest: bytes


class KernelSilentError(Exception):
    """A kernel ended before it had said or printed anything."""


class Ends:
    """Both ends of a new kernel's descriptors: `theirs` in the contract's order, closed by `started`."""

    def __init__(self) -> None:
        with contextlib.ExitStack() as stack:
            self.channel, theirs = socket.socketpair()
            for end in (self.channel, theirs):
                stack.callback(end.close)
            acks, self.acks = _pipe(stack)
            self.stdout, stdout = _pipe(stack)
            self.stderr, stderr = _pipe(stack)
            stack.pop_all()
        self.theirs = (theirs.detach(), acks, stdout, stderr)
        self.channel.setblocking(False)
        for fd in (self.acks, self.stdout, self.stderr):
            os.set_blocking(fd, False)

    def started(self) -> None:
        """Closes the kernel's ends, which it has now."""
        for fd in self.theirs:
            os.close(fd)
        self.theirs = (-1, -1, -1, -1)

    def close(self) -> None:
        """Closes what there is, when nothing came of it."""
        self.channel.close()
        for fd in (self.acks, self.stdout, self.stderr, *self.theirs):
            if fd >= 0:
                os.close(fd)


@contextlib.contextmanager
def new_ends() -> Iterator[Ends]:
    """`Ends` that are closed if what is done with them fails.

    Raises:
        SandboxError: there are no more descriptors to be had.
    """
    try:
        ends = Ends()
    except OSError as error:
        raise SandboxError(f"the context can't be started: {error.strerror}; delete others first") from None
    try:
        yield ends
    except BaseException:
        ends.close()
        raise


class Kernel:
    """A kernel that runs; `begin` makes one of what has been started.

    Attributes:
        pid: its process id as user code sees it.
        version, notes: what it says of itself.
        ended: done when it is known that it has ended: how, or None if nobody can say.
    """

    pid: int
    version: str
    notes: list[str]

    def __init__(self, ends: Ends, init: Init) -> None:
        self._init = init
        self._channel = ends.channel
        self._feed = Feed(ends.channel.fileno(), ends.acks, ends.stdout, ends.stderr)
        self._exit: asyncio.Future[Exit] | None = None
        self._oom_kills = init.confines.oom_kills()
        self._late: deque[bytes] = deque()
        self._late_size = 0
        self._since = 0
        self._ending: asyncio.Future[None] | None = None
        self.ended: asyncio.Future[Exit | None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def begin(cls, ends: Ends, init: Init, *, process: tuple[int, asyncio.Future[Exit]] | None = None) -> Kernel:
        """Waits until it is ready.

        Args:
            ends: owned from here on.
            process: its pid and end, if they are known; else it says its pid, and `init` is asked for the end.

        Raises:
            KernelSilentError: it ended before it said a word.
            CodeExecutionError: it ended, and printed why; or it did not get ready in time.
        """
        ends.started()
        kernel = cls(ends, init)
        if process is not None:
            kernel.pid, kernel._exit = process
        try:
            async with asyncio.timeout(READY_WITHIN):
                await kernel._hear()
        except BaseException as error:
            # If its pid is not known it ends when its channel does.
            kernel._close()
            kernel.ended.cancel()
            if process is not None:
                await kernel._kill_tree()
            if isinstance(error, BrokenKernelError):
                raise CodeExecutionError(f"the kernel did not start: {error}") from None
            if isinstance(error, TimeoutError):
                raise CodeExecutionError(f"the kernel did not get ready within {READY_WITHIN:g} s") from None
            raise
        asyncio.get_running_loop().add_reader(kernel._feed.fileno(), kernel._on_idle)
        return kernel

    async def run(self, request: Run, tell: Tell) -> Verdict:
        """Runs a cell to its end; the caller sees to it that there is one at a time.

        Args:
            tell: sends lines of the wire; the cell waits while that takes.

        Raises:
            ContextEndedError: the kernel ended meanwhile, or had.
        """
        self._since = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
        with self._listening():
            await self._send(encode(request) + b"\n")
            if self._late:
                await tell(b"".join(self._late))
                self._late.clear()
                self._late_size = 0
            return await self._to_the_end(tell)

    async def finish(self, tell: Tell) -> Verdict:
        """Goes on with a cell whose `run` was cancelled."""
        with self._listening():
            return await self._to_the_end(tell)

    async def interrupt(self) -> None:
        """Interrupts the cell that runs, with the processes that it has started."""
        with contextlib.suppress(SandboxError):
            await self._init.signal(self.pid, signal.SIGINT, since=self._since)

    async def kill(self) -> None:
        """Kills it with all that came from it, and returns when it has ended."""
        await self._kill_tree()
        # Whoever reads its channel sees that: the cell that runs, or `_on_idle`.
        await asyncio.wait({self.ended})

    async def fork(self) -> tuple[Kernel, list[str]]:
        """A copy, when no cell runs; and what it lacks that this one has.

        Raises:
            CodeExecutionError: it can't be copied, and why.
            ContextEndedError: it has ended.
        """
        with self._listening(), new_ends() as ends:
            try:
                fds = array.array("i", ends.theirs)
                self._channel.sendmsg([encode(Fork()) + b"\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
                message = await self._answer("forked")
            except OSError as error:
                raise CodeExecutionError(f"the context can't be copied: {error.strerror}") from None
            if message.error:
                raise CodeExecutionError(f"the context can't be copied: {message.error}")
        try:
            return await Kernel.begin(ends, self._init), message.lost
        except KernelSilentError:
            raise CodeExecutionError("the copy of the context ended at once") from None

    def how_it_ended(self) -> str:
        """In words, for people."""
        exit_ = self.ended.result() if self.ended.done() and not self.ended.cancelled() else None
        if exit_ is None:
            return "its kernel ended"
        if exit_.signal == signal.SIGKILL:
            if self._init.confines.oom_kills() > self._oom_kills:
                return f"its kernel was killed: {self._init.confines.out_of_memory()}"
            return "its kernel was killed by SIGKILL: if nobody sent that, the machine's memory had run out"
        if exit_.signal is not None:
            name = signal.strsignal(exit_.signal) or "unknown"
            return f"its kernel was killed by signal {exit_.signal} ({name.lower()})"
        return f"its kernel ended with exit code {exit_.exit_code}"

    # --- inside -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """What it tells is read by the caller meanwhile, and not by `_on_idle`."""
        if self.ended.done():
            raise ContextEndedError(self.how_it_ended())
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._feed.fileno())
        try:
            yield
        finally:
            if not self.ended.done():
                loop.add_reader(self._feed.fileno(), self._on_idle)

    async def _hear(self) -> None:
        """The first message."""
        said: list[bytes] = []
        while True:
            await self._feed.readable()
            lines, found = self._feed.take()
            said += lines
            if found:
                message = found[0]
                self.version, self.notes = message.version, message.notes
                if self._exit is None:
                    self.pid = message.pid
                    self._exit = await self._init.watch(message.pid)
                return
            if self._feed.ended:
                said += self._feed.rest()
                if not said:
                    raise KernelSilentError("the kernel ended before it began")
                printed = "".join(json.loads(line).get("text", "") for line in said)
                raise CodeExecutionError(f"the kernel did not start: {printed.strip()[-2000:]}")

    async def _to_the_end(self, tell: Tell) -> Verdict:
        error: Message | None = None
        while True:
            lines, found = await self._take()
            for message in found:
                if message.type == "error":
                    error = message
                elif message.type == "done":
                    return Verdict(message.execution_count, error, b"".join(lines + self._feed.rest()))
            if lines:
                await tell(b"".join(lines))
            if self._feed.ended:
                rest = self._feed.rest()
                await self._end()
                if rest:
                    await tell(b"".join(rest))
                raise ContextEndedError(self.how_it_ended())

    async def _answer(self, type: str) -> Message:
        while True:
            lines, found = await self._take()
            self._keep(lines)
            for message in found:
                if message.type == type:
                    return message
            if self._feed.ended:
                await self._end()
                raise ContextEndedError(self.how_it_ended())

    async def _take(self) -> tuple[list[bytes], list[Message]]:
        await self._feed.readable()
        try:
            return self._feed.take()
        except BrokenKernelError as error:
            await self._end()
            raise ContextEndedError(f"{error}; its kernel was killed") from None

    async def _send(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # it has ended: that is what is read next
            await loop.sock_sendall(self._channel, data)

    def _on_idle(self) -> None:
        """Something comes though no cell runs: from a thread, a child, or the end."""
        try:
            lines, _ = self._feed.take()
        except BrokenKernelError:
            self._feed.ended = True
            lines = []
        self._keep(lines)
        if self._feed.ended:
            asyncio.get_running_loop().remove_reader(self._feed.fileno())
            self._ending = asyncio.ensure_future(self._end())

    def _keep(self, lines: list[bytes]) -> None:
        for line in lines:
            self._late.append(line)
            self._late_size += len(line)
        while self._late_size > LATE_LIMIT:
            self._late_size -= len(self._late.popleft())

    async def _end(self) -> None:
        """Its channel has ended: so does the rest of it."""
        if self.ended.done():
            return
        exit_ = self._exit
        if exit_ is not None and self._feed.ended:
            await asyncio.wait({exit_}, timeout=PARTING)
        await self._kill_tree()
        if not self.ended.done():
            self.ended.set_result(exit_.result() if exit_ is not None and exit_.done() else None)
            self._close()

    async def _kill_tree(self) -> None:
        deadline = time.monotonic() + PARTING
        with contextlib.suppress(SandboxError):
            # Again until nothing is left of it: no other process gets its number while one is in its session.
            while time.monotonic() < deadline:
                if not await self._init.signal(self.pid, signal.SIGKILL):
                    break
                await asyncio.sleep(_LOOK_AGAIN)

    def _close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._feed.fileno())
        self._feed.close()
        self._channel.close()


def _pipe(stack: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe2(os.O_CLOEXEC)
    for fd in ends:
        stack.callback(os.close, fd)
    return ends
