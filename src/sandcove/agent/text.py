"""Bytes that a program printed, as text for JSON: no character split, and the exact bytes where text is not enough."""

from __future__ import annotations

import base64
import codecs

__all__ = ["Text", "whole"]


_PIECE = 64 * 1024


class Text:
    """Bytes of a stream as text, chunk by chunk, no character split.

    `feed` and `end` give the text and, only where it is not exactly the bytes, the bytes in base64.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = b""

    @property
    def held(self) -> int:
        """Bytes that were fed and not given yet: the beginning of a character."""
        return len(self._held)

    def feed(self, chunk: bytes, final: bool = False) -> tuple[str, str | None]:
        data = self._held + chunk if self._held else chunk
        text = self._decoder.decode(chunk, final)
        self._held, _ = self._decoder.getstate()
        if "\ufffd" in text:
            used = data[: len(data) - len(self._held)]
            if text.encode() != used:
                return text, base64.b64encode(used).decode()
        return text, None

    def end(self) -> tuple[str, str | None]:
        """What is left: the beginning of a character that never ended."""
        return self.feed(b"", final=True)


def whole(data: bytes) -> tuple[str, str | None]:
    """All that was printed, at once."""
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        # Piece by piece: what is no text takes long to decode, and holds up all other threads meanwhile.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        pieces = [decoder.decode(data[at : at + _PIECE]) for at in range(0, len(data), _PIECE)]
        return "".join(pieces) + decoder.decode(b"", final=True), base64.b64encode(data).decode()
