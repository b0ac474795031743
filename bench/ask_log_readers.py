"""A process that prints a lot, its log followed by ten readers, one of which takes nothing: whether that one holds
the others or the process up, and whether the agent's memory stays flat meanwhile."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

from bench import processes
from bench.harness import Options, Row, Samples, alternate
from bench.plain_http import on_unix
from bench.rooms import own_home

QUESTION = "a process's log, followed"
READERS = 10
PRINTED = b"~"
"""A character that no event has but in what was printed."""
END = b"0\r\n\r\n"
WITHIN = 120.0


class _Reader:
    """Follows the log of a process on a connection of its own."""

    def __init__(self, agent: str, process: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(agent)
        self.socket.sendall(f"GET /api/process/{process}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.printed = 0
        self._last = b""

    def read(self) -> bool:
        """Takes what is there; False when it was the end."""
        piece = self.socket.recv(1 << 20)
        assert piece, "the agent closed the connection in the middle of a log"
        self.printed += piece.count(PRINTED)
        self._last = (self._last + piece)[-len(END) :]
        return self._last != END


def _follow(readers: list[_Reader]) -> None:
    """Reads all of them to the end."""
    deadline = time.monotonic() + WITHIN
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader.socket, selectors.EVENT_READ, reader)
        while selector.get_map():
            assert time.monotonic() < deadline, f"after {WITHIN:g} s readers are not at the end"
            for key, _ in selector.select(timeout=5):
                if not key.data.read():
                    selector.unregister(key.fileobj)


def ask(options: Options) -> Iterator[Row]:
    from sandcove import Sandbox
    from sandcove.home import Home

    size = options.times(100_000_000, 2_000_000)
    command = f"head -c {size} /dev/zero | tr '\\0' '{PRINTED.decode()}'"
    rises: list[float] = []

    def followed(count: int, stopped: int) -> float:
        """Megabytes a second that each of the readers got which read, the process being slower or not."""
        start = {"command": command, "options": {"processId": "loud"}}
        with ExitStack() as stack, on_unix(agent) as connection, processes.peak_memory(agents) as peak:
            begin = time.perf_counter()
            connection.call("POST", "/api/process/start", start)
            readers = [_Reader(agent, "loud") for _ in range(count)]
            for reader in readers:
                stack.callback(reader.socket.close)
            _follow(readers[stopped:])
            took = time.perf_counter() - begin
            # The one that took nothing misses nothing.
            _follow(readers[:stopped])
        rises.append(peak.over_idle)
        assert [reader.printed for reader in readers] == [size] * count
        with on_unix(agent) as connection:
            connection.call("POST", "/api/process/cleanup")
        return size / 1e6 / took

    with own_home() as folder, Sandbox() as sandbox:
        sandbox.ping()
        agent = str(Home(folder).agent_socket(sandbox.id))
        agents = processes.agents(processes.of_sandbox(folder, sandbox.id)) if os.geteuid() == 0 else []
        found = alternate(
            {"one": lambda: followed(1, 0), "ten": lambda: followed(READERS, 1)}, times=options.times(3, 1), warm_up=0
        )
    name = f"{QUESTION}, {size / 1e6:g} MB"
    yield Row(
        f"{name}, by {READERS} of whom one is stopped: each of the others",
        "MB/s",
        found["ten"],
        "one reader",
        found["one"],
    )
    yield Row(f"{name}: memory of the agent over idle", "MB", Samples(rises), most=20)
