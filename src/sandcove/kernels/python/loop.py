"""The kernel's event loop: top-level ``await`` runs on it, and what a cell has started on it goes on between cells."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Coroutine
from types import FrameType
from typing import TYPE_CHECKING, Any

from sandcove.kernels.python.channel import Channel, end
from sandcove.kernels.python.interrupts import Interrupts

if TYPE_CHECKING:
    import asyncio

__all__ = ["Loop"]

_PATIENCE = 0.1
"""Seconds."""


class Loop:
    """`asyncio` is loaded by the first cell that needs it."""

    def __init__(self, channel: Channel, interrupts: Interrupts) -> None:
        self._channel = channel
        self._interrupts = interrupts
        interrupts.instead = self._interrupt
        self._loop: Any = None
        self._task: asyncio.Task[Any] | None = None
        self._interrupted = False
        self._is_insisting = False
        """A cell is to be cancelled, and its loop has not come to it yet."""
        self._insisted: Any = None
        self._idle = False
        self._has_arrived = False
        self._failed: list[Any] = []
        self._left: list[Any] = []

    def begin(self) -> None:
        """A cell begins. Code that asks for the thread's event loop gets this one; `asyncio.run` takes that away."""
        self._insisted = None
        if "asyncio" in sys.modules:
            self._open()

    def _open(self) -> Any:
        import asyncio

        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.SelectorEventLoop()
            self._loop.set_task_factory(self._new_task)
        asyncio.set_event_loop(self._loop)
        return self._loop

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Runs a cell to its end. Interrupted it raises `KeyboardInterrupt`, and the loop stays usable."""
        import asyncio

        loop = self._open()
        task = self._task = loop.create_task(coroutine)
        self._interrupted = self._is_insisting = False
        try:
            try:
                return loop.run_until_complete(task)
            except (KeyboardInterrupt, SystemExit):
                # Raised in a callback or in another task: the cell ends too.
                if not task.done():
                    task.cancel()
                    try:
                        loop.run_until_complete(task)
                    except BaseException:  # noqa: BLE001, S110 - what it says about its end is not what happened
                        pass
                raise
            except asyncio.CancelledError as error:
                if self._interrupted:
                    raise KeyboardInterrupt().with_traceback(error.__traceback__) from None
                raise
        finally:
            self._task = None

    def _interrupt(self, frame: FrameType) -> bool:
        """While the loop waits, or runs something else, the cell is cancelled; its own code is interrupted where it is.

        Something else that does not come to an end soon is interrupted too. At once would be wrong: a callback that
        ends in the middle may leave a task that waits for it for ever.
        """
        task, insisted, self._insisted = self._task, self._insisted, None
        if insisted is not None and insisted is not task:
            return True  # that cell has ended meanwhile
        if task is None or task.done():
            return False
        import asyncio

        if not _in_loop(frame):
            return False
        if (asyncio.current_task(self._loop) is task or insisted is not None) and _is_called(frame):
            return False
        self._interrupted = True
        self._loop.call_soon_threadsafe(self._cancel, task)
        if not self._is_insisting:
            self._is_insisting = True
            self._interrupts.later(_PATIENCE, self._insist, task)
        return True

    def _cancel(self, task: Any) -> None:
        self._is_insisting = False
        task.cancel()

    def _insist(self, task: Any) -> None:
        if self._is_insisting and self._task is task:
            self._is_insisting = False
            self._insisted = task
            self._interrupts.again()

    def _new_task(self, loop: Any, coroutine: Any, **options: Any) -> Any:
        import asyncio

        task = asyncio.Task(coroutine, loop=loop, **options)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: Any) -> None:
        if not task.cancelled() and task is not self._task and task._log_traceback:
            self._failed.append(task)
            if self._idle:
                self._loop.call_soon(self.report)  # after those who wait for it

    def report(self) -> None:
        """Prints the exceptions of tasks that have failed and that nobody has asked for their result."""
        failed, self._failed = self._failed, []
        for task in failed:
            if task._log_traceback:
                task._log_traceback = False
                print(f"The task {task.get_name()} has failed:", file=sys.stderr)
                _print(task.exception())

    def is_busy(self) -> bool:
        """Whether there is anything that may go on between cells."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return False
        import asyncio

        return bool(loop._ready or loop._scheduled or len(loop._selector.get_map()) > 1 or asyncio.all_tasks(loop))

    def wait(self) -> bool:
        """Runs the loop until a request has come; false if something else has ended it."""
        loop, fd = self._loop, self._channel.fileno()
        if fd < 0:
            end()
        self._idle = True
        self._has_arrived = False
        try:
            self.report()
            loop.add_reader(fd, self._arrived)
            loop.run_forever()
        except BaseException as error:  # noqa: BLE001 - a task's `sys.exit` ends the task, not the kernel
            _print(error)
        finally:
            self._idle = False
            try:
                loop.remove_reader(fd)
            except (OSError, ValueError, RuntimeError):
                pass  # the user has closed the loop or the channel
        return self._has_arrived

    def _arrived(self) -> None:
        if not self._channel.is_ours():
            os._exit(0)  # forked by a task; its loop shares the kernel's descriptors
        self._has_arrived = True
        self._loop.stop()

    def pending(self) -> int:
        """How many tasks have not ended."""
        if self._loop is None or self._loop.is_closed():
            return 0
        import asyncio

        return len(asyncio.all_tasks(self._loop))

    def close(self) -> None:
        if self._loop is not None:
            import asyncio

            self._loop.close()
            asyncio.set_event_loop(None)

    def drop(self) -> None:
        """In a copy of the kernel: forgets the loop, and changes nothing of what the copy shares with the original.

        Closing it in order would unregister the original's descriptors from the epoll instance that both have.
        """
        old, self._loop = self._loop, None
        self._failed.clear()
        if old is None or old.is_closed():
            return
        import asyncio

        for task in asyncio.all_tasks(old):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._left.append(old)  # kept, so that nothing is finalized
        old._closed = True
        old._ready.clear()
        old._scheduled.clear()
        for file in (old._selector._selector, old._ssock, old._csock):
            file.close()
        asyncio.set_event_loop(None)


def _in_loop(frame: FrameType) -> bool:
    """Whether the loop runs: not while a cell is begun or ended."""
    import asyncio

    once = asyncio.BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]
    at: FrameType | None = frame
    while at is not None:
        if at.f_code is once:
            return True
        at = at.f_back
    return False


def _is_called(frame: FrameType) -> bool:
    """Whether what runs is what the loop has called. An exception in the loop itself, or in what a task does to be
    called again, would lose a task for ever."""
    import asyncio
    import inspect

    calls = asyncio.Handle._run.__code__
    at: FrameType | None = frame
    below: FrameType | None = None
    while at is not None and at.f_code is not calls:
        at, below = at.f_back, at
    if at is None or below is None:
        return False
    is_coroutine = bool(below.f_code.co_flags & inspect.CO_COROUTINE)
    return is_coroutine or not str(below.f_globals.get("__name__")).startswith("asyncio.")


def _print(error: BaseException | None) -> None:
    if error is not None:
        stream = sys.stderr
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        stream.write("".join(lines))
        stream.flush()
