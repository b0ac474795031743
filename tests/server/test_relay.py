"""The relayed way to an agent: the same answers as on its own socket, streams, uploads, and leaving ends what runs."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import processes
from sandcove import Sandbox
from tests.answers import Answer
from tests.server.conftest import OnSocket, ask

CALLS: list[tuple[str, str, Any]] = [
    ("GET", "/api/ping", None),
    ("POST", "/api/execute", {"command": "echo out; echo err >&2; exit 3"}),
    ("POST", "/api/execute", {"command": ["printf", "%s", "a b\u2028"]}),
    ("POST", "/api/execute", {"command": "sleep 1001", "timeout": 50}),
    ("POST", "/api/execute/stream", {"command": "echo out; echo err >&2; exit 3"}),
    ("GET", "/api/session/list", None),
    ("POST", "/api/session/create", {"id": "default"}),
    ("POST", "/api/write", {"path": "/tmp/x y%z", "content": "é\0"}),
    ("POST", "/api/read", {"path": "/tmp/x y%z"}),
    ("POST", "/api/stat", {"path": "/tmp/x y%z"}),
    ("GET", "/api/file?path=/tmp/x%20y%25z", None),
    ("GET", "/api/file?path=%2Ftmp%2Fx%20y%25z&sessionId=default", None),
    ("POST", "/api/read", {"path": "/no/such"}),
    ("GET", "/api/nothing", None),
    ("DELETE", "/api/ping", None),
    ("HEAD", "/api/ping", None),
    ("POST", "/api/mkdir", {"path": "/etc"}),
]
VARYING = ("timestamp", "duration", "createdAt")


@pytest.fixture(scope="module")
def box(home: Path) -> Iterator[Sandbox]:
    with Sandbox() as made:
        made.exec("true")
        yield made


def both(home: Path, box: Sandbox, method: str, target: str, body: Any = None) -> list[Answer]:
    return [
        ask(home / "run" / f"{box.id}.sock", method, target, body),
        ask(home / "server.sock", method, f"/v1/sandboxes/{box.id}{target}", body),
    ]


def steady(value: Any) -> Any:
    """Without what differs from call to call."""
    if isinstance(value, dict):
        return {key: steady(item) for key, item in value.items() if key not in VARYING}
    return [steady(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call[0]} {call[1]} {str(call[2])[:20]}")
def test_the_answers_are_the_same(box: Sandbox, home: Path, call: tuple[str, str, Any]) -> None:
    direct, relayed = both(home, box, *call)
    assert relayed.status == direct.status
    assert relayed.headers.get("content-type") == direct.headers.get("content-type")
    if direct.headers.get("content-type") == "application/json" and direct.body:
        assert steady(relayed.json) == steady(direct.json)
    elif "event-stream" not in direct.headers.get("content-type", ""):
        assert relayed.body == direct.body
    else:
        assert relayed.body.count(b"data: ") == direct.body.count(b"data: ") > 2


@pytest.mark.parametrize("chunked", [False, True])
def test_uploads_and_downloads_are_exact(box: Sandbox, home: Path, chunked: bool) -> None:
    data = os.urandom(5_000_001)
    connection = OnSocket(home / "server.sock")
    body: Any = (data[i : i + 65_000] for i in range(0, len(data), 65_000)) if chunked else data
    connection.request("PUT", f"/v1/sandboxes/{box.id}/api/file?path=/tmp/up&mode=0600", body, encode_chunked=chunked)
    response = connection.getresponse()
    assert (response.status, response.read()[:15]) == (200, b'{"success":true')
    connection.request("GET", f"/v1/sandboxes/{box.id}/api/file?path=/tmp/up")
    response = connection.getresponse()
    assert int(response.headers["Content-Length"]) == len(data)
    assert response.read() == data
    connection.close()
    assert box.stat("/tmp/up").mode == "rw-------"


def test_a_folder_comes_back_as_it_was_sent(box: Sandbox, home: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("a", "deep/er/b", "ü"):
            info = tarfile.TarInfo(name)
            info.size = len(name.encode())
            archive.addfile(info, io.BytesIO(name.encode()))
    base = f"/v1/sandboxes/{box.id}/api/folder?path=/tmp/folder"
    assert ask(home / "server.sock", "PUT", base, buffer.getvalue()).status == 200
    answer = ask(home / "server.sock", "GET", base)
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
        files = {m.name.removeprefix("./"): archive.extractfile(m).read() for m in archive if m.isfile()}  # type: ignore[union-attr]
    assert files == {name: name.encode() for name in ("a", "deep/er/b", "ü")}


def raw(home: Path, box: Sandbox, command: str, route: str = "execute") -> socket.socket:
    """A relayed command under way, on a connection of its own."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(str(home / "server.sock"))
    body = f'{{"command": "{command}", "id": "default"}}'.encode()
    head = f"POST /v1/sandboxes/{box.id}/api/{route} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    sock.sendall(head.encode() + body)
    return sock


@pytest.mark.parametrize("route", ["execute", "execute/stream"])
def test_leaving_ends_the_command(box: Sandbox, home: Path, route: str) -> None:
    box.exec("rm -f /tmp/up1; mkfifo /tmp/up1")
    other = box.create_session(f"watch-{route.replace('/', '-')}")
    with raw(home, box, "echo x > /tmp/up1; sleep 1001", route):
        assert other.exec("cat /tmp/up1").stdout == "x\n"
    # The session's next command has its turn when that one has ended.
    assert box.exec("pgrep -cf '^sleep 1001'", timeout=20).stdout == "0\n"


def test_a_slow_reader_stops_the_command_not_the_server(box: Sandbox, home: Path) -> None:
    server = processes.of_home(home)
    with raw(home, box, "head -c 300000000 /dev/zero", "execute/stream") as slow:
        assert slow.recv(100)
        with processes.peak_memory([*server]) as peak:
            fast = box.create_session("fast")
            for _ in range(20):
                assert fast.exec("echo on").stdout == "on\n"
        assert peak.over_idle < 60
    assert box.exec("echo on", timeout=20).stdout == "on\n"


def test_a_relayed_call_wakes_the_sandbox(box: Sandbox, home: Path) -> None:
    assert ask(home / "server.sock", "POST", "/v1/sandboxes", {"id": "relayed"}).status == 201
    base = "/v1/sandboxes/relayed"
    assert ask(home / "server.sock", "POST", f"{base}/api/write", {"path": "f", "content": "kept"}).status == 200
    assert ask(home / "server.sock", "POST", f"{base}/sleep", b"").json["state"] == "asleep"
    assert ask(home / "server.sock", "POST", f"{base}/api/read", {"path": "f"}).json["content"] == "kept"
    assert ask(home / "server.sock", "DELETE", base).status == 200
