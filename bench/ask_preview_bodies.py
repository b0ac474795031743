"""A gigabyte from a service in a sandbox and to it, by a preview: how fast, and whether memory stays flat meanwhile."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator

from bench import processes
from bench.harness import Options, Row, Samples, alternate
from bench.ways import Way, ways

QUESTION = "a large body by a preview"
BLOCK = 1 << 20


def ask(options: Options) -> Iterator[Row]:
    size = options.times(1 << 30, 1 << 25)
    rises: list[float] = []
    block = memoryview(os.urandom(BLOCK))
    buffer = bytearray(BLOCK)

    def download(connection: socket.socket, way: Way) -> None:
        connection.sendall(way.request("GET", "/file"))
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        head, _, body = head.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200") and b"content-length: %d" % size in head.lower(), head
        left = size - len(body)
        while left:
            count = connection.recv_into(buffer)
            assert count, f"the connection ended {left} bytes before the body's end"
            left -= count

    def upload(connection: socket.socket, way: Way) -> None:
        connection.sendall(way.request("POST", "/taken", f"Content-Length: {size}"))
        for _ in range(size // BLOCK):
            connection.sendall(block)
        answer = b""
        while not answer.endswith(f"\r\n\r\n{size}".encode()):
            piece = connection.recv(65536)
            assert piece, f"the connection ended: {answer!r}"
            answer += piece

    def moved(way: Way, move: Callable[[socket.socket, Way], None], *, ours: bool) -> Callable[[], float]:
        def measure() -> float:
            with way.connect() as connection, processes.peak_memory([server]) as peak:
                begin = time.perf_counter()
                move(connection, way)
                took = time.perf_counter() - begin
            if ours:
                rises.append(peak.over_idle)
            return size / 1e6 / took

        return measure

    with ways(size) as found:
        if found is None:
            return
        server = found.server
        for name, move in (("down", download), ("up", upload)):
            rates = alternate(
                {side: moved(way, move, ours=side == "ours") for side, way in found.by_name.items()},
                times=options.times(5, 1),
                warm_up=1,
            )
            title = f"{size / 2**30:g} GiB {name} by a preview"
            yield Row(title, "MB/s", rates["ours"], "nginx", rates.get("nginx"), least=200)
            yield Row(title, "MB/s", rates["ours"], "direct", rates["direct"])
    yield Row(f"{QUESTION}: memory of the server over idle", "MB", Samples(rises), most=20)
