"""A local file that is being downloaded: it appears under its name when all of it is there, or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sandcove.errors import InvalidRequestError

__all__ = ["IncomingFile", "permission_bits"]


class IncomingFile:
    """Takes the content in pieces. `commit` puts the file in place; `discard`, called in any case, drops the rest."""

    def __init__(self, path: Path, mode: int) -> None:
        if path.is_dir():
            raise InvalidRequestError(f"{path} is a folder; give the path that the file shall have")
        if not path.parent.is_dir():
            raise InvalidRequestError(f"there is no folder {path.parent} to download into; make it first")
        self._path = path
        self._mode = mode
        self._partial = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.part")
        self._fd = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def commit(self) -> None:
        os.fchmod(self._fd, self._mode)
        os.replace(self._partial, self._path)
        os.close(self._fd)
        self._fd = -1

    def discard(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._partial.unlink(missing_ok=True)


def permission_bits(mode: str) -> int:
    """``rwxr-x---`` as 0o750; setuid, setgid and sticky bits are dropped."""
    bits = 0
    for letter in mode[-9:]:
        bits = bits << 1 | (letter not in "-ST")
    return bits
