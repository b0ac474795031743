"""Real answers made wrong, byte by byte, before the SDK reads them: each call ends at once, by a result or an error of
Sandcove's."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandcove import AsyncSandbox, Sandbox, SandboxError
from sandcove.wire.codec import encode
from tests.both import Blocking, blocking
from tests.client import peers
from tests.client.peers import Connection, Peer, answer
from tests.faults.mutations import fuzzed, mutated

pytestmark = pytest.mark.local("it records what an agent's socket says")

FEW = 30
FEWER = 5
"""Of a call that is made again, later each time, when its answer breaks off."""
Call = Callable[[Any], object]

CALLS: dict[str, tuple[str, str, Any, Call]] = {
    "exec": ("POST", "/api/execute", {"command": "echo out; printf '\\377' >&2"}, lambda box: box.exec("x")),
    "bytes": (
        "POST",
        "/api/execute",
        {"command": "printf '\\377\\376'; printf '\\375' >&2"},
        lambda box: box.exec("x", encoding=None),
    ),
    "exec_stream": (
        "POST",
        "/api/execute/stream",
        {"command": "echo a; echo b"},
        lambda box: list(box.exec_stream("x")),
    ),
    "callbacks": (
        "POST",
        "/api/execute/stream",
        {"command": "echo a; echo b"},
        lambda box: box.exec("x", on_stdout=lambda piece: None),
    ),
    "read_file": ("GET", "/api/file?path=/etc/hosts", None, lambda box: box.read_file("/etc/hosts")),
    "list_files": ("POST", "/api/list-files", {"path": "/etc"}, lambda box: box.list_files("/etc")),
    "exists": ("POST", "/api/exists", {"path": "/etc"}, lambda box: box.exists("/etc")),
    "missing": ("GET", "/api/file?path=/no", None, lambda box: box.read_file("/no")),
    "run_code": ("POST", "/api/execute/code", {"code": "print(1); 2"}, lambda box: box.run_code("2")),
    "processes": ("GET", "/api/process/list", None, lambda box: box.list_processes()),
    "logs": ("GET", "/api/process/p/stream", None, lambda box: list(box.stream_process_logs("p"))),
    "sessions": ("GET", "/api/session/list", None, lambda box: box.list_sessions()),
}


class Garbled:
    """A server with one sandbox; what its agent answers is `said`, after which the connection ends."""

    def __init__(self) -> None:
        self.said: list[bytes] = []

    def play(self, connection: Connection) -> None:
        while head := connection.request()[0]:
            target = head.split(b" ")[1].decode()
            if target == "/v1/server":
                connection.sock.sendall(answer(encode(peers._SERVER)))
            elif "/api/" not in target:
                connection.sock.sendall(answer(encode(peers._SANDBOX)))
            else:
                for piece in self.said:
                    connection.sock.sendall(piece)
                return


@pytest.fixture(scope="module")
def recorded(home: Path) -> Iterator[dict[str, bytes]]:
    """What a real agent answers to each."""
    found: dict[str, bytes] = {}
    with Sandbox() as box:
        box.start_process("echo a; echo b >&2", process_id="p").wait()
        path = home / "run" / f"{box.id}.sock"
        for name, (method, target, body, _) in CALLS.items():
            data = b"" if body is None else json.dumps(body).encode()
            head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                sock.sendall(head.encode() + data)
                came = b""
                while piece := sock.recv(65536):
                    came += piece
            found[name] = came
        yield found


class Endless(Garbled):
    """What comes after `said` comes again and again."""

    def __init__(self, said: bytes, again: bytes) -> None:
        super().__init__()
        self.said = [said, *[again] * (2**30 // len(again))]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LARGE = b"100000\r\n" + b"x" * 2**20 + b"\r\n"


@pytest.mark.parametrize(
    ("call", "said", "again", "told"),
    [
        (lambda box: box.exec("x"), CHUNKED, LARGE, "longer than 536,870,912"),
        (lambda box: list(box.exec_stream("x")), CHUNKED + b"6\r\ndata: \r\n", LARGE, "longer than 67,108,864"),
        (lambda box: box.run_code("x"), CHUNKED, LARGE, "longer than 83,886,080"),
        (lambda box: box.read_file("x"), CHUNKED, LARGE, "longer than|more than"),
        (lambda box: box.exec("x"), b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 4096, "longer than 65,536"),
        (lambda box: box.exec("x"), b"", b"HTTP/1.1 100 C\r\n\r\n" * 4096, "longer than 65,536"),
    ],
    ids=["body", "event", "line", "file", "headers", "interim"],
)
def test_an_endless_answer_ends_where_it_is_longer_than_any(call: Call, said: bytes, again: bytes, told: str) -> None:
    with Peer(None, Endless(said, again).play) as peer:
        box: Any = Sandbox("x", url=peer.url)
        with pytest.raises(SandboxError, match=told):
            call(box)
        client = box._agent.client()
        client.close()


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("name", CALLS)
def test_a_garbled_answer(recorded: dict[str, bytes], name: str, kind: str) -> None:
    said = recorded[name]
    assert said.startswith(b"HTTP/1.1 404" if name == "missing" else b"HTTP/1.1 200"), said[:300]
    call = CALLS[name][3]
    garbled = Garbled()
    with blocking() as portal, Peer(None, garbled.play) as peer:
        box: Any = Sandbox("x", url=peer.url)
        if kind == "async":
            box = Blocking(portal, AsyncSandbox("x", url=peer.url))

        def attempt(pieces: list[bytes]) -> None:
            garbled.said = pieces
            start = time.monotonic()
            try:
                call(box)
            except SandboxError:
                pass
            assert time.monotonic() - start < 30

        few = FEW if CALLS[name][0] == "POST" and "execute" in CALLS[name][1] else FEWER

        @fuzzed(few)
        @given(mutated([said]))
        def attack(pieces: list[bytes]) -> None:
            attempt(pieces)

        @fuzzed(few)
        @given(st.integers(0, len(said)))
        def cut(place: int) -> None:
            attempt([said[:place]])

        attack()
        cut()
        # Afterwards a right one is understood.
        garbled.said = [said]
        if name == "missing":
            with pytest.raises(SandboxError, match="/no"):
                call(box)
        else:
            call(box)
        client = box._agent.client()
        client.close()
