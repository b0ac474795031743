"""The user ids of the host that a sandbox's users have: a range of its own for each sandbox, where the server is root.

The sandbox's root folder belongs to the first id of its range, so the files themselves say which it is. Ids that the
server's own user namespace lacks can't be given; where it has too few, each sandbox gets one.
"""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

__all__ = ["Identities", "plan_ranges", "shift"]

_FIRST = 0x70000000
_END = 0x7FFF0000
"""Above what distributions, containers and systemd give away; below what some programs take for negative."""
_SIZE = 0x10000
_SMALL = range(0x8000, 0xFFFE)
"""Where ids are few: each sandbox has one of these."""


def plan_ranges(uid: int, uid_map: str) -> tuple[range, int]:
    """The first ids that sandboxes may have, and how many each gets; an empty range where none can be given.

    Args:
        uid: the server's user.
        uid_map: its ``/proc/self/uid_map``.
    """
    if uid != 0:
        return range(0), 0
    ends = [int(inside) + int(count) for inside, _, count in (line.split() for line in uid_map.splitlines())]
    known = max(ends, default=0)
    if known > _FIRST + _SIZE:
        return range(_FIRST, min(known - _SIZE + 1, _END), _SIZE), _SIZE
    return range(_SMALL.start, max(_SMALL.start, min(known, _SMALL.stop))), 1


class Identities:
    """Which are given to whom.

    Attributes:
        size: how many ids a sandbox has; 0 where it has no others than the server's user.
    """

    def __init__(self, uid: int, uid_map: str) -> None:
        self._free, self.size = plan_ranges(uid, uid_map)
        if not self._free:
            self.size = 0
        self._given: set[int] = set()

    def note(self, root: Path) -> None:
        """A sandbox's root folder is there already; its range is taken."""
        with contextlib.suppress(OSError):
            self._given.add(self.of(root))

    def of(self, root: Path) -> int:
        """The first id of the range that the owner of this root folder is in: within it the agent could change him.

        Raises:
            OSError: there is no such folder.
        """
        owner = os.lstat(root).st_uid
        return owner if owner < _FIRST else owner - (owner - _FIRST) % _SIZE

    def take(self) -> int:
        """The first id of a range that no sandbox has; when all are given, of one that is shared."""
        at = random.randrange(len(self._free))  # noqa: S311 - nobody gains by knowing it
        for step in range(len(self._free)):
            first = self._free[(at + step) % len(self._free)]
            if first not in self._given:
                break
        else:
            first = self._free[at]
        self._given.add(first)
        return first

    def give_back(self, first: int) -> None:
        """Its sandbox is gone."""
        self._given.discard(first)


def shift(folder: str, by: int) -> None:
    """Moves the owners of a folder and all in it up by so many ids; what is above already stays.

    A sandbox made what is in it, and no sandbox runs: links are not followed, and one folder is open at a time, however
    deep it goes.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    here = os.open(folder, flags)
    _shift_one(here, ".", by)
    levels = [_shift_entries(here, by)]
    while levels:
        if levels[-1]:
            below = os.open(levels[-1].pop(), flags, dir_fd=here)
            levels.append(_shift_entries(below, by))
        else:
            levels.pop()
            below = os.open("..", flags, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def _shift_entries(folder: int, by: int) -> list[str]:
    """Those of a folder's entries; gives the names of the folders among them."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, _ in found:
        _shift_one(folder, name, by)
    return [name for name, is_folder in found if is_folder]


def _shift_one(folder: int, name: str, by: int) -> None:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    uid, gid = (old if old >= by else old + by for old in (status.st_uid, status.st_gid))
    os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
