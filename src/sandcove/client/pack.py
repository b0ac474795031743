"""A local folder as a tar stream, made while it is sent: memory stays flat at any size."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator

from sandcove.client.results import log
from sandcove.errors import InvalidRequestError

__all__ = ["pack_folder", "read_file"]

CHUNK = 1024 * 1024
_BLOCK = 512


def read_file(path: str, size: int) -> Iterator[bytes]:
    """Yields exactly `size` bytes of the file.

    Raises:
        InvalidRequestError: it became shorter meanwhile.
    """
    with open(path, "rb", buffering=0) as file:
        left = size
        while left:
            piece = file.read(min(CHUNK, left))
            if not piece:
                raise InvalidRequestError(f"{path} became shorter while it was read; try again")
            left -= len(piece)
            yield piece


def pack_folder(root: str) -> Iterator[bytes]:
    """Yields the tar stream of what is in the folder `root`, names relative to it, in a stable order.

    Symlinks stay symlinks. Sockets, named pipes and devices are left out, with a warning in the log.
    """
    pending = bytearray()
    for path, name, info in _walk(root):
        pending += _header(path, name, info)
        if stat.S_ISREG(info.st_mode):
            for piece in read_file(path, info.st_size):
                # Small files go together: each piece that leaves here costs a system call.
                pending += piece
                if len(pending) >= CHUNK:
                    yield bytes(pending)
                    pending.clear()
            pending += bytes(-info.st_size % _BLOCK)
        if len(pending) >= CHUNK:
            yield bytes(pending)
            pending.clear()
    yield bytes(pending) + bytes(2 * _BLOCK)


def _walk(root: str) -> Iterator[tuple[str, str, os.stat_result]]:
    """Every entry below `root`, a folder before what is in it: path, name in the archive, what it is."""
    yield root, ".", os.stat(root)
    folders = [(root, "")]
    while folders:
        folder, above = folders.pop()
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            name = above + entry.name
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                folders.append((entry.path, name + "/"))
            elif not (stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode)):
                log.warning("left out %s: it is no file, folder or symlink", entry.path)
                continue
            yield entry.path, name, info


def _header(path: str, name: str, info: os.stat_result) -> bytes:
    header = tarfile.TarInfo(name)
    header.mode = stat.S_IMODE(info.st_mode) & 0o777
    header.mtime = int(info.st_mtime)
    if stat.S_ISDIR(info.st_mode):
        header.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(info.st_mode):
        header.type = tarfile.SYMTYPE
        header.linkname = os.readlink(path)
    else:
        header.size = info.st_size
    return header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
