"""A command's standard input, whatever it is given as, read in pieces of bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from sandcove.client.check import wrong
from sandcove.errors import InvalidRequestError

__all__ = ["INLINE", "PIECE", "Readable", "Source", "encoded"]

INLINE: Final = 1024 * 1024
"""Bytes up to which it goes in the command's request; what is longer is sent ahead."""
PIECE: Final = 256 * 1024
"""Bytes, or characters, that are asked of a file at once; small items of an iterable are put together to as many."""


class Readable(Protocol):
    """A file object, binary or text."""

    def read(self, size: int, /) -> str | bytes: ...


class Source:
    """Text, bytes, a file object or an iterable of text or bytes, to be read once.

    Attributes:
        blocks: reading it can take time.

    Raises:
        InvalidRequestError: it is none of these.
    """

    def __init__(self, value: object) -> None:
        self._pieces: Iterator[object]
        self.blocks = not isinstance(value, str | bytes | bytearray | memoryview | list | tuple)
        if isinstance(value, str | bytes):
            self._pieces = _cut(value)
        elif isinstance(value, bytearray | memoryview):
            view = memoryview(value)
            self._pieces = _cut(view.cast("B") if view.c_contiguous else view.tobytes())
        elif callable(read := getattr(value, "read", None)):
            self._pieces = _until_empty(read)
        elif isinstance(value, Iterable):
            self._pieces = iter(value)
        else:
            raise wrong("stdin", "a str, bytes, a file object or an iterable of str or bytes", value)

    def read(self) -> bytes:
        """The next bytes, none at the end. Blocks as its file or iterable does.

        Raises:
            InvalidRequestError: the file or iterable gave something that is no text or bytes.
        """
        found: list[bytes] = []
        size = 0
        for piece in self._pieces:
            data = encoded(piece)
            found.append(data)
            size += len(data)
            if size >= PIECE:
                break
        return found[0] if len(found) == 1 else b"".join(found)


def encoded(piece: object) -> bytes:
    """Text as UTF-8, bytes as they are.

    Raises:
        InvalidRequestError: it is neither, or no UTF-8 can have it.
    """
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, bytearray | memoryview):
        return bytes(piece)
    if not isinstance(piece, str):
        raise wrong("a piece of stdin", "a str or bytes", piece)
    try:
        return piece.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError("stdin has a character that UTF-8 can't encode") from None


def _cut(value: str | bytes | memoryview) -> Iterator[str | bytes | memoryview]:
    return iter([value]) if len(value) <= PIECE else (value[i : i + PIECE] for i in range(0, len(value), PIECE))


def _until_empty(read: Callable[[int], object]) -> Iterator[object]:
    while piece := read(PIECE):
        yield piece
