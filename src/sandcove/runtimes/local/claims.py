"""Whose control groups are whose: a server holds a lock on the folder of its groups for as long as it lives.

The kernel lets go of it with the process. So whoever finds such a folder can tell whether its server is dead, and clear
it, whatever has become of that one's home.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["claim", "clear", "folder_name", "removed", "sweep"]

_DIGITS = 16
_NAME = re.compile(rf"sandcove-[0-9a-f]{{{_DIGITS}}}")
_TRIES = 10
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def folder_name(home: Path) -> str:
    """Of the groups of this home's server. Other folders of its begin with this and a hyphen."""
    return f"sandcove-{hashlib.sha256(os.fsencode(home)).hexdigest()[:_DIGITS]}"


def claim(folder: Path, mode: int = 0o777) -> int:
    """Makes the folder with this mode, if it is not there; it is the caller's until the descriptor is closed.

    Raises:
        OSError: it can't be made.
    """
    for _ in range(_TRIES):
        folder.mkdir(mode, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(folder, _FLAGS)
            fcntl.flock(fd, fcntl.LOCK_SH)
            # Somebody who saw it before it was claimed may have removed it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(folder)):
                    return fd
            os.close(fd)
    raise FileNotFoundError(f"{folder} is removed as soon as it is made")


def sweep(parents: Iterable[Path]) -> None:
    """Removes all groups in these folders whose server is dead."""
    for parent in parents:
        for folder in parent.glob("sandcove-*"):
            if _NAME.fullmatch(folder.name):
                clear(folder)


def clear(folder: Path) -> bool:
    """Removes a server's groups if it is dead; those in which a process is stay: False then."""
    try:
        fd = os.open(folder, _FLAGS)
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The claimed folder last: by it others are found.
        gone = [
            removed(Path(each))
            for top in (*folder.parent.glob(f"{folder.name}-*"), *folder.glob("*/"))
            for each, _, _ in os.walk(top, topdown=False)
        ]
        return all(gone) and removed(folder)
    except OSError:
        return True  # its server lives
    finally:
        os.close(fd)


def removed(folder: Path) -> bool:
    """Removes a group without groups; False if a process is in it."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
