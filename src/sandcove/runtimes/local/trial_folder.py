"""The folders in which `doctor` tries out what a disk can: locked by their maker, so that a dead one's can be told.

The kernel lets go of the lock when the maker has died, and the fork of its trial, in whose namespaces the mounts are.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from sandcove.home import Home
from sandcove.runtimes.local.claims import claim
from sandcove.trees import delete_tree

__all__ = ["clear_left", "trial_folder"]

_NAME = re.compile(r"\.doctor-[0-9a-f]{16}")


@contextlib.contextmanager
def trial_folder() -> Iterator[Path]:
    """A new folder on the file system of Sandcove's folder, whether that is there yet or not.

    What killed doctors have left, there or above, is deleted first.

    Raises:
        HostUnsupportedError, OSError: it can't be made.
    """
    place = Home.default().path
    while not place.is_dir():
        place = place.parent
    for each in (place, *place.parents):  # Sandcove's folder may not have been there yet
        clear_left(each)
    folder = place / f".doctor-{os.urandom(8).hex()}"
    lock = claim(folder, 0o700)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            delete_tree(folder)
        os.close(lock)


def clear_left(place: Path) -> None:
    """Deletes the folders in `place` whose doctor is dead; what can't be deleted stays."""
    with contextlib.suppress(OSError):
        if not _is_trusted(place):
            return
        for name in os.listdir(place):
            if _NAME.fullmatch(name):
                with contextlib.suppress(OSError):
                    _clear(place / name)


def _clear(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_uid == os.geteuid():
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            delete_tree(folder)
    finally:
        os.close(fd)


def _is_trusted(place: Path) -> bool:
    """Nobody else could have given a folder of this user's such a name there."""
    status = place.stat()
    others = not status.st_mode & stat.S_ISVTX and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid in (0, os.geteuid()) and not others
