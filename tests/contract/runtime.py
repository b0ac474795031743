"""The contract of `sandcove.runtimes.base.Runtime`: functions that any implementation must pass.

Each takes an open `Bench` and checks one guarantee; `CONTRACT` lists them all. A runtime that passes needs no
test of its own for what the contract says.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sandcove.errors import ContainerNotReadyError, PortNotListeningError, SandboxError
from sandcove.runtimes.base import Room, RoomSpec, Runtime
from sandcove.server.questions import ask

__all__ = ["CONTRACT", "Bench"]

PATIENCE = 20.0


@dataclass
class Bench:
    """A started runtime, and folders for sandboxes.

    Attributes:
        make: makes another runtime for the same folders, not started.
    """

    runtime: Runtime
    folder: Path
    make: Callable[[], Runtime]
    rooms: list[Room] = field(default_factory=list)

    def spec(self, name: str) -> RoomSpec:
        return RoomSpec(name, self.folder / "sandboxes" / name, self.folder / "run" / f"{name}.sock")

    async def open(self, name: str) -> Room:
        spec = self.spec(name)
        spec.folder.mkdir(exist_ok=True)
        room = await self.runtime.open(spec)
        self.rooms.append(room)
        return room

    async def call(self, name: str, target: str, **body: Any) -> Any:
        return json.loads(await ask(self.spec(name).socket, "POST", target, body))

    async def run(self, name: str, command: str) -> str:
        return str((await self.call(name, "/api/execute", id="default", command=command))["stdout"])


async def an_agent_answers_when_open_returns(bench: Bench) -> None:
    await bench.open("a")
    assert json.loads(await ask(bench.spec("a").socket, "GET", "/api/ping"))["message"] == "pong"


async def files_lie_in_the_folder_and_outlast_the_room(bench: Bench) -> None:
    room = await bench.open("a")
    command = "echo kept > /workspace/f; echo etc > /etc/g; echo usr > /usr/local/h; mkdir /opt/i; rm /usr/bin/env"
    await bench.run("a", command)
    await room.end()
    await bench.open("a")
    recall = "cat /workspace/f /etc/g /usr/local/h; ls -d /opt/i; ls /usr/bin/env 2>/dev/null"
    assert await bench.run("a", recall) == "kept\netc\nusr\n/opt/i\n"
    assert not Path("/usr/local/h").exists() and not Path("/etc/g").exists() and Path("/usr/bin/env").exists()


async def rooms_see_nothing_of_each_other(bench: Bench) -> None:
    await asyncio.gather(bench.open("a"), bench.open("b"))
    await bench.run("a", "echo secret > /tmp/secret; cp /tmp/secret /usr/local/secret; sleep 1001 &")
    assert await bench.run("b", "cat /tmp/secret /usr/local/secret; pgrep sleep") == ""


async def ended_is_done_when_the_room_has_been_ended(bench: Bench) -> None:
    room = await bench.open("a")
    assert not room.ended.done()
    await room.end()
    assert room.ended.done() and room.ended.result()
    assert not bench.spec("a").socket.exists()
    await room.end()


async def nothing_runs_after_the_end(bench: Bench) -> None:
    from bench import processes

    room = await bench.open("a")
    await bench.run("a", "trap '' TERM INT HUP; sleep 1001 & setsid nohup sleep 1001 >/dev/null 2>&1 &")
    assert processes.of_sandbox(bench.folder, "a")
    await room.end()
    assert processes.of_sandbox(bench.folder, "a") == set()
    assert processes.mounts_below(bench.folder) == []


async def ended_says_so_when_all_of_it_was_killed(bench: Bench) -> None:
    from bench import processes

    room = await bench.open("a")
    for pid in processes.of_sandbox(bench.folder, "a"):
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass  # it went with another
    async with asyncio.timeout(PATIENCE):
        why = await asyncio.shield(room.ended)
    assert why
    await bench.open("a")


async def a_room_may_be_opened_again_at_once(bench: Bench) -> None:
    for number in range(5):
        room = await bench.open("a")
        assert await bench.run("a", f"echo {number} >> /workspace/log; wc -l < /workspace/log") == f"{number + 1}\n"
        await room.end()


async def rooms_open_and_end_side_by_side(bench: Bench) -> None:
    names = [f"side-{number}" for number in range(12)]
    rooms = await asyncio.gather(*map(bench.open, names))
    await asyncio.gather(*(bench.run(name, f"echo {name} > /workspace/name") for name in names))
    answers = await asyncio.gather(*(bench.run(name, "cat /workspace/name") for name in names))
    assert answers == [f"{name}\n" for name in names]
    await asyncio.gather(*(room.end() for room in rooms))
    assert all(room.ended.done() for room in rooms)


async def a_cancelled_open_leaves_nothing(bench: Bench) -> None:
    from bench import processes

    name = str(bench.spec("a").folder) + "/"
    for turns in range(8):  # it is somewhere on its way, each time a little further
        task = asyncio.ensure_future(bench.open("a"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # What is still being built has no mounts yet: its command line tells whose it is.
        left = [pid for pid, command in processes.of_home(bench.folder).items() if name in command]
        assert left == [] and processes.of_sandbox(bench.folder, "a") == set()
    await bench.open("a")


async def delete_removes_the_files(bench: Bench) -> None:
    room = await bench.open("a")
    await bench.run(
        "a", "mkdir -p /workspace/x/y; echo > /workspace/x/y/z; chmod 000 /workspace/x/y/z /workspace/x/y /workspace/x"
    )
    await room.end()
    await bench.runtime.delete(bench.spec("a").folder)
    assert not bench.spec("a").folder.exists()
    await bench.runtime.delete(bench.spec("a").folder)


async def a_room_that_can_t_be_made_is_refused(bench: Bench) -> None:
    spec = bench.spec("a")
    spec.folder.mkdir()
    (spec.folder / "root").write_text("a file where a folder must be")
    with pytest.raises((SandboxError, OSError)):
        await bench.runtime.open(spec)
    assert not spec.socket.exists()
    (spec.folder / "root").unlink()
    await bench.open("a")


async def the_isolation_that_is_told_is_real(bench: Bench) -> None:
    room = await bench.open("a")
    assert room.isolation.user_namespace
    uid_map = await bench.run("a", "cat /proc/self/uid_map")
    assert uid_map.split()[2] != "4294967295"
    assert room.isolation.network == "loopback"
    assert (
        await bench.run("a", "ls /sys/class/net 2>/dev/null || awk -F: 'NR>2{print $1}' /proc/net/dev | tr -d ' '")
        == "lo\n"
    )
    for folder in room.isolation.copy_on_write:
        marker = f"{folder}/sandcove-contract"
        assert await bench.run("a", f"touch {marker} && echo written") == "written\n"
        assert not Path(marker).exists()


SERVE = """
import socket, sys, time
time.sleep(float(sys.argv[3]))
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.create_server((sys.argv[1], int(sys.argv[2])), family=family, backlog=1024) as server:
    print("listening", flush=True)
    while True:
        peer, address = server.accept()
        word = peer.recv(100).decode()
        print(word or "nothing", file=open("/tmp/served", "a"), flush=True)
        peer.sendall(f"{address[0]} says {word}".encode())
        peer.close()
