"""A tar stream, read in pieces of any size: sans-I/O, no archive is ever held in memory.

Takes what GNU tar, BSD tar and Python write: ustar, the pax extended headers (POSIX.1-2001), and GNU's long names and
binary numbers. Everything else, and everything that is damaged, is an error: the other end is not trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from sandcove.errors import SecurityError

__all__ = ["ArchiveReader", "Entry", "EntryType"]

BLOCK: Final = 512
MAX_EXTENDED_BYTES: Final = 1024 * 1024
"""Longest extended header: it is held in memory."""

EntryType = Literal["file", "folder", "symlink", "hardlink"]

_TYPES: dict[bytes, EntryType] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"5": "folder",
}
_OTHERS = {b"3": "a character device", b"4": "a block device", b"6": "a named pipe"}


@dataclass(slots=True)
class Entry:
    """One member: its name and what links it has, as bytes of the archive; `size` in bytes, `mtime` in seconds."""

    name: bytes
    type: EntryType
    mode: int
    size: int
    mtime: float
    target: bytes


class ArchiveReader:
    """Fed with the stream, gives back entries, each followed by the pieces of its content.

    Attributes:
        ended: the archive's end was reached; what comes after it is skipped.
    """

    def __init__(self) -> None:
        self.ended = False
        self._held = bytearray()
        self._content = 0  # bytes of the current entry's content that are still to come
        self._padding = 0
        self._zeros = 0
        self._extended: tuple[bytes, int] | None = None
        self._extended_data = bytearray()
        self._global: dict[str, bytes] = {}
        self._local: dict[str, bytes] = {}

    def feed(self, data: bytes) -> list[Entry | bytes]:
        """What `data` completes: entries, and pieces of the content of the entry before them.

        Raises:
            SecurityError: the archive is damaged, or has what no folder of files needs (devices, pipes).
        """
        out: list[Entry | bytes] = []
        view = memoryview(data)
        while view and not self.ended:
            if self._content:
                piece = view[: self._content]
                self._content -= len(piece)
                if self._extended is not None:
                    self._extended_data += piece
                else:
                    out.append(bytes(piece))
            elif self._padding:
                piece = view[: self._padding]
                self._padding -= len(piece)
            else:
                piece = view[: BLOCK - len(self._held)]
                self._held += piece
                if len(self._held) == BLOCK:
                    block = bytes(self._held)
                    self._held.clear()
                    self._header(block, out)
            view = view[len(piece) :]
            if self._extended is not None and not self._content and not self._held:
                self._use_extended()
        return out

    def finish(self) -> None:
        """The stream is at its end.

        Raises:
            SecurityError: the archive is not: something is missing.
        """
        if not self.ended:
            raise SecurityError("the archive is cut short")

    def _header(self, block: bytes, out: list[Entry | bytes]) -> None:
        if not block.strip(b"\0"):
            self._zeros += 1
            self.ended = self._zeros == 2
            return
        self._zeros = 0
        total = sum(block) - sum(block[148:156]) + 8 * 32
        if _number(block[148:156]) != total:
            raise SecurityError("the archive is damaged: the checksum of a header is wrong")
        kind = block[156:157]
        size = _number(block[124:136])
        if kind in (b"x", b"g", b"L", b"K"):
            if not 0 <= size <= MAX_EXTENDED_BYTES:
                raise SecurityError(f"the archive has an extended header of {size:,} bytes")
            self._extended = (kind, size)
            self._content, self._padding = size, -size % BLOCK
            return
        out.append(self._entry(block, kind, size))

    def _entry(self, block: bytes, kind: bytes, size: int) -> Entry:
        extended = {**self._global, **self._local}
        self._local = {}
        name = block[:100].rstrip(b"\0").split(b"\0")[0]
        if block[257:263] == b"ustar\0" and (prefix := block[345:500].split(b"\0")[0]):
            name = prefix + b"/" + name
        name = extended.get("path", name)
        if any(key.startswith("GNU.sparse") for key in extended):
            raise SecurityError(f"the archive has a sparse file, {name!r}, which is not supported")
        what = _TYPES.get(kind)
        if what is None:
            raise SecurityError(f"the archive has {_OTHERS.get(kind, f'an entry of type {kind!r}')}, {name!r}")
        if what == "file" and name.endswith(b"/"):
            what = "folder"  # as the first tar wrote them
        size = _decimal(extended["size"]) if "size" in extended else size
        if size < 0:
            raise SecurityError(f"the archive has an entry of negative size, {name!r}")
        self._content = size if what == "file" else 0
        self._padding = -self._content % BLOCK
        mtime = float(_number(block[136:148]))
        if "mtime" in extended:
            mtime = _seconds(extended["mtime"])
        target = extended.get("linkpath", block[157:257].split(b"\0")[0])
        return Entry(name, what, _number(block[100:108]), self._content, mtime, target)

    def _use_extended(self) -> None:
        if self._extended is None:
            return
        kind, _ = self._extended
        data = bytes(self._extended_data)
        self._extended = None
        self._extended_data.clear()
        if kind == b"L":
            self._local["path"] = data.split(b"\0")[0]
        elif kind == b"K":
            self._local["linkpath"] = data.split(b"\0")[0]
        else:
            (self._global if kind == b"g" else self._local).update(_pax_records(data))


def _pax_records(data: bytes) -> dict[str, bytes]:
    """The ``length key=value`` lines of a pax extended header; the length counts the whole line."""
    records: dict[str, bytes] = {}
    while data:
        digits, space, _ = data.partition(b" ")
        length = _decimal(digits)
        record = data[len(digits) + 1 : length]
        key, equals, value = record[:-1].partition(b"=")
        if not space or not equals or length > len(data) or not record.endswith(b"\n"):
            raise SecurityError("the archive is damaged: a pax header is malformed")
        records[key.decode("utf-8", "replace")] = value
        data = data[length:]
    return records


def _number(field: bytes) -> int:
    """A header's number: octal digits, or GNU's big-endian binary after a byte of 0x80 (0xff when negative)."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    digits = field.strip(b" \0")
    if digits and digits.strip(b"01234567"):
        raise SecurityError("the archive is damaged: a number in a header is no number")
    return int(digits or b"0", 8)


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise SecurityError("the archive is damaged: a number in a pax header is no number")
    return int(text)


def _seconds(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        raise SecurityError("the archive is damaged: a time in a pax header is no number") from None
