"""Logs that have grown are put aside: ``x.log`` as ``x.log.1``, the one before as ``x.log.2``, and so on."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["KEPT", "MAX_SIZE", "put_aside", "shift"]

MAX_SIZE = 16 * 1024 * 1024
"""Bytes at which a log is put aside."""
KEPT = 4
"""Files put aside that are kept: ``x.log.1``, the newest, and on."""


def shift(log: Path) -> Path:
    """Where the log can be put aside: those before it get the next number, and the oldest is deleted."""
    for number in range(KEPT, 1, -1):
        with contextlib.suppress(FileNotFoundError):
            _numbered(log, number - 1).rename(_numbered(log, number))
    return _numbered(log, 1)


def put_aside(log: Path, appending: int) -> None:
    """Puts a copy of the log aside and empties it: whoever else appends to it goes on at its new beginning.

    Args:
        appending: a descriptor of the log.

    Raises:
        OSError: it can't be copied, or is not that file any more; then nothing has changed.
    """
    copy = log.with_name(f"{log.name}.new")
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with (
            open(os.open(log, os.O_RDONLY | flags), "rb", buffering=0) as source,
            open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags, 0o600), "wb", buffering=0) as target,
        ):
            if not os.path.samestat(os.fstat(source.fileno()), os.fstat(appending)):
                raise FileNotFoundError(f"{log} is another file now")
            while os.sendfile(target.fileno(), source.fileno(), None, MAX_SIZE):
                pass
        copy.rename(shift(log))
        os.ftruncate(appending, 0)
    finally:
        copy.unlink(missing_ok=True)


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
