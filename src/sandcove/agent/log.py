"""What a process has printed: both streams in the order of arrival, kept in a ring on the sandbox's disk.

Positions are offsets in all that was ever printed. Many readers follow at their own pace; none holds the writer up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sandcove.agent.output import READ_SIZE, Stream

__all__ = ["LIMIT", "Log", "LogSpace", "Piece"]

LIMIT = 128 * 1024 * 1024
"""Bytes of a log; what is older is overwritten."""
LEAST = 64 * 1024
"""Bytes that every log may have, however little space is left for all."""
MOST_MARKS = 128 * 1024
"""Changes between the two streams that are remembered; what is older than the last so many is dropped too."""
ALL_MARKS = 8 * MOST_MARKS
"""Of them in all logs together, which are in the agent's memory; but at least `LEAST_MARKS` in each."""
LEAST_MARKS = 1024
MOST_GAPS = 64
"""Places that are remembered where bytes are missing because the disk was full; of further ones only how many bytes."""


class Piece(NamedTuple):
    """Bytes of one stream, where the next ones are, and how many before these are not there any more."""

    stream: Stream
    data: bytes
    next: int
    skipped: int


class LogSpace:
    """What the logs of a sandbox may have together.

    Attributes:
        limit: bytes; 0: as much as they want.
        logs: how many there are.
        free_some: deletes a log that is not needed any more; False if there is none.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.used = self.logs = 0
        self.free_some: Callable[[], bool] = lambda: False

    def take(self, wanted: int, least: int) -> int:
        """Gives as many bytes of the space as can be had, at least so many."""
        while self.limit and self.used + wanted > self.limit and self.free_some():
            pass
        taken = max(least, min(wanted, self.limit - self.used)) if self.limit else wanted
        self.used += taken
        return taken

    def give(self, size: int) -> None:
        """Takes bytes back."""
        self.used -= size


class Log:
    """A ring of `limit` bytes. It has no name that user code could open, and takes no disk until it is written to.

    Attributes:
        start: the offset of the oldest byte that is there.
        end: the offset behind the newest one.
        lost: bytes that could not be kept because the disk was full.
        closed: nothing will be added.
    """

    def __init__(self, limit: int = LIMIT, folder: str = "/", space: LogSpace | None = None) -> None:
        self.start = self.end = self.lost = 0
        self.closed = False
        self._limit = limit
        self._space = space or LogSpace()
        self._space.logs += 1
        self._size = 0
        self._folder = folder
        self._fd = -1
        # Where one stream follows the other; `_first` is the one at the first mark.
        self._marks = array("q")
        self._first: Stream = "stdout"
        self._waiting: set[asyncio.Future[None]] = set()
        self._gaps: dict[int, int] = {}
        self._readers = 0
        self._deleted = self._dropped = False

    def append(self, stream: Stream, data: bytes) -> None:
        """Adds what was printed; never waits for a reader."""
        if self.end + len(data) > self._size and self._size < self._limit:
            self._grow(min(self._limit, self.end + len(data)) - self._size)
        if (over := len(data) - self._limit) > 0:
            data = data[over:]
            self.end += over
            self.start = self.end
        try:
            self._write(data)
        except OSError:
            self.lost += len(data)
            at = self.end if self.end in self._gaps or len(self._gaps) < MOST_GAPS else max(self._gaps)
            self._gaps[at] = self._gaps.get(at, 0) + len(data)
            return
        if not self._marks:
            self._first = stream
            self._marks.append(self.end)
        elif self._stream(len(self._marks) - 1) != stream:
            self._marks.append(self.end)
        self.end += len(data)
        self.start = max(self.start, self.end - self._limit)
        most = min(MOST_MARKS, max(LEAST_MARKS, ALL_MARKS // self._space.logs))
        if len(self._marks) > most:
            self.start = max(self.start, self._marks[-most // 2])
            self._forget()
        self._notify()

    def _grow(self, wanted: int) -> None:
        """Takes space for so many bytes more; if there is less, the ring stays as large as it is then."""
        taken = self._space.take(wanted, max(0, min(wanted, LEAST - self._size)))
        self._size += taken
        if taken < wanted:
            # It has not come round yet, so every byte lies where it would in the smaller ring.
            self._limit = self._size

    def read(self, at: int, most: int = READ_SIZE) -> Piece | None:
        """The bytes at offset `at`, at most so many and of one stream; None where the log ends."""
        begin = max(at, self.start)
        if begin >= self.end:
            return None
        mark = bisect_right(self._marks, begin) - 1
        until = self._marks[mark + 1] if mark + 1 < len(self._marks) else self.end
        until = min((gap for gap in self._gaps if begin < gap < until), default=until)
        place = begin % self._limit
        data = os.pread(self._fd, min(most, until - begin, self._limit - place), place)
        return Piece(self._stream(mark), data, begin + len(data), begin - at + self.missing(begin))

    def missing(self, at: int) -> int:
        """Bytes that were printed at offset `at` and could not be kept."""
        return self._gaps.get(at, 0)

    def newest(self, most: int) -> tuple[bytes, bytes, bool]:
        """The last bytes of standard output and of standard error, at most so many each; whether there were more."""
        # From the end backwards, mark by mark: what is too old is never read.
        found: dict[Stream, list[bytes]] = {"stdout": [], "stderr": []}
        room: dict[Stream, int] = {"stdout": most, "stderr": most}
        until = self.end
        more = self.start > 0 or self.lost > 0
        for mark in range(len(self._marks) - 1, -1, -1):
            begin, stream = max(self._marks[mark], self.start), self._stream(mark)
            if until <= self.start or not (room["stdout"] or room["stderr"]):
                break
            size = min(until - begin, room[stream])
            more = more or size < until - begin
            room[stream] -= size
            found[stream].append(self._all(until - size, until))
            until = begin
        more = more or until > self.start
        return b"".join(reversed(found["stdout"])), b"".join(reversed(found["stderr"])), more

    async def grown(self, at: int) -> None:
        """Returns when there is something at offset `at`, or never will be."""
        while self.end <= at and not self.closed:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiting)
            try:
                await waiting
            finally:
                self._waiting.discard(waiting)

    def close(self) -> None:
        """Nothing more will come."""
        self.closed = True
        self._notify()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """For a reader: a log that is deleted meanwhile stays whole until it has left."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            self._drop()

    def delete(self) -> None:
        """Gives the disk back when the last reader has left."""
        self._deleted = True
        self.close()
        self._drop()

    def _drop(self) -> None:
        if not self._deleted or self._readers or self._dropped:
            return
        self._dropped = True
        self._space.logs -= 1
        self.start = self.end
        self._space.give(self._size)
        self._size = 0
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _all(self, begin: int, end: int) -> bytes:
        pieces = []
        while begin < end:
            place = begin % self._limit
            piece = os.pread(self._fd, min(end - begin, self._limit - place), place)
            pieces.append(piece)
            begin += len(piece)
        return b"".join(pieces)

    def _write(self, data: bytes) -> None:
        if self._fd < 0:
            self._fd = os.open(self._folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        view, at = memoryview(data), self.end
        while view:
            place = at % self._limit
            done = os.pwrite(self._fd, view[: self._limit - place], place)
            view = view[done:]
            at += done

    def _stream(self, mark: int) -> Stream:
        return self._first if mark % 2 == 0 else ("stderr" if self._first == "stdout" else "stdout")

    def _forget(self) -> None:
        """Drops the marks that lie before the start."""
        before = bisect_right(self._marks, self.start) - 1
        self._first = self._stream(before)
        del self._marks[:before]

    def _notify(self) -> None:
        for waiting in self._waiting:
            with contextlib.suppress(asyncio.InvalidStateError):
                waiting.set_result(None)
