"""A long request over TLS to who takes it slowly: the time for its answer begins when it has been taken."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandcove.client.endpoint import Endpoint
from tests.client.peers import answer
from tests.client.test_pool import pool
from tests.server.test_tcp import make_certificate

__all__ = ["pool"]

SIZE = 32_000_000
"""Bytes, many more than the kernel takes before they have arrived."""
WITHIN = 1.5


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """Takes a request in three times the time that its answer may take."""
    cert, key = make_certificate(tmp_path, "ec -pkeyopt ec_paramgen_curve:P-256")
    monkeypatch.setenv("SANDCOVE_CA_FILE", str(cert))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def take() -> None:
            with context.wrap_socket(listening.accept()[0], server_side=True) as sock:
                begun, taken = time.monotonic(), 0
                while taken < SIZE:
                    piece = sock.recv(65536)
                    if not piece:
                        return
                    taken += len(piece)
                    time.sleep(max(0.0, begun + 3 * WITHIN * taken / SIZE - time.monotonic()))
                sock.sendall(answer(b"taken"))
                sock.recv(1)

        peer = threading.Thread(target=take)
        peer.start()
        yield Endpoint.parse(f"https://localhost:{listening.getsockname()[1]}", None)
        peer.join()


def test_what_takes_long_to_be_sent_may(slow: Endpoint, pool: Any) -> None:
    response = pool.request(slow, "PUT", "/", bytes(SIZE), within=WITHIN, silence=WITHIN)
    assert response.read() == b"taken"
    pool.close()
