"""SIGINT: raises `KeyboardInterrupt` in the code of the running cell, and nowhere else.

What is running is read from the stack of the interrupted frame, not from a flag: a flag is set a little before or after
the code that it speaks of, and a signal can come in between.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["Interrupts"]

_AGAIN = 0.01
"""Seconds."""
_YOUNG = 0.1
"""Seconds after its start in which a child may have been started too late to be signalled with this process."""


class Interrupts:
    """Who is interrupted by SIGINT. One a process; it belongs to the main thread."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._main = threading.get_ident()
        self._cell = False
        self._pending = False
        self._held = 0
        self._unraisable = sys.unraisablehook
        self.instead: Callable[[FrameType], bool] | None = None
        """Asked first: true if it has done what is to be done, so that nothing is raised."""

    def install(self) -> None:
        signal.signal(signal.SIGINT, self._on_signal)
        sys.unraisablehook = self._on_unraisable

    def is_installed(self) -> bool:
        # Bound methods are equal when they are the same method of the same object.
        return signal.getsignal(signal.SIGINT) == self._on_signal

    def moved(self) -> None:
        """This process is a copy that goes on in the place of the one that it was forked from."""
        self._pid = os.getpid()

    def begin(self) -> None:
        """A cell begins: what comes from now on is meant for it."""
        self._pending = False
        self._cell = True
        if not self.is_installed():
            self.install()

    def end(self) -> None:
        self._cell = False

    def boundary(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls `function`; only what runs inside can be interrupted."""
        return function(*args)

    def check(self) -> None:
        """Raises what came before the boundary. The first thing to be called inside it."""
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def hold(self) -> None:
        """Until `release` nothing is raised in the main thread."""
        if threading.get_ident() == self._main:
            self._held += 1

    def release(self) -> None:
        if threading.get_ident() == self._main:
            self._held -= 1

    def after(self) -> None:
        """Raises what came while it was held. Not to be called where an exception would do harm."""
        if self._pending and not self._held and self._cell and threading.get_ident() == self._main:
            self.check()

    def later(self, seconds: float, function: Callable[..., object], *args: Any) -> None:
        timer = threading.Timer(seconds, function, args)
        timer.daemon = True
        timer.start()

    def again(self) -> None:
        """Interrupts the main thread from another one, in what it waits for too."""
        signal.pthread_kill(self._main, signal.SIGINT)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number
        if os.getpid() != self._pid:
            raise KeyboardInterrupt  # a process that the user has forked
        if not self._cell or frame is None:
            return
        if self._held or not _inside(frame):
            self._pending = True
            return
        if self.instead is not None and self.instead(frame):
            return
        _pass_on()
        raise KeyboardInterrupt

    def _on_unraisable(self, what: sys.UnraisableHookArgs) -> None:
        """One that was raised in a finalizer ends that alone; it comes again for the code that was to be ended."""
        if self._cell and what.exc_type is KeyboardInterrupt and self.is_installed() and os.getpid() == self._pid:
            self.later(_AGAIN, self.again)
        else:
            self._unraisable(what)


def _pass_on() -> None:
    """Signals the children that this process has just started.

    All of a cell's processes are signalled together; but when that comes in the middle of starting one, Python first
    goes on until it runs, and raises then, when nobody knows yet of the child.
    """
    ticks = os.sysconf("SC_CLK_TCK")
    young = (time.clock_gettime(time.CLOCK_BOOTTIME) - _YOUNG) * ticks
    for task in os.listdir("/proc/self/task"):
        for child in _words(f"/proc/self/task/{task}/children"):
            fields = _words(f"/proc/{child.decode()}/stat", after=b")")
            if fields and int(fields[19]) >= young:
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    os.kill(int(child), signal.SIGINT)


def _words(path: str, after: bytes = b"") -> list[bytes]:
    """Of a file of /proc, after the last `after`; none if what it tells of has ended."""
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError:
        return []
    return (text.rpartition(after)[2] if after else text).split()


def _inside(frame: FrameType) -> bool:
    """Whether it runs in a boundary; the boundary's own frame has not begun, or has ended."""
    at: FrameType | None = frame.f_back
    code = Interrupts.boundary.__code__
    while at is not None:
        if at.f_code is code:
            return frame.f_code is not code
        at = at.f_back
    return False
