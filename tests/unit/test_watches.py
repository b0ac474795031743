"""The watches of the disk outlast what nobody has foreseen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from sandcove.runtimes.local.disk import DiskWatch
from sandcove.runtimes.local.reserve import Reserve
from sandcove.runtimes.local.room import LocalRoom

Rooms = Callable[[], Iterable[LocalRoom]]


@pytest.mark.parametrize(
    "make", [DiskWatch, lambda path, rooms: Reserve(path, 1 << 60, rooms)], ids=["disk", "reserve"]
)
async def test_a_watch_goes_on_after_an_error(
    make: Callable[[Path, Rooms], DiskWatch | Reserve], tmp_path: Path
) -> None:
    asked = 0
    again = asyncio.Event()

    def rooms() -> list[LocalRoom]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise IndexError("nobody has foreseen it")
        again.set()
        return []

    watch = make(tmp_path, rooms)
    watch.start()
    try:
        await asyncio.wait_for(again.wait(), 10)
    finally:
        await watch.close()
