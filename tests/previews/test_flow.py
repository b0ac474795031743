"""How much goes through at once: memory stays flat, and who is slow stops nobody else."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.previews.conftest import Preview, Wire, preview_of
from tests.server.conftest import server_pid

GIB = 1 << 30
UPGRADE = "GET /upgrade HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def resident(home: Path) -> int:
    """Bytes of memory that the server has."""
    status = Path(f"/proc/{server_pid(home)}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("chunked", [False, True], ids=["by-length", "in-chunks"])
def test_a_gibibyte_up_with_flat_memory(home: Path, preview: Preview, chunked: bool) -> None:
    piece = bytes(1 << 20)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {GIB}"
    before = resident(home)
    with preview.wire() as wire:
        wire.sock.settimeout(60)
        wire.send(f"POST /echo HTTP/1.1\r\nHost: HOST\r\n{framing}\r\n\r\n")
        most = before
        for number in range(GIB >> 20):
            if chunked:
                wire.sock.sendall(b"100000\r\n")
            wire.sock.sendall(piece)
            if chunked:
                wire.sock.sendall(b"\r\n")
            if number % 64 == 0:
                most = max(most, resident(home))
        if chunked:
            wire.sock.sendall(b"0\r\n\r\n")
        assert wire.answer().json["size"] == GIB
    assert most - before < 32 << 20


def test_a_gibibyte_down_with_flat_memory(home: Path, preview: Preview) -> None:
    before = most = resident(home)
    with preview.wire() as wire:
        wire.sock.settimeout(60)
        wire.send(f"GET /send?{GIB} HTTP/1.1\r\nHost: HOST\r\n\r\n")
        assert wire.head()[0] == 200
        left, buffer, turn = GIB, memoryview(bytearray(1 << 20)), 0
        while left:
            got = wire._reader.readinto(buffer[: min(left, len(buffer))])
            assert got
            left -= got
            turn += 1
            if turn % 64 == 0:
                most = max(most, resident(home))
    assert most - before < 32 << 20


@pytest.mark.alone
def test_a_caller_that_does_not_read_holds_up_the_service_and_nobody_else(home: Path, preview: Preview) -> None:
    before = resident(home)
    with preview.wire() as slow, preview.wire() as sending, preview.wire() as ahead:
        slow.send(f"GET /send?{GIB} HTTP/1.1\r\nHost: HOST\r\n\r\n")
        # A service that does not read either.
        sending.send("GET /upgrade HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        sending.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while True:
                sending.sock.sendall(bytes(1 << 20))
        # One who asks and asks, and reads no answer.
        ahead.sock.settimeout(1.5)
        with pytest.raises(TimeoutError):
            while True:
                ahead.send("GET /send?60000 HTTP/1.1\r\nHost: HOST\r\n\r\n" * 100)
        start = time.monotonic()
        for _ in range(20):
            assert preview.get("/echo").status == 200
        assert time.monotonic() - start < 2
        assert resident(home) - before < 32 << 20


@pytest.mark.alone
def test_many_tunnels_one_of_them_stalled(home: Path, preview: Preview) -> None:
    wires: list[Wire] = []
    try:
        for _ in range(300):
            wires.append(preview.wire())
            wires[-1].send(UPGRADE)
        for wire in wires:
            assert wire.head()[0] == 101 and wire.read(6) == b"hello "
        stalled = wires.pop()
        stalled.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            while True:
                stalled.sock.sendall(bytes(1 << 20))
        wires.append(stalled)
        start = time.monotonic()
        for turn in range(3):
            for wire in wires[:-1]:
                wire.send(b"ping%d" % turn)
            for wire in wires[:-1]:
                assert wire.read(5) == b"ping%d" % turn
        assert time.monotonic() - start < 5
    finally:
        for wire in wires:
            wire.__exit__()


def test_a_caller_who_leaves_ends_the_service_s_connection(preview: Preview) -> None:
    other = preview_of(preview.sandbox, preview.sandbox.expose_port(3005))
    program = "import socket; s = socket.create_server(('', 3005)); print('up', flush=True); c, _ = s.accept()\n"
    program += (
        "c.recv(1000); c.sendall(b'HTTP/1.1 200 OK\\r\\n\\r\\n')\nwhile c.recv(1000): pass\nprint('left', flush=True)"
    )
    process = preview.sandbox.start_process(["python3", "-c", program])
    process.wait_for_log("up", timeout=20)
    with other.wire() as wire:
        wire.send("GET / HTTP/1.1\r\nHost: HOST\r\n\r\n")
        assert wire.head()[0] == 200
    process.wait_for_log("left", timeout=20)
    preview.sandbox.unexpose_port(3005)
