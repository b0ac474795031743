"""A room that wants more kernels than anybody needs has its turns, and no more."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from sandcove.home import Home
from sandcove.runtimes.base import RoomSpec
from sandcove.runtimes.local.cgroups import Cgroups
from sandcove.runtimes.local.room import LocalRoom
from sandcove.runtimes.local.runtime import MOST_OF_A_ROOM, LocalRuntime
from sandcove.wire.kernel import KERNEL_FDS
from sandcove.wire.limits import NO_LIMITS
from sandcove.wire.models import Isolation
from tests.lingering import LINGER, lingering

ISOLATION = Isolation(
    user_namespace=True, network="loopback", copy_on_write=[], host_user="", system_calls="", limits=""
)


def others() -> list[int]:
    return [os.open("/dev/null", os.O_RDWR) for _ in range(KERNEL_FDS - 1)]


def room_of(home: Home, name: str) -> LocalRoom:
    spec = RoomSpec(name, home.sandbox(name), home.agent_socket(name), NO_LIMITS)
    return LocalRoom(spec, ISOLATION, Cgroups.off("none are needed"), {})


@pytest.mark.local("the runtime alone, in the test's process")
async def test_the_other_room_is_served_between(fresh_home: Path) -> None:
    home = Home(fresh_home)
    home.make()
    runtime = LocalRuntime(home)
    ended: list[str] = []

    def want(room: LocalRoom) -> None:
        before = set(runtime._requests)
        # Nothing comes of these: no room is behind them. The zygote forks for them all the same.
        runtime._on_kernel_request(room, [*others(), os.open("/dev/null", os.O_RDWR)])
        for task in runtime._requests - before:
            task.add_done_callback(lambda _: ended.append(room.spec.sandbox_id))

    greedy, modest = (room_of(home, name) for name in ("greedy", "modest"))
    descriptors = len(os.listdir("/proc/self/fd"))
    try:
        for _ in range(MOST_OF_A_ROOM * 3):
            want(greedy)
        want(modest)
        assert len(runtime._requests) == MOST_OF_A_ROOM + 1
        while runtime._requests:
            await asyncio.wait(set(runtime._requests))
        assert len(ended) == MOST_OF_A_ROOM + 1 and ended.index("modest") < 5
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 2  # the zygote's socket, and its signal's
    finally:
        runtime._kernels.close()


@pytest.mark.local("the runtime alone, in the test's process")
@pytest.mark.parametrize("within", [False, True], ids=["itself", "within another"])
@pytest.mark.parametrize("wanted", [0, MOST_OF_A_ROOM], ids=["its room has ended", "there are too many"])
async def test_a_socket_whose_close_waits_holds_nobody_up(fresh_home: Path, wanted: int, within: bool) -> None:
    home = Home(fresh_home)
    home.make()
    runtime = LocalRuntime(home)
    room = room_of(home, "room")
    room.ended.set_result("it has")
    room.kernels_wanted = wanted
    await runtime._kernels.ready()
    try:
        with lingering(within=within) as fd:
            start = time.monotonic()
            runtime._on_kernel_request(room, [*others(), fd])
            while runtime._requests:
                await asyncio.wait(set(runtime._requests))
            assert time.monotonic() - start < LINGER / 2
    finally:
        runtime._kernels.close()
