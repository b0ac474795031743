"""Server-sent events (the WHATWG stream format): an encoder, and a decoder that is right however the bytes are cut.

Both are made for output streams: data of up to megabytes an event, no work done for each byte.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sandcove.errors import SandboxNetworkError

__all__ = ["MAX_EVENT_BYTES", "SseDecoder", "SseEvent", "encode_comment", "encode_event"]

MAX_EVENT_BYTES: Final = 64 * 1024 * 1024
"""Longest event that a decoder takes: it is held in memory until it is whole."""

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM: Final = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """One event: its data as bytes of UTF-8, its type (``message`` when none was given) and the last id given."""

    data: bytes
    event: str = "message"
    id: str = ""


def encode_event(data: bytes) -> bytes:
    """One event with this data, as a rule one JSON object in UTF-8."""
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(_LINE_END.split(data))
    return b"data: %b\n\n" % data


def encode_comment(text: bytes = b"") -> bytes:
    """A comment, which readers skip: keeps a silent connection alive. `text` has no line break."""
    return b": %b\n\n" % text


class SseDecoder:
    """Takes the bytes of a stream in pieces of any size and returns the events that each piece completes.

    An event that the stream's end cuts off (no blank line after it) is dropped, as the format says.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._limit = max_event_bytes
        self._held = self._line_held = 0
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._event = ""
        self._id = ""
        self._after_cr = False
        self._start: bytes | None = b""

    def feed(self, piece: bytes) -> list[SseEvent]:
        """The events that `piece` completes.

        Raises:
            SandboxNetworkError: an event is longer than the limit.
        """
        if self._start is not None:
            piece = self._start + piece
            if len(piece) < len(_BOM) and _BOM.startswith(piece):
                self._start = piece
                return []
            self._start = None
            piece = piece.removeprefix(_BOM)
        if not piece:
            return []
        if self._after_cr:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        if b"\r" in piece:
            # A CR at the very end is a line end already; the LF that may follow belongs to it.
            self._after_cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events: list[SseEvent] = []
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            line = piece[start:end]
            if self._line:
                self._line.append(line)
                line = b"".join(self._line)
                self._line.clear()
                self._line_held = 0
            start = end + 1
            if line:
                self._field(line)
            else:
                self._dispatch(events)
        if start < len(piece):
            self._line_held += len(piece) - start
            self._line.append(piece[start:] if start else piece)
            self._check_limit(self._held + self._line_held)
        return events

    def _field(self, line: bytes) -> None:
        self._check_limit(self._held + len(line))
        if line.startswith(b"data:"):
            self._held += len(line)
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._held += len(line)
            self._data.append(b"")
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")

    def _dispatch(self, events: list[SseEvent]) -> None:
        if self._data:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            events.append(SseEvent(data, self._event or "message", self._id))
            self._data.clear()
        self._event = ""
        self._held = 0

    def _check_limit(self, held: int) -> None:
        if held > self._limit:
            raise SandboxNetworkError(f"an event of the stream is longer than {self._limit:,} bytes")
