"""What a running command prints: two pipes read as they fill, bounded, in the order of arrival."""

from __future__ import annotations

import array
import asyncio
import codecs
import fcntl
import os
import termios
from collections import deque
from collections.abc import AsyncIterator
from typing import Literal

__all__ = ["Output", "Stream", "bytes_waiting", "widen"]

Stream = Literal["stdout", "stderr"]

WATCH_AFTER = 0.002
"""Seconds after which the pipes of a collected command are read while it runs."""
READ_SIZE = 256 * 1024
PIPE_SIZE = 1024 * 1024
"""A busy pipe is widened from the kernel's 64 KiB to this: fewer switches between writer and reader."""
LIVE_LIMIT = 1024 * 1024
"""A live reader that is this many bytes behind stops the pipes, and so the command, until it catches up."""
PIECE_COST = 128
"""Bytes of memory that each piece takes besides its own: a command may print byte by byte."""
F_SETPIPE_SZ = 1031


class Output:
    """Reads a command's two pipes.

    Args:
        stdout, stderr: the pipes' read ends, non-blocking; owned, closed at their end of file.
        keep: bytes of each stream to keep for `kept`; what is over is read and dropped, `truncated` says so.
            None: live, for `chunks`, with back-pressure.

    The command's end is not the pipes' end of file: a background child may hold them open for hours. `finish`
    is called when the command has ended: what its pipes hold at that moment is its output, the rest is read and
    dropped, so that the child is neither blocked nor killed by a closed pipe.
    """

    def __init__(self, stdout: int, stderr: int, *, keep: int | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._streams: dict[int, Stream] = {stdout: "stdout", stderr: "stderr"}
        self._keep = keep
        self._room: dict[Stream, int] = {"stdout": keep or 0, "stderr": keep or 0}
        self._kept: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._chunks: deque[tuple[Stream, bytes]] = deque()
        self._held = 0
        self._paused = False
        self._left: dict[int, int] | None = None
        self._wake: asyncio.Future[None] | None = None
        self._cut: set[Stream] = set()
        self._watching: asyncio.TimerHandle | None = None
        if keep is None:
            self._watch()
        else:
            # What a short command prints waits in the pipe for its end: watching costs more than that takes.
            self._watching = self._loop.call_later(WATCH_AFTER, self._watch)

    def _watch(self) -> None:
        for fd in self._streams:
            self._loop.add_reader(fd, self._on_readable, fd)

    @property
    def truncated(self) -> bool:
        """More came than was to be kept."""
        return bool(self._cut)

    @property
    def ended(self) -> bool:
        """All of the command's own output has been read."""
        return self._left is not None and not self._left

    def kept(self, stream: Stream) -> bytes:
        """What was kept of one stream so far; no character is cut in two where the rest was dropped."""
        data = bytes(self._kept[stream])
        if stream not in self._cut:
            return data
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(data[-4:])
        begun, _ = decoder.getstate()
        return data[: len(data) - len(begun)]

    async def chunks(self) -> AsyncIterator[tuple[Stream, bytes]]:
        """The output as it comes, until the command's end."""
        while True:
            while self._chunks:
                stream, chunk = self._chunks.popleft()
                self._held -= len(chunk) + PIECE_COST
                if self._paused and self._held <= LIVE_LIMIT // 2:
                    self._resume()
                yield stream, chunk
            if self.ended:
                return
            self._wake = self._loop.create_future()
            await self._wake

    def finish(self) -> None:
        """The command has ended: the bytes now in the pipes are the last that count."""
        if self._left is not None:
            return
        if self._watching is not None:
            self._watching.cancel()
        self._left = {fd: waiting for fd in self._streams if (waiting := bytes_waiting(fd))}
        for fd in list(self._streams):
            if fd not in self._left:
                self._discard(fd)
        if not self._paused:
            for fd in list(self._left):
                while fd in self._left and not self._paused:
                    self._on_readable(fd)
        self._notify()

    def abandon(self) -> None:
        """Nobody will take what is left: drop it, and read the pipes dry from here on."""
        if self._watching is not None:
            self._watching.cancel()
        self._chunks.clear()
        for kept in self._kept.values():
            kept.clear()
        self._left = {}
        for fd in list(self._streams):
            self._discard(fd)
        self._notify()

    def _on_readable(self, fd: int) -> None:
        size = READ_SIZE if self._left is None else min(READ_SIZE, self._left.get(fd, 0))
        try:
            data = os.read(fd, size)
        except BlockingIOError:
            data = b""
            if self._left is None:
                return
        except OSError:
            data = b""
        if not data:
            self._close(fd)
            return
        if len(data) >= 65536 and size == READ_SIZE:
            widen(fd)
        self._store(self._streams[fd], data)
        if self._left is not None and fd in self._left:
            self._left[fd] -= len(data)
            if self._left[fd] <= 0:
                del self._left[fd]
                self._discard(fd)
        self._notify()

    def _store(self, stream: Stream, data: bytes) -> None:
        if self._keep is not None:
            room = self._room[stream]
            if len(data) > room:
                self._cut.add(stream)
                data = data[:room]
            self._room[stream] = room - len(data)
            self._kept[stream] += data
            return
        self._chunks.append((stream, data))
        self._held += len(data) + PIECE_COST
        if self._held >= LIVE_LIMIT and not self._paused:
            self._paused = True
            for fd in self._streams:
                self._loop.remove_reader(fd)

    def _resume(self) -> None:
        self._paused = False
        self._watch()

    def _discard(self, fd: int) -> None:
        """From here on the pipe belongs to what the command left behind: read it dry until its end."""
        self._streams.pop(fd, None)
        self._loop.remove_reader(fd)
        if not _drop(fd):
            os.close(fd)
            return
        self._loop.add_reader(fd, _on_discarded, self._loop, fd)

    def _close(self, fd: int) -> None:
        self._streams.pop(fd, None)
        if self._left is not None:
            self._left.pop(fd, None)
        self._loop.remove_reader(fd)
        os.close(fd)
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def _drop(fd: int) -> bool:
    """Reads and drops what is there; False at the end of file."""
    try:
        return bool(os.read(fd, READ_SIZE))
    except BlockingIOError:
        return True
    except OSError:
        return False


def _on_discarded(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    if not _drop(fd):
        loop.remove_reader(fd)
        os.close(fd)


def bytes_waiting(fd: int) -> int:
    """How many bytes a pipe holds, asked at either end."""
    buffer = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, buffer)
    return buffer[0]


def widen(fd: int) -> None:
    """Makes a busy pipe larger, if it is not yet, and if the system lets it."""
    try:
        if fcntl.fcntl(fd, F_SETPIPE_SZ + 1) < PIPE_SIZE:
            fcntl.fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        # The user's share of pipe memory is used up: the pipe works as it is.
        pass
