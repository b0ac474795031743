"""A code context: a kernel, and the cells that wait for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from json import dumps

from msgspec import to_builtins

from sandcove.agent.kernel import Kernel, Tell
from sandcove.errors import ContextEndedError, ContextNotFoundError, ExecutionTimeoutError
from sandcove.kernels.messages import Run
from sandcove.wire.clock import timestamp
from sandcove.wire.code import CodeEvent, ContextInfo, Language

__all__ = ["Context"]

HEED_WITHIN = (0.5, 2.0, 2.5)
"""Seconds that a cell has to end after each interrupt; then its kernel is killed. It may have caught one, or been so
early that it came before the cell."""


class Context:
    """A context that `Contexts` made.

    Attributes:
        session_id: whose environment it has.
        env_vars: what it has besides.
        deleted: no cell begins any more.
    """

    def __init__(
        self, id: str, language: Language, *, cwd: str, session_id: str, env_vars: dict[str, str], kernel: Kernel
    ) -> None:
        self.id = id
        self.language = language
        self.cwd = cwd
        self.session_id = session_id
        self.env_vars = env_vars
        self.deleted = False
        self._kernel = kernel
        self._turn = asyncio.Lock()
        self._running = False
        self._restarting = False
        self._count = 0
        self._created = self._last_used = timestamp()

    def info(self) -> ContextInfo:
        """What callers are told of it."""
        kernel = self._kernel
        return ContextInfo(
            id=self.id,
            language=self.language,
            cwd=self.cwd,
            created_at=self._created,
            last_used=self._last_used,
            status="ended" if kernel.ended.done() else "busy" if self._running else "idle",
            session_id=self.session_id,
            pid=kernel.pid,
            execution_count=self._count,
            version=kernel.version,
            notes=kernel.notes,
        )

    def check(self) -> None:
        """Raises when no cell can run in it: `ContextNotFoundError`, `ContextEndedError`."""
        self._check(self._kernel)

    async def run(self, request: Run, timeout: float | None, tell: Tell) -> bytes:
        """Runs a cell when its turn has come, and tells all of it but the end; cancelling interrupts it.

        Args:
            timeout: seconds from its turn on.

        Returns:
            the end, lines of the wire too.
        """
        kernel = None if self._restarting else self._kernel
        async with self._turn:
            self._running = True
            try:
                self._check(kernel)
                self._last_used = timestamp()
                last = await self._run(self._kernel, request, timeout, tell)
            except (ContextEndedError, ContextNotFoundError) as error:
                last = _error("KernelDied", error.message, code=error.code)
            finally:
                self._running = False
                self._last_used = timestamp()
            return last + b'{"type":"execution_complete","execution_count":%d}\n' % self._count

    async def interrupt(self) -> bool:
        """Interrupts the cell that runs; False if none does."""
        if not self._running:
            return False
        await self._kernel.interrupt()
        return True

    async def replace(self, start: Callable[[], Awaitable[Kernel]]) -> None:
        """Ends the kernel and gives the context one that `start` makes. Cells that had to wait don't run."""
        self._restarting = True
        try:
            await self._kernel.kill()
            async with self._turn:
                await self._kernel.kill()  # another call may have given it a new one meanwhile
                self._check(None)
                kernel = await start()
                if self.deleted:
                    await kernel.kill()
                    self._check(None)
                self._kernel = kernel
                self._count = 0
        finally:
            self._restarting = False

    async def fork(self) -> tuple[Kernel, list[str]]:
        """A copy of its kernel, when the cells before have ended; and what it lacks."""
        kernel = self._kernel
        async with self._turn:
            self._check(kernel)
            return await kernel.fork()

    def copied(self, id: str, kernel: Kernel) -> Context:
        """The context of a copy of its kernel."""
        copy = Context(
            id, self.language, cwd=self.cwd, session_id=self.session_id, env_vars=self.env_vars, kernel=kernel
        )
        copy._count = self._count
        return copy

    async def delete(self) -> None:
        """Ends it with all that runs in it."""
        self.deleted = True
        await self._kernel.kill()

    def _check(self, kernel: Kernel | None) -> None:
        """Raises when a cell can't run that was meant for `kernel`; None: for whichever there is now."""
        if self.deleted:
            raise ContextNotFoundError(f"Context {self.id} not found: it was deleted")
        if kernel is not None and kernel is not self._kernel:
            raise ContextEndedError(f"context {self.id} was restarted before the cell's turn came; run it again")
        if kernel is not None and kernel.ended.done() and not self._restarting:
            raise ContextEndedError(self._lost(kernel.how_it_ended()))

    def _lost(self, why: str) -> str:
        return f"context {self.id} has lost its variables: {why}; restart it"

    async def _run(self, kernel: Kernel, request: Run, timeout: float | None, tell: Tell) -> bytes:
        limit = _Ending(kernel, timeout)
        over = f"the cell ran longer than {timeout:g} s" if timeout is not None else ""
        try:
            verdict = await kernel.run(request, tell)
        except ContextEndedError as error:
            self._check(None)
            if limit.killed:
                message = f"{over} and did not heed an interrupt, so its kernel was killed; restart the context"
                return _error("TimeoutError", message, code=ExecutionTimeoutError.code)
            if self._restarting:
                raise ContextEndedError(f"context {self.id} was restarted while the cell ran") from None
            raise ContextEndedError(self._lost(error.message)) from None
        except BaseException:
            # The caller has left. The next cell's turn comes when this one has ended.
            limit.stop()
            limit = _Ending(kernel, 0)
            with contextlib.suppress(ContextEndedError):
                await kernel.finish(_nowhere)
            raise
        finally:
            limit.stop()
        self._count = verdict.execution_count
        own = verdict.error
        if limit.begun:
            traceback, line = ([], None) if own is None else (own.traceback, own.line_number)
            message = f"{over} and was interrupted"
            return verdict.rest + _error(
                "TimeoutError", message, [*traceback, message], line, ExecutionTimeoutError.code
            )
        if own is not None:
            return verdict.rest + _error(own.ename, own.evalue, own.traceback, own.line_number)
        return verdict.rest


class _Ending:
    """Ends a cell that shall not go on: interrupts it until it heeds that, then kills its kernel.

    Args:
        after: seconds before it begins; None: never.

    Attributes:
        begun, killed: how far it has come.
    """

    def __init__(self, kernel: Kernel, after: float | None) -> None:
        self._kernel = kernel
        self.begun = False
        self.killed = False
        self._task = None if after is None else asyncio.ensure_future(self._end(after))

    async def _end(self, after: float) -> None:
        await asyncio.sleep(after)
        self.begun = True
        for seconds in HEED_WITHIN:
            await self._kernel.interrupt()
            await asyncio.sleep(seconds)
        self.killed = True
        await self._kernel.kill()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def _nowhere(_: bytes) -> None:
    """Where the output of a cell goes that nobody waits for."""


def _error(
    name: str, value: str, traceback: list[str] | None = None, line: int | None = None, code: str | None = None
) -> bytes:
    event = CodeEvent(
        type="error",
        ename=name,
        evalue=value,
        traceback=[value] if traceback is None else traceback,
        line_number=line,
        code=code,
    )
    # ASCII: see `sandcove.wire.code`.
    return dumps(to_builtins(event)).encode("ascii") + b"\n"
