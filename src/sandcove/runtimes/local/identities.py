"""The user ids of the host that a sandbox's users have: a range of its own for each sandbox, where the server is root.

The sandbox's folders `root` and `layers` belong to the first id of its range, so the files themselves say which it is.
No two sandboxes of a server have one range while files of both are there. Ids that the server's own user namespace
lacks can't be given; where it has too few, each sandbox gets one.
"""

from __future__ import annotations

import contextlib
import os
import random
from functools import cache
from itertools import chain
from pathlib import Path

from sandcove.errors import HostUnsupportedError, ServiceUnavailableError

__all__ = ["Identities", "plan_ranges", "shift"]

_FIRST = 0x70000000
_NARROW = 0x7F000000
_END = 0x7FFF0000
"""Above what distributions, containers and systemd give away; below what some programs take for negative."""
_SIZE = 0x10000
_NARROW_SIZE = 1024
"""From `_NARROW` on, for when the others are given: what systems and their packages use, and `nobody` as the last."""
_NOBODY = 65534
_SINGLE = range(0x8000, 0xFFFE)
"""Where ids are few: each sandbox has one of these."""
_NEEDED = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
}
"""What it takes to give rooms ids of the host's, with the numbers of capabilities(7)."""


def plan_ranges(uid: int, uid_map: str) -> list[range]:
    """The first ids that sandboxes may have; the step is how many each gets. Empty where none can be given.

    Args:
        uid: the server's user.
        uid_map: its ``/proc/self/uid_map``.
    """
    if uid != 0:
        return []
    ends = [int(inside) + int(count) for inside, _, count in (line.split() for line in uid_map.splitlines())]
    known = max(ends, default=0)
    if known > _FIRST + _SIZE:
        places = [(_FIRST, _NARROW, _SIZE), (_NARROW, _END, _NARROW_SIZE)]
    else:
        places = [(_SINGLE.start, _SINGLE.stop, 1)]
    ranges = [range(first, min(known - size + 1, end), size) for first, end, size in places]
    return [each for each in ranges if each]


class Identities:
    """Which are given to whom.

    Attributes:
        size: how many ids a sandbox has, as long as there are enough; 0 where it has no others than the server's user.
    """

    def __init__(self, uid: int, uid_map: str) -> None:
        self._ranges = plan_ranges(uid, uid_map)
        self.size = self._ranges[0].step if self._ranges else 0
        self._given: set[int] = set()

    @classmethod
    def of_this_process(cls) -> Identities:
        """Those that this process may have been given to give away; see `check`."""
        return cls(os.geteuid(), Path("/proc/self/uid_map").read_text())

    def check(self) -> None:
        """Raises HostUnsupportedError: this process is root and may not do what it takes to give sandboxes ids."""
        if self.size and (lacking := _lacking()):
            raise HostUnsupportedError(
                f"root may not give each sandbox user ids of its own: give the server {', '.join(lacking)}, or run it "
                "as an ordinary user"
            )

    def note(self, folder: Path) -> None:
        """A sandbox's folder is there already; its range is taken."""
        with contextlib.suppress(OSError):
            self._given.add(self.of(folder))

    def of(self, folder: Path) -> int:
        """The first id of the range that the owner of this folder is in: within it the agent could change him.

        Raises:
            OSError: there is no such folder.
        """
        owner = os.lstat(folder).st_uid
        for ids in self._ranges:
            if ids.start <= owner < ids[-1] + ids.step:
                return owner - (owner - ids.start) % ids.step
        return owner

    def take(self) -> int:
        """The first id of a range that no sandbox has.

        Raises:
            ServiceUnavailableError: all are given.
        """
        for ids in self._ranges:
            at = random.randrange(len(ids))  # noqa: S311 - nobody gains by knowing it
            for first in chain(ids[at:], ids[:at]):
                if first not in self._given:
                    self._given.add(first)
                    return first
        most = sum(map(len, self._ranges))
        raise ServiceUnavailableError(
            f"no user ids are left for another sandbox: {most:,} of this server have all of them; destroy some"
        )

    def give_back(self, first: int) -> None:
        """Its sandbox is gone, with all of its files."""
        self._given.discard(first)

    def mapping(self, first: int) -> str:
        """The range that begins so, as ``uid_map`` and ``gid_map`` are written."""
        if self.size == _SIZE and first >= _NARROW:
            users = _NARROW_SIZE - 1
            return f"0 {first} {users}\n{_NOBODY} {first + users} 1\n"
        return f"0 {first} {self.size}"


@cache
def _lacking() -> list[str]:
    """What of `_NEEDED` this process may not do."""
    status = Path("/proc/self/status").read_text().splitlines()
    effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    return [name for name, number in _NEEDED.items() if not effective >> number & 1]


def shift(folder: str, by: int) -> None:
    """Moves the owners of a folder and all in it up by so many ids, its own last; what is above already stays.

    A sandbox made what is in it, and no sandbox runs: links are not followed, and one folder is open at a time, however
    deep it goes.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    here = os.open(folder, flags)
    levels = [_shift_entries(here, by)]
    while levels:
        if levels[-1]:
            below = os.open(levels[-1].pop(), flags, dir_fd=here)
            levels.append(_shift_entries(below, by))
        else:
            levels.pop()
            if not levels:
                break
            below = os.open("..", flags, dir_fd=here)
        os.close(here)
        here = below
    _shift_one(here, ".", by)
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
