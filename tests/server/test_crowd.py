"""How many connections over TCP a server keeps at once, and what one more is told."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.server import let_in
from tests.server.conftest import Serving, ask
from tests.server.test_metrics import counted
from tests.server.test_tcp import make_certificate, over_tcp

Serve = Callable[..., Serving]
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def connect() -> Iterator[Callable[[Serving], socket.socket]]:
    made: list[socket.socket] = []

    def connect(serving: Serving) -> socket.socket:
        url = urlsplit(serving.address)
        made.append(socket.create_connection((url.hostname, url.port), 30))
        return made[-1]

    yield connect
    for sock in made:
        sock.close()


def metrics(serving: Serving) -> tuple[float, float]:
    """How many connections there are, and how many were too many; asked on the Unix socket, which is not counted."""
    told = counted(ask(serving.home / "server.sock", "GET", "/metrics").body.decode())
    return told["sandcove_connections"], told["sandcove_connections_refused_total"]


def wait_for(serving: Serving, there: int, refused: int | None = None) -> None:
    until = time.monotonic() + 30
    while (now := metrics(serving))[0] != there or refused not in (None, now[1]):
        assert time.monotonic() < until, now


def healthy(sock: socket.socket) -> bool:
    """Asks on this connection, and reads the answer whole."""
    sock.sendall(HEALTH)
    answer = b""
    while not answer.endswith(b'{"success":true}'):
        more = sock.recv(65536)
        if not more:
            return False
        answer += more
    return answer.startswith(b"HTTP/1.1 200")


def all_of(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


@pytest.fixture
def three(serve: Serve) -> Serving:
    """A server that keeps three."""
    serving = serve("--host=127.0.0.1", "--port=0", "--max-connections=3", program=Path(let_in.__file__))
    serving.wait_until_it_serves()
    return serving


def test_one_too_many_is_told_so(three: Serving, connect: Callable[[Serving], socket.socket]) -> None:
    silent, begun, api = connect(three), connect(three), connect(three)
    begun.sendall(b"GET /v1/sandboxes/x/proxy/80/")
    assert healthy(api)
    assert healthy(api)
    assert metrics(three) == (3, 0)
    for _ in range(5):
        refused = over_tcp(three.address, "POST", "/v1/sandboxes", b"{}")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert (refused.json["code"], refused.json["begun"]) == ("SERVICE_UNAVAILABLE", False)
        assert "has 3 connections" in refused.json["error"]
    assert metrics(three) == (3, 5)
    # Who sends late, and in pieces, can still read the answer.
    slow = connect(three)
    wait_for(three, 3, refused=6)
    slow.sendall(HEALTH[:10])
    slow.sendall(HEALTH[10:])
    assert all_of(slow).startswith(b"HTTP/1.1 503")
    assert healthy(api)
    silent.close()
    wait_for(three, 2)
    assert over_tcp(three.address, "GET", "/healthz").status == 200
    begun.close()
    api.close()
    wait_for(three, 0)


def test_a_flood_is_turned_away_and_costs_no_descriptors(
    three: Serving, connect: Callable[[Serving], socket.socket]
) -> None:
    kept = [connect(three) for _ in range(3)]
    wait_for(three, 3)
    files = Path(f"/proc/{three.process.pid}/fd")
    before = len(list(files.iterdir()))
    flood = [connect(three) for _ in range(300)]
    for sock in flood:
        assert all_of(sock)[:12] in (b"HTTP/1.1 503", b"")
    assert metrics(three) == (3, 300)
    assert len(list(files.iterdir())) <= before + 64 + 5
    for sock in kept:
        sock.close()
    wait_for(three, 0)
    assert over_tcp(three.address, "GET", "/healthz").status == 200


def test_before_and_in_a_handshake_it_counts_too(
    serve: Serve, tmp_path: Path, connect: Callable[[Serving], socket.socket]
) -> None:
    cert, key = make_certificate(tmp_path, "ec -pkeyopt ec_paramgen_curve:P-256")
    serving = serve("--host=127.0.0.1", "--port=0", "--max-connections=2", f"--tls-cert={cert}", f"--tls-key={key}")
    serving.wait_until_it_serves()
    trusting = ssl.create_default_context(cafile=str(cert))
    with closing(trusting.wrap_socket(connect(serving), server_hostname="localhost")) as whole:
        silent = connect(serving)
        wait_for(serving, 2)
        assert connect(serving).recv(1) == b""
        assert metrics(serving) == (2, 1)
        # A handshake that fails is none any more.
        silent.sendall(HEALTH)
        wait_for(serving, 1)
        with closing(trusting.wrap_socket(connect(serving), server_hostname="localhost")) as second:
            assert healthy(whole)
            assert healthy(second)
    wait_for(serving, 0)