"""


async def serve(bench: Bench, name: str, host: str, port: int, after: float = 0) -> None:
    """Starts a service that answers one line; it may listen only `after` seconds."""
    await bench.call(name, "/api/write", path="/tmp/serve.py", content=SERVE)
    await bench.call(
        name, "/api/process/start", command=f"exec python3 /tmp/serve.py {host} {port} {after}", sessionId="default"
    )
    if not after:
        await bench.call(name, "/api/wait-for-port", port=port, timeout=10000)


async def said(sock: socket.socket, word: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with sock:
        await loop.sock_sendall(sock, word)
        answer = b""
        while piece := await loop.sock_recv(sock, 100):
            answer += piece
        return answer


async def connect_reaches_what_listens_inside(bench: Bench) -> None:
    rooms = [await bench.open(name) for name in ("a", "b")]
    await serve(bench, "a", "127.0.0.1", 3000)
    await serve(bench, "a", "::1", 65535)
    await serve(bench, "b", "0.0.0.0", 3000)
    await serve(bench, "b", "::", 1)
    assert await said(await rooms[0].connect(3000), b"one") == b"127.0.0.1 says one"
    assert await said(await rooms[0].connect(65535), b"two") == b"::1 says two"
    assert await said(await rooms[1].connect(3000), b"three") == b"127.0.0.1 says three"
    assert await said(await rooms[1].connect(1), b"four") == b"::1 says four"
    with pytest.raises(PortNotListeningError, match="nothing listens on port 65535 of the sandbox;"):
        await rooms[1].connect(65535)


async def connect_makes_one_connection(bench: Bench) -> None:
    room = await bench.open("a")
    await serve(bench, "a", "127.0.0.1", 3000)
    for number in range(20):
        assert await said(await room.connect(3000), b"%d" % number) == b"127.0.0.1 says %d" % number
    log = str((await bench.call("a", "/api/execute", id="default", command="cat /tmp/served"))["stdout"])
    assert log.split() == [str(number) for number in range(20)]


async def connect_waits_as_long_as_it_is_told(bench: Bench) -> None:
    room = await bench.open("a")
    start = time.monotonic()
    with pytest.raises(PortNotListeningError, match=r"nothing listens on port 3000 of the sandbox after 0\.3 s"):
        await room.connect(3000, wait=0.3)
    assert 0.2 < time.monotonic() - start < 3
    await serve(bench, "a", "127.0.0.1", 3000, after=0.5)
    assert await said(await room.connect(3000, wait=20), b"hello") == b"127.0.0.1 says hello"


async def many_connect_at_once(bench: Bench) -> None:
    room = await bench.open("a")
    await serve(bench, "a", "127.0.0.1", 3000)
    words = [str(number).encode() for number in range(600)]

    async def talk(word: bytes) -> bytes:
        return await said(await room.connect(3000, wait=10), word)

    answers = await asyncio.gather(*map(talk, words))
    assert answers == [b"127.0.0.1 says " + word for word in words]


async def connect_ends_with_the_room(bench: Bench) -> None:
    room: Room = await bench.open("a")
    waiting = asyncio.ensure_future(room.connect(3000, wait=60))
    await asyncio.sleep(0)
    await room.end()
    with pytest.raises(ContainerNotReadyError):
        await waiting
    with pytest.raises(ContainerNotReadyError):
        await room.connect(3000)


async def close_ends_every_room(bench: Bench) -> None:
    rooms = [await bench.open(name) for name in ("a", "b")]
    await bench.runtime.close()
    assert all(room.ended.done() for room in rooms)
    again = bench.make()
    await again.start()
    try:
        room = await again.open(bench.spec("a"))
        await room.end()
    finally:
        await again.close()


CONTRACT: list[Callable[[Bench], Awaitable[None]]] = [
    an_agent_answers_when_open_returns,
    files_lie_in_the_folder_and_outlast_the_room,
    rooms_see_nothing_of_each_other,
    ended_is_done_when_the_room_has_been_ended,
    nothing_runs_after_the_end,
    ended_says_so_when_all_of_it_was_killed,
    a_room_may_be_opened_again_at_once,
    rooms_open_and_end_side_by_side,
    a_cancelled_open_leaves_nothing,
    delete_removes_the_files,
    a_room_that_can_t_be_made_is_refused,
    the_isolation_that_is_told_is_real,
    connect_reaches_what_listens_inside,
    connect_makes_one_connection,
    connect_waits_as_long_as_it_is_told,
    many_connect_at_once,
    connect_ends_with_the_room,
    close_ends_every_room,
]
