"""Right requests made wrong, byte by byte, on every listener: what is answered is HTTP and no failure of ours, the
connection ends, the next right request is answered, nothing is left open and little is kept."""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given

from sandcove import get_sandbox
from tests.conftest import sandcove_home
from tests.faults.mutations import check_answers, exchange, fuzzed, mutated
from tests.faults.server import Watched
from tests.previews.conftest import preview_of, start_service
from tests.server.conftest import ask
from tests.tenants import Tcp, serving_in

pytestmark = pytest.mark.local("raw bytes on Unix sockets")

BOUND = 40
"""MiB that a server may grow by."""
ALLOWED = (501, 502, 503, 505)
"""What the mutated request may have asked for: something that the machine can't, a port on which nobody listens, a
version of HTTP that nobody speaks."""
FEW = 150


@dataclass
class Target:
    """Where bytes go.

    Attributes:
        connect: a new connection.
        messages: right requests.
        right: one more, and what the answer to it begins with.
    """

    connect: Callable[[], socket.socket]
    messages: list[bytes]
    right: tuple[bytes, bytes]

    def attack(self, pieces: list[bytes]) -> None:
        check_answers(exchange(self.connect(), pieces), ALLOWED)

    def check(self) -> None:
        request, answer = self.right
        assert exchange(self.connect(), [request], shut=False).startswith(answer)


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    length = [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: HOST", *headers, *length, "", ""]).encode() + body


def chunks(method: str, path: str, *headers: str) -> bytes:
    head = request(method, path, b"", "Transfer-Encoding: chunked", *headers)
    return head + b"5\r\nhello\r\n3;ext=1\r\nabc\r\n0\r\nX-Trailer: t\r\n\r\n"


def requests(prefix: str, *headers: str) -> list[bytes]:
    """To an agent."""
    execute = json.dumps({"command": "true", "timeout": 2000}).encode()
    return [
        request("GET", f"{prefix}/api/ping", b"", *headers),
        request("HEAD", f"{prefix}/api/ping", b"", *headers),
        request("OPTIONS", f"{prefix}/api/ping", b"", *headers),
        request("POST", f"{prefix}/api/execute", execute, *headers, "Content-Type: application/json"),
        request("POST", f"{prefix}/api/execute/stream?heartbeat=1", execute, *headers),
        request("POST", f"{prefix}/api/read", b'{"path": "/etc/hosts"}', *headers),
        request("POST", f"{prefix}/api/write", b'{"path": "/tmp/w", "content": "a"}', *headers),
        request("PUT", f"{prefix}/api/file?path=/tmp/f", b"hello", *headers, "Expect: 100-continue"),
        chunks("PUT", f"{prefix}/api/file?path=/tmp/f", *headers),
        chunks("PUT", f"{prefix}/api/stdin", *headers),
        request("POST", f"{prefix}/api/list-files", b'{"path": "/tmp", "options": {"recursive": true}}', *headers),
        request("GET", f"{prefix}/api/session/list", b"", *headers) * 3,
    ]


def to_the_server(*headers: str) -> list[bytes]:
    return [
        request("GET", "/v1/server", b"", *headers),
        request("GET", "/v1/sandboxes?label=a=b&label=c=d", b"", *headers),
        request("POST", "/v1/sandboxes", b'{"id": "Not Good", "labels": {"a": "b"}, "env": {"A": "b"}}', *headers),
        request("GET", "/v1/sandboxes/fuzzed", b"", *headers),
        request("POST", "/v1/sandboxes/fuzzed/wake", b"", *headers, "Content-Length: 0"),
        request("POST", "/v1/sandboxes/fuzzed/time-to-live", b'{"timeToLive": 0}', *headers),
        request("PUT", "/v1/sandboxes/fuzzed/limits", b'{"processes": 100}', *headers),
        request("PUT", "/v1/sandboxes/fuzzed/egress", b'{"egress": ["pypi.org:443"]}', *headers),
        request("GET", "/v1/sandboxes/fuzzed/proxy/8000/echo", b"", *headers),
        *requests("/v1/sandboxes/fuzzed", *headers),
    ]


@pytest.fixture(scope="module")
def server(capable: None) -> Iterator[Tcp]:
    with sandcove_home() as home, serving_in(home, "--sleep-after=0") as serving:
        yield serving


@pytest.fixture(scope="module")
def watched(server: Tcp) -> Watched:
    return Watched(server.home, server.process.pid)


@pytest.fixture(scope="module")
def targets(server: Tcp) -> Iterator[dict[str, Target]]:
    home = server.home
    box = get_sandbox("fuzzed")
    box.exec("true")
    start_service(box, 8000)
    preview = preview_of(box, box.expose_port(8000))
    key = f"Authorization: Bearer {server.key('local').key}"

    def unix(path: Path) -> Callable[[], socket.socket]:
        def connect() -> socket.socket:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(path))
            return sock

        return connect

    def tcp(port: int) -> Callable[[], socket.socket]:
        return lambda: socket.create_connection(("127.0.0.1", port))

    good = b"HTTP/1.1 200 OK\r\n"
    upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    nonce = "Sec-WebSocket-Key: " + base64.b64encode(bytes(16)).decode()
    frames = b"\x81\x85\0\0\0\0hello\x88\x80\0\0\0\0"
    visits = [
        request("GET", "/echo"),
        request("HEAD", "/echo"),
        request("POST", "/echo", b"hello"),
        chunks("POST", "/echo"),
        request("GET", "/websocket", b"", *upgrade, nonce) + frames,
        request("GET", "/echo") + request("POST", "/echo", b"x" * 3000) + request("GET", "/echo"),
    ]
    visits = [visit.replace(b"HOST", preview.host.encode()) for visit in visits]
    yield {
        "unix": Target(unix(home / "server.sock"), to_the_server(), (request("GET", "/v1/server"), good)),
        "tcp": Target(tcp(server.port), to_the_server(key), (request("GET", "/v1/server", b"", key), good)),
        "agent": Target(unix(home / "run" / "fuzzed.sock"), requests(""), (request("GET", "/api/ping"), good)),
        "preview": Target(tcp(preview.tcp), visits, (visits[0], good)),
    }
    box.destroy()


@pytest.mark.parametrize("name", ["unix", "tcp", "agent", "preview"])
def test_mutated_requests(watched: Watched, targets: dict[str, Target], name: str) -> None:
    target = targets[name]
    logs = watched.home / "sandboxes" / "fuzzed" / "agent.log"

    @fuzzed(FEW)
    @given(mutated(target.messages))
    def attack(pieces: list[bytes]) -> None:
        target.attack(pieces)

    with watched.unharmed(BOUND):
        attack()
        target.check()
    assert "Traceback" not in logs.read_text(errors="replace")
    assert ask(watched.home / "server.sock", "GET", "/v1/sandboxes/fuzzed").json["state"] == "running"


@pytest.mark.parametrize("name", ["unix", "tcp", "agent", "preview"])
def test_a_request_that_is_cut_at_each_byte(watched: Watched, targets: dict[str, Target], name: str) -> None:
    target = targets[name]
    with watched.unharmed(BOUND):
        for message in target.messages[1:4]:
            for place in range(0, len(message), 1 if "SANDCOVE_FUZZ" in os.environ else 5):
                check_answers(exchange(target.connect(), [message[:place]]), ALLOWED)
        target.check()
