"""Keeps some of the disk free, whatever sandboxes write and however many there are; and some descriptors.

What rooms may have is measured, and that takes its time; how much is free is known at once. The nearer it comes to the
reserve, the more often it is looked at. When there is less, no sandbox is made, and a room whose processes still write
more than a small part of the reserve ends: its files stay, and the next call wakes it, so that some can be deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
from collections.abc import Callable, Iterable
from pathlib import Path

from sandcove import linux
from sandcove.errors import ServiceUnavailableError
from sandcove.runtimes.local.room import LocalRoom
from sandcove.waiting import cancelled, lasting

__all__ = ["Reserve", "automatic", "check_descriptors"]

AUTO = 1024 * 1024 * 1024
AUTO_PART = 20
OFTEN, SELDOM = 0.02, 0.5
"""Seconds between two looks."""
FASTEST = 4 * 1024 * 1024 * 1024
"""Bytes a second that are not written faster."""
LEAST = 1024 * 1024
"""Bytes that a room may write when there is less than the reserve; more where that is large and the rooms are few."""

ROOMS_PART = 1 / 2
"""Of the descriptors that this process may have, how many may be in use when a room is made. The connections of
sandboxes to the outside have three eighths at most, so that some are left for callers whatever sandboxes do."""

_log = logging.getLogger("sandcove.runtime")


def automatic(disk: os.statvfs_result) -> int:
    """Bytes of a disk that are kept free where nothing else is said: 1 GiB, or a twentieth of it if that is less."""
    return min(AUTO, disk.f_blocks * disk.f_frsize // AUTO_PART)


def check_descriptors() -> None:
    """Raises `ServiceUnavailableError` when no room can be made, since nearly all descriptors are in use."""
    most, used = resource.getrlimit(resource.RLIMIT_NOFILE)[0], linux.open_files()
    if used >= most * ROOMS_PART:
        raise ServiceUnavailableError(
            f"the server has {used:,} of the {most:,} descriptors that it may have in use, and keeps the rest for its "
            "callers: no sandbox can be made or woken; put some to sleep, or have the operator raise the server's "
            "limit of open files (LimitNOFILE, ulimit -n)"
        )


class Reserve:
    """That of one server.

    Args:
        path: a folder of the file system.
        size: bytes; 0: none are kept free; -1: see `automatic`.
        rooms: gives those that there are.
    """

    def __init__(
        self,
        path: Path,
        size: int,
        rooms: Callable[[], Iterable[LocalRoom]],
    ) -> None:
        self._path = path
        self._size = size
        self._rooms = rooms
        self._begun: dict[LocalRoom, dict[int, int]] = {}
        """Of each room's processes, what they had written when the disk was first seen low."""
        self._now: dict[LocalRoom, dict[int, int]] = {}
        self._low = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look."""
        if self._size < 0:
            self._size = automatic(os.statvfs(self._path))
        if self._size:
            self._task = asyncio.ensure_future(lasting(self._watch, _log))

    async def close(self) -> None:
        """Ends that."""
        await cancelled(self._task)

    def check(self) -> None:
        """Raises `ServiceUnavailableError` when no sandbox can be made, since the disk is nearly full."""
        free = self._free()
        if self._size and free < self._size:
            raise ServiceUnavailableError(
                f"the server's disk has {free:,} bytes left, less than the {self._size:,} that it keeps free "
                "(disk_reserve); destroy some sandboxes, or delete what they do not need"
            )

    def _free(self) -> int:
        disk = os.statvfs(self._path)
        return disk.f_bavail * disk.f_frsize

    async def _watch(self) -> None:
        while True:
            free = self._free()
            low = free < self._size
            if low != self._low:
                self._low = low
                self._begun.clear()
                self._now.clear()
                _log.warning("the disk has %s", "less free than the reserve" if low else "its reserve again")
            if low:
                self._relieve()
            await asyncio.sleep(min(SELDOM, max(OFTEN, (free - self._size) / FASTEST)))

    def _relieve(self) -> None:
        """Ends the rooms that write."""
        rooms = [room for room in self._rooms() if room.holds]
        most = max(LEAST, self._size // (4 * max(4, len(rooms))))
        by_namespace = _processes() if any(room.group is None for room in rooms) else {}
        for room in rooms:
            if room.group is not None:
                pids = room.group.every_pid()
            else:
                pids = [pid for each in room.user_namespaces() for pid in by_namespace.get(each, ())]
            written = self._written(room, pids)
            if written > most:
                _log.warning("sandbox %s wrote %d bytes while the disk was nearly full", room.spec.sandbox_id, written)
                room.let_go(
                    f"the server's disk was nearly full, and it wrote {written:,} bytes more; delete some files"
                )

    def _written(self, room: LocalRoom, pids: list[int]) -> int:
        """Bytes since the disk was first seen low, as far as its processes were seen; those that are gone count too."""
        seen = self._now.setdefault(room, {})
        for pid in pids:
            with contextlib.suppress(OSError, ValueError):
                text = Path(f"/proc/{pid}/io").read_text()
                seen[pid] = int(text.partition("\nwrite_bytes: ")[2].partition("\n")[0])
        if room not in self._begun:
            self._begun[room] = dict(seen)
        begun = self._begun[room]
        return sum(max(0, count - begun.get(pid, 0)) for pid, count in seen.items())


def _processes() -> dict[int, list[int]]:
    """All of this machine by their user namespace."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                found.setdefault(os.stat(f"/proc/{name}/ns/user").st_ino, []).append(int(name))
    return found
