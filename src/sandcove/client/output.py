"""Output of a command, as text or as the exact bytes; collected up to a limit where it is streamed to callbacks."""

from __future__ import annotations

import base64
from typing import Final

from sandcove.errors import SandboxNetworkError

__all__ = ["MAX_COLLECTED", "Output", "exact"]

MAX_COLLECTED: Final = 32 * 1024 * 1024
"""Bytes, or characters of text, that are collected of each of stdout and stderr; the callbacks get all of it."""


def exact(text: str, base64_bytes: str | None) -> bytes:
    """The bytes that were printed: the wire has them in base64 where `text` is not exactly them.

    Raises:
        SandboxNetworkError: what should be base64 is none.
    """
    try:
        return text.encode() if base64_bytes is None else base64.b64decode(base64_bytes)
    except ValueError as error:
        raise SandboxNetworkError(f"the other end's answer is not what this client understands: {error}") from None


class Output:
    """What one of a command's streams printed so far, as text or as bytes."""

    def __init__(self, text: bool) -> None:
        self.truncated = False
        self._text: list[str] = []
        self._bytes: list[bytes] = []
        self._as_text = text
        self._size = 0

    def add(self, piece: str | bytes) -> None:
        """Keeps `piece`, or as much of it as the limit leaves room for."""
        room = MAX_COLLECTED - self._size
        if len(piece) > room:
            self.truncated = True
            piece = piece[:room]
        self._size += len(piece)
        if isinstance(piece, str):
            self._text.append(piece)
        else:
            self._bytes.append(piece)

    def value(self) -> str | bytes:
        """All of it."""
        return "".join(self._text) if self._as_text else b"".join(self._bytes)
