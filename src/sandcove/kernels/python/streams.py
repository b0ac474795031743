"""Standard output and error: text streams over descriptors 1 and 2, in order with each other and with results.

A line is written when it is complete. When one stream is written to after the other, the kernel first waits until the
agent has read the other: it gets the two by two pipes, and could not tell otherwise which came first. So it does before
and after a program that ``!command``, ``%%bash`` or `os.system` runs.
"""

from __future__ import annotations

import fcntl
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sandcove.kernels.python.channel import Channel

__all__ = ["Streams"]

_SYNC = b'{"type":"sync"}\n'
_BUFFER = 65536


class _Buffer(io.BufferedWriter):
    """What is below a text stream. The descriptor below it is C's alone: no signal's handler can run between a write
    and its being noted, which would write twice."""

    def __init__(self, fd: int, name: str, streams: Streams) -> None:
        raw = io.FileIO(fd, "w", closefd=False)
        raw.name = name
        super().__init__(raw, _BUFFER)
        self._streams = streams
        self._fd = fd

    def write(self, data: Any) -> int:
        if self._streams.active is not self:
            self._streams.turn_to(self)
        try:
            return io.BufferedWriter.write(self, data)
        except BlockingIOError as full:
            self._wait()
            self.write(memoryview(data).cast("B")[full.characters_written :])
            return len(data)

    def flush(self) -> None:
        while True:
            try:
                return io.BufferedWriter.flush(self)
            except BlockingIOError:  # a program that has the same pipe made it non-blocking, for all
                self._wait()

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.poll()


def _saved(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 960)
    except OSError:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20)


class Streams:
    """The pair. `install` makes it `sys.stdout` and `sys.stderr`."""

    def __init__(self, channel: Channel, out_fd: int = 1, err_fd: int = 2) -> None:
        self._channel = channel
        self._fds = (out_fd, err_fd)
        self.active: _Buffer | None = None
        """The one whose output may not have been read yet; None when all has."""
        self.in_order = False
        """Whether the order matters: while a cell runs."""
        self._kept = tuple(_saved(fd) for fd in self._fds)
        self.out = self._stream(out_fd, "<stdout>")
        self.err = self._stream(err_fd, "<stderr>")
        channel.settled = self._settled

    def _stream(self, fd: int, name: str) -> io.TextIOWrapper:
        return io.TextIOWrapper(
            _Buffer(fd, name, self), encoding="utf-8", errors="backslashreplace", line_buffering=True
        )

    def _settled(self) -> None:
        self.active = None

    def turn_to(self, buffer: _Buffer) -> None:
        """`buffer` is to be written to, and was not the last."""
        other = self.err if buffer.name == "<stdout>" else self.out
        try:
            other.flush()  # which makes the other the active one, if it had anything
        except (OSError, ValueError):
            pass  # the user closed it
        if self._channel.asked:
            self._channel.catch_up()
        elif self.active is not None and self.active is not buffer and self.in_order:
            self._channel.ask(_SYNC)
        self.active = buffer

    @contextmanager
    def lent(self) -> Iterator[None]:
        """While a program that a cell has started, and waits for, prints to the same descriptors."""
        self.flush()
        if self.active is not None and self.in_order:
            self._channel.ask(_SYNC)
        try:
            yield
        finally:
            if self.in_order:
                self._channel.ask(_SYNC)

    def flush(self) -> None:
        """Never raises for what the user has done to them; what can't be written is dropped."""
        for stream in (self.out, self.err):
            try:
                stream.flush()
            except (OSError, ValueError):
                self._renew(stream)

    def restore(self) -> None:
        """At the beginning of a cell: both streams work, whatever the cells before have done."""
        self._reconnect()
        # First these: they may hold a wrapper of the user's which closes ours when it goes.
        sys.stdout = sys.__stdout__ = self.out  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = self.err  # type: ignore[misc]
        for stream in (self.out, self.err):
            if _is_closed(stream):
                self._renew(stream)
        try:
            fcntl.fcntl(0, fcntl.F_GETFD)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # takes the lowest number that is free
        if sys.stdin is None or _is_closed(sys.stdin):
            sys.stdin = sys.__stdin__ = open(os.devnull, encoding="utf-8")  # type: ignore[misc] # noqa: SIM115
        self.active = None

    def _reconnect(self) -> None:
        for kept, fd in zip(self._kept, self._fds):  # noqa: B905 - `strict` costs, and both are pairs
            os.dup2(kept, fd)

    def _renew(self, stream: io.TextIOWrapper) -> None:
        self._reconnect()
        if stream is self.out:
            self.out = self._stream(self._fds[0], "<stdout>")
            if sys.stdout is stream:
                sys.stdout = sys.__stdout__ = self.out  # type: ignore[misc]
        else:
            self.err = self._stream(self._fds[1], "<stderr>")
            if sys.stderr is stream:
                sys.stderr = sys.__stderr__ = self.err  # type: ignore[misc]

    def close(self) -> None:
        """Closes all descriptors that it has, those that it was made for too."""
        for fd in (*self._kept, *self._fds):
            os.close(fd)

    def move(self, out_fd: int, err_fd: int) -> None:
        """In a copy of the kernel: goes on over these descriptors."""
        for kept, fd, new in zip(self._kept, self._fds, (out_fd, err_fd)):  # noqa: B905 - as above
            os.dup2(new, kept, inheritable=False)
            os.dup2(new, fd)
            os.close(new)
        self.active = None


def _is_closed(stream: Any) -> bool:
    try:
        return bool(stream.closed)
    except ValueError:
        return True  # its buffer was detached
