"""A stream of lines, put together from pieces that are cut anywhere."""

from __future__ import annotations

from typing import Final

from sandcove.errors import SandboxNetworkError

__all__ = ["MAX_LINE_BYTES", "LineDecoder"]

MAX_LINE_BYTES: Final = 80 * 1024 * 1024
"""Longest line that a decoder takes: it is held in memory until it is whole. A kernel's longest message fits."""


class LineDecoder:
    """Takes the bytes of a stream in pieces of any size and returns the lines that each piece completes.

    A line that the stream's end cuts off (no line end after it) is dropped.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._limit = max_line_bytes
        self._held = 0
        self._line: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that `piece` completes, without their ends and without the empty ones, which are heartbeats.

        Raises:
            SandboxNetworkError: a line is longer than the limit.
        """
        lines = piece.split(b"\n")
        rest = lines.pop()
        if self._line and lines:
            self._line.append(lines[0])
            lines[0] = b"".join(self._line)
            self._line.clear()
            self._held = 0
        if rest:
            self._line.append(rest)
            self._held += len(rest)
        if self._held > self._limit or any(len(line) > self._limit for line in lines):
            raise SandboxNetworkError(f"a line of the stream is longer than {self._limit:,} bytes")
        return [line for line in lines if line]
