"""Ends rooms whose files take more of the disk than they may.

No file system that Sandcove can count on limits a folder. So usage is measured: not at fixed times, but when the free
space of the file system has changed, by a process of its own, and seldom where that takes long. A room can pass its
limit by what it writes in between; no single file can, see RLIMIT_FSIZE.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
import weakref
from asyncio.subprocess import PIPE
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from sandcove.runtimes.local import measure
from sandcove.runtimes.local.room import LocalRoom
from sandcove.waiting import cancelled, lasting

__all__ = ["DiskWatch", "in_turn"]

LOOK_EVERY = 0.5
"""Seconds between two looks at the file system's free space, while rooms run."""
STEP_BYTES = 64 * 1024 * 1024
STEP_FILES = 5000
"""By how much it must have changed to measure anew, or by this part of the least limit."""
STEP_PART = 8
AT_LEAST_EVERY = 60.0
"""Seconds after which it is measured anew in any case: what one writes another may have deleted."""
REST = 4
"""So many times as long as it took, the next measurement waits."""
SLACK = 16 * 1024 * 1024
SLACK_FILES = 1000
"""Bytes and files that a room may still add that was over its limit when it woke: to delete takes some."""
GRACE = 60.0
"""Seconds that one may live whose files can't be counted, and could not when it woke."""
LONGEST = 120.0
"""Seconds for one measurement of all."""

R = TypeVar("R")
_log = logging.getLogger("sandcove.runtime")


class DiskWatch:
    """Watches the rooms of one server.

    Args:
        path: a folder of their file system.
        rooms: gives those that there are.
    """

    def __init__(self, path: Path, rooms: Callable[[], Iterable[LocalRoom]]) -> None:
        self._path = path
        self._rooms = rooms
        self._over: dict[str, tuple[int, int]] = {}
        self._endless: weakref.WeakKeyDictionary[LocalRoom, float] = weakref.WeakKeyDictionary()
        """Since when they were seen to have more than can be counted."""
        self._waiting: list[LocalRoom] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to watch."""
        self._task = asyncio.ensure_future(lasting(self._watch, _log))

    async def close(self) -> None:
        """Ends that."""
        await cancelled(self._task)

    async def _watch(self) -> None:
        measured, began = (-1, -1), 0.0
        while True:
            await asyncio.sleep(LOOK_EVERY)
            rooms = [room for room in self._rooms() if room.limits.disk or room.limits.inodes]
            if not rooms:
                continue
            free = os.statvfs(self._path)
            now = (free.f_bfree * free.f_frsize, free.f_ffree)
            size = min([STEP_BYTES, *(room.limits.disk // STEP_PART for room in rooms if room.limits.disk)])
            files = min([STEP_FILES, *(room.limits.inodes // STEP_PART for room in rooms if room.limits.inodes)])
            quiet = abs(now[0] - measured[0]) < size and abs(now[1] - measured[1]) < files
            if quiet and time.monotonic() < began + AT_LEAST_EVERY:
                continue
            measured, began = now, time.monotonic()
            try:
                await self._measure(rooms)
            except (OSError, TimeoutError, msgspec.DecodeError) as error:
                _log.warning("the disk usage of sandboxes could not be measured: %s", str(error) or "it took too long")
                measured = (-1, -1)
            await asyncio.sleep((time.monotonic() - began) * REST)

    async def _measure(self, rooms: list[LocalRoom]) -> None:
        waiting = dict(enumerate(in_turn(rooms, self._waiting)))
        question = {}
        for number, room in waiting.items():
            pids = [] if room.group is None else room.group.pids()
            question[str(number)] = (str(room.spec.folder), pids, *self._most(room))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", measure.__file__, stdin=PIPE, stdout=PIPE, env={}, cwd="/"
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            async with asyncio.timeout(LONGEST):
                process.stdin.write(msgspec.json.encode(question))
                process.stdin.close()
                while line := await process.stdout.readline():
                    name, *found = msgspec.json.decode(line, type=tuple[str, int, int, int, int])
                    self._judge(waiting.pop(int(name)), (found[0], found[1]), (found[2], found[3]))
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        finally:
            self._waiting = list(waiting.values())
            await process.wait()

    def _most(self, room: LocalRoom) -> tuple[int, int]:
        """Its limits; one that was over them when it woke may live as it is, so that its files can be deleted."""
        disk, inodes = room.limits.disk or 0, room.limits.inodes or 0
        size, files = self._over.get(room.spec.sandbox_id, (-SLACK, -SLACK_FILES))
        return disk and max(disk, size + SLACK), inodes and max(inodes, files + SLACK_FILES)

    def _judge(self, room: LocalRoom, named: tuple[int, int], nameless: tuple[int, int]) -> None:
        size, files = room.disk = (named[0] + nameless[0], named[1] + nameless[1])
        disk, inodes, name = room.limits.disk or 0, room.limits.inodes or 0, room.spec.sandbox_id
        endless, now = size >= measure.TOO_MUCH, time.monotonic()
        if not endless and not (disk and size > disk) and not (inodes and files > inodes):
            self._over.pop(name, None)
            return
        most_disk, most_inodes = self._most(room)
        before = self._over.get(name, named)
        too_long = nameless[0] >= measure.TOO_MUCH or (endless and now > self._endless.setdefault(room, now) + GRACE)
        if too_long or (disk and size > most_disk) or (inodes and files > most_inodes):
            what = f"{size:,} bytes of {disk:,}" if disk and size > disk else f"{files:,} files of {inodes:,}"
            if endless:
                what = "so many, so deep, or held by so many descriptors, that they can't be counted"
            _log.warning("sandbox %s is over its limit of the disk: %s", name, what)
            room.let_go(f"its files were more than its limit: {what}; delete some, or raise the limit")
            before = named  # those without a name end with the room
        # What has been deleted since can't be written again.
        self._over[name] = (min(named[0], before[0]), min(named[1], before[1]))


def in_turn(rooms: Sequence[R], waiting: Sequence[R]) -> list[R]:
    """In which order to measure: those that the last time was over for first, then the others.

    Args:
        waiting: they, in the order of that time. The first took too long, and comes last: it keeps no other from it.
    """
    slow, early = waiting[:1], set(waiting[1:])
    return sorted(rooms, key=lambda room: (room in slow, room not in early))
