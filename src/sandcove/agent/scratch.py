"""The agent's small files in folders that user code can write too: whatever lies there, reading and writing them ends.

A FIFO in a file's place would hold the agent for ever, a link or a sparse giant would fill its memory. So: no link is
followed, only regular files of a bounded size are read, and a file is written anew beside its place and renamed to it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

__all__ = ["read", "replace"]

MAX_BYTES = 16 * 1024 * 1024


def read(path: Path) -> tuple[bytes, int]:
    """A file's content and its modification time in nanoseconds; empty and 0 if it is none of ours."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b"", 0
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            return b"", 0
        return file.read(MAX_BYTES), status.st_mtime_ns


def replace(path: Path, data: bytes) -> None:
    """Puts a file with this content in its place in one step. Missing folders are made.

    Raises:
        OSError: a folder is in its place, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)  # of an agent that was killed here
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
        os.rename(new, path)
    except OSError:
        os.unlink(new)
        raise
