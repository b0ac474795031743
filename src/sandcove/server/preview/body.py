"""Bodies by how their end is told: bytes of the connection in, bytes of the body out. No I/O."""

from __future__ import annotations

import re
from typing import Protocol

from sandcove.server.preview.head import MAX_FIELDS, Headers, Refused, fields

__all__ = ["Body", "Chunked", "Length", "UntilClose", "framed", "last_chunk"]

MAX_LINE = 4096
"""Bytes of a chunk's size with its extensions, at most."""
MAX_TRAILERS = 16 * 1024
"""Bytes of all of them, at most; their number is bounded as that of a head's."""

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")


class Body(Protocol):
    """Of a request or an answer.

    Attributes:
        done: it is at its end.
        trailers: what came after a chunked one.
    """

    done: bool
    trailers: Headers

    def feed(self, data: bytes, out: list[bytes]) -> bytes:
        """Appends what `data` has of the body to `out`; returns what lies behind its end.

        Raises:
            Refused: 400, it is wrong.
        """


class Length:
    """A body of so many bytes."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = not length
        self.trailers: Headers = []

    def feed(self, data: bytes, out: list[bytes]) -> bytes:
        if len(data) < self._left:
            self._left -= len(data)
            out.append(data)
            return b""
        rest = data[self._left :]
        if self._left:
            out.append(data[: self._left] if rest else data)
            self._left = 0
        self.done = True
        return rest


class UntilClose:
    """A body that ends with the connection."""

    def __init__(self) -> None:
        self.done = False
        self.trailers: Headers = []

    def feed(self, data: bytes, out: list[bytes]) -> bytes:
        out.append(data)
        return b""


class Chunked:
    """A body in chunks. Their extensions are dropped."""

    def __init__(self) -> None:
        self.done = False
        self.trailers: Headers = []
        self._left = 0
        self._trailing = 0
        self._line = b""
        self._expect = self._size

    def feed(self, data: bytes, out: list[bytes]) -> bytes:
        at = 0
        while at < len(data) and not self.done:
            if self._left:
                piece = data[at : at + self._left]
                out.append(piece)
                self._left -= len(piece)
                at += len(piece)
            else:
                at = self._expect(data, at)
        return data[at:] if self.done else b""

    def _take_line(self, data: bytes, at: int, limit: int) -> tuple[bytes | None, int]:
        """The line that ends in `data`, without its line break, and where the next begins."""
        end = data.find(b"\n", at)
        piece = data[at:] if end < 0 else data[at : end + 1]
        self._line += piece
        if len(self._line) > limit:
            raise Refused(400, "a chunk's size or the trailers are too long")
        if end < 0:
            return None, len(data)
        line, self._line = self._line, b""
        if not line.endswith(b"\r\n"):
            raise Refused(400, "a chunked body has a bare line break")
        return line[:-2], end + 1

    def _size(self, data: bytes, at: int) -> int:
        line, at = self._take_line(data, at, MAX_LINE)
        if line is not None:
            match = _SIZE.fullmatch(line)
            if match is None:
                raise Refused(400, "the size of a chunk is wrong")
            self._left = int(match[1], 16)
            self._expect = self._after if self._left else self._trailer
        return at

    def _after(self, data: bytes, at: int) -> int:
        line, at = self._take_line(data, at, 2)
        if line is not None:
            if line:
                raise Refused(400, "a chunk is longer than its size says")
            self._expect = self._size
        return at

    def _trailer(self, data: bytes, at: int) -> int:
        line, at = self._take_line(data, at, MAX_TRAILERS)
        if line == b"":
            self.done = True
        elif line is not None:
            self.trailers += fields(line)
            self._trailing += len(line)
            if self._trailing > MAX_TRAILERS or len(self.trailers) > MAX_FIELDS:
                raise Refused(400, "the trailers are too long")
        return at


def framed(pieces: list[bytes]) -> list[bytes]:
    """The pieces, none empty, as one chunk."""
    size = sum(map(len, pieces))
    return [b"%x\r\n" % size, *pieces, b"\r\n"] if size else []


def last_chunk(trailers: Headers) -> bytes:
    return b"0\r\n" + b"".join(b"%b: %b\r\n" % field for field in trailers) + b"\r\n"
