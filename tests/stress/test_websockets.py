"""A thousand WebSockets through one server's preview: one that reads nothing, while its peer floods it, stops no other.

Run it with ``-s`` to see the figures.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from bench.harness import Samples
from sandcove import ExposedPort, Process, Sandbox
from tests.previews.conftest import Preview, preview_of
from tests.previews.test_flow import resident
from tests.server.conftest import server_pid

SOCKETS = 1_000
COMMON_LIMIT = 1_024
"""Of descriptors, as systems set it: half of what the sockets take in the server."""
AT_ONCE = 100
"""That ask at the same time, so that latencies are of the way and not of this program's queue."""
MESSAGES = 4_000
"""In one measurement."""
PAUSES_AFTER = 0.5
"""Seconds without progress after which the service says that a flood is stalled."""
MEBIBYTE = 1 << 20

SERVICE = f"""
import asyncio, resource, sys
from websockets.asyncio.server import serve

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

async def answer(socket):
    if socket.request.path == "/echo":
        async for message in socket:
            await socket.send(message)
        return
    sent, piece = 0, bytes({MEBIBYTE})
    while True:
        sending = asyncio.ensure_future(socket.send(piece))
        done, _ = await asyncio.wait([sending], timeout={PAUSES_AFTER})
        if not done:
            print("stalled after", sent, "MiB", flush=True)
        await sending
        sent += 1

async def main():
    async with serve(answer, "127.0.0.1", 8000, compression=None, ping_interval=None, backlog=1024):
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""


@pytest.fixture
def preview(fresh_home: Path) -> Iterator[tuple[Preview, Process]]:
    """Of the service, in a sandbox of a server that was started under the common limit of descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4 * SOCKETS:
        pytest.skip(f"this machine gives no more than {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (COMMON_LIMIT, hard))
    try:
        with Sandbox() as sandbox:
            sandbox.write_file("/workspace/service.py", SERVICE)
            service = sandbox.start_process("python /workspace/service.py")
            service.wait_for_port(8000, timeout=60)
            exposed: ExposedPort = sandbox.expose_port(8000)
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * SOCKETS), hard))
            yield preview_of(sandbox, exposed), service
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass
class Measured:
    """Messages a second, and milliseconds from a message to its echo."""

    rate: float
    latency: Samples

    def __str__(self) -> str:
        worst = max(self.latency.values)
        return f"{self.rate:,.0f}/s, {self.latency.p50:.1f} ms (p95 {self.latency.p95:.1f}, worst {worst:.0f})"


class Crowd:
    """Clients of one preview."""

    def __init__(self, preview: Preview) -> None:
        self._preview = preview
        self.sockets: list[ClientConnection] = []

    @asynccontextmanager
    async def opened(self, path: str) -> AsyncIterator[ClientConnection]:
        """One more. What it does not take is left in the sockets' buffers but for one message."""
        # The name is for the Host header; not every resolver knows it.
        async with connect(
            f"ws://{self._preview.host}{path}",
            host="127.0.0.1",
            port=self._preview.tcp,
            compression=None,
            ping_interval=None,
            proxy=None,
            max_queue=1,
            open_timeout=60,
            close_timeout=0.1 if path == "/flood" else 30,
        ) as socket:
            yield socket

    async def open(self, stack: AsyncExitStack, count: int) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with gate:
                self.sockets.append(await stack.enter_async_context(self.opened("/echo")))

        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(one())

    async def measure(self) -> Measured:
        """All have a part in it, `AT_ONCE` of them at a time."""
        latencies: list[float] = []
        # In a random order, so that neighbours are not always the same.
        turns = random.sample(self.sockets, len(self.sockets)) * (MESSAGES // len(self.sockets))

        async def ask(number: int) -> None:
            while turns:
                socket = turns.pop()
                message = f"{number} of {len(turns)}"
                start = time.perf_counter()
                await socket.send(message)
                assert await socket.recv() == message
                latencies.append((time.perf_counter() - start) * 1000)

        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(ask(number))
        return Measured(len(latencies) / (time.perf_counter() - start), Samples(latencies))


async def stalled(crowd: Crowd, service: Process, stack: AsyncExitStack, number: int) -> int:
    """A client that reads nothing of a flood; gives the MiB that went out before nothing more did."""
    await stack.enter_async_context(crowd.opened("/flood"))
    match = await asyncio.to_thread(service.wait_for_log, rf"(?:stalled after \d+ MiB\s+){{{number}}}", timeout=30)
    return int(match[0].split()[-2])


async def crowd_with_and_without(
    preview: Preview, service: Process, descriptors: Callable[[], int], memory: Callable[[], int]
) -> None:
    crowd = Crowd(preview)
    free: list[Measured] = []
    beside: list[Measured] = []
    before = memory()
    async with AsyncExitStack() as stack:
        start = time.perf_counter()
        await crowd.open(stack, SOCKETS)
        print(f"\n{SOCKETS} WebSockets open after {time.perf_counter() - start:.1f} s")
        assert descriptors() >= 2 * SOCKETS
        opened = memory()
        print(f"the server's memory: {before >> 20} MiB, then {(opened - before) / SOCKETS / 1024:.1f} KiB each")
        await crowd.measure()
        flooded = 0
        # Turn by turn, so that both meet the same machine.
        for number in range(1, 4):
            free.append(await crowd.measure())
            async with AsyncExitStack() as one:
                flooded = await stalled(crowd, service, one, number)
                beside.append(await crowd.measure())
            print(f"without: {free[-1]}; beside a stalled one: {beside[-1]}")
        grown = memory() - opened
        print(f"{flooded} MiB went out to the stalled one; the server's memory grew by {grown / MEBIBYTE:.1f} MiB")
        # What is under way lies in the buffers of the kernel and of both programs, which have bounds.
        assert flooded < 32 and grown < 16 * MEBIBYTE and opened - before < 64 * MEBIBYTE
    # The machine is other tests' too: the better of three.
    best_free, best_beside = (max(each.rate for each in those) for those in (free, beside))
    assert best_beside > best_free / 2, (free, beside)
    fast, slow = (min(each.latency.p50 for each in those) for those in (free, beside))
    assert slow < 2 * fast + 5, (free, beside)


@pytest.mark.timeout(180)
def test_a_thousand_websockets_one_of_them_stalled(preview: tuple[Preview, Process], fresh_home: Path) -> None:
    to, service = preview
    pid = server_pid(fresh_home)

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    before = descriptors()
    asyncio.run(crowd_with_and_without(to, service, descriptors, lambda: resident(fresh_home)))
    # All have said good-bye; the server closes its halves as it hears of it.
    deadline = time.monotonic() + 20
    while descriptors() > before + 20:
        assert time.monotonic() < deadline, f"{descriptors()} descriptors are open, {before} were before"
        assert to.get("/").status == 426  # no WebSocket
