"""`fetch`: requests of the SDK's to what listens in a sandbox."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import pytest

from sandcove import InvalidRequestError, PortNotListeningError, SandboxNetworkError
from tests.conftest import MakeSandbox
from tests.previews.conftest import start_service


def test_requests_and_answers(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox()
    start_service(box, 3000)
    told = box.fetch("/echo?a b=ü#no", 3000, headers={"X-Own": "1"}).json()
    headers = dict(told["headers"])
    assert told["target"] == "/echo?a%20b=%C3%BC" and headers["x-own"] == "1" and headers["host"] == "localhost:3000"
    bodies: tuple[tuple[Any, int], ...] = (
        (b"bytes", 5),
        ("ü", 2),
        (io.BytesIO(bytes(3_000_000)), 3_000_000),
        ([b"a", "b"], 2),
        (b"", 0),
    )
    for body, size in bodies:
        told = box.fetch("http://localhost:3000/echo", 3000, method="put", body=body).json()
        assert (told["method"], told["size"]) == ("PUT", size)
    content = b"".join(bytes(piece) for piece in box.fetch("/send?5000000", 3000).stream())
    assert hashlib.sha256(content).digest() == hashlib.sha256(bytes(5_000_000)).digest()
    response = box.fetch("/chunks?3", 3000)
    assert (response.status, response.text()) == (200, "000000010002")
    raw = b"HTTP/1.1 503 No\r\nRetry-After: 1\r\nX-Sandcove-Error: X\r\nA: 1\r\nA: 2\r\nContent-Length: 2\r\n\r\nno"
    response = box.fetch(f"/raw?{raw.hex()}", 3000)
    assert (response.status, response.read(), response.headers["a"]) == (503, b"no", "1, 2")
    assert ("a", "2") in response.raw_headers and "x-sandcove-error" not in response.headers
    with box.fetch("/slow", 3000) as events:
        assert next(iter(events.stream())) == b"data: 1\n\n"
    assert box.fetch("/echo", 3000, method="HEAD").read() == b""


def test_errors_are_the_server_s_own(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox("fetched")
    with pytest.raises(PortNotListeningError, match="port 3000"):
        box.fetch("/", 3000)
    start_service(box, 3000)
    with pytest.raises(SandboxNetworkError, match="no HTTP"):
        box.fetch(f"/raw?{b'junk'.hex()}0d0a0d0a", 3000)
    broken = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
    with pytest.raises(SandboxNetworkError):
        box.fetch(f"/raw?{broken.hex()}", 3000).read()
    box.sleep()
    with pytest.raises(PortNotListeningError):
        box.fetch("/", 3000)
    assert box.info().state == "running"


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://evil/"},
        {"url": "http://localhost:3001/"},
        {"url": "echo"},
        {"url": "http://localhost:3000@evil/"},
        {"url": 5},
        {"port": 0},
        {"port": "3000"},
        {"method": "GET /x"},
        {"method": ""},
        {"headers": {"Host": "evil"}},
        {"headers": {"Content-Length": "5"}},
        {"headers": {"X": "a\r\nY: b"}},
        {"headers": {"X\n": "a"}},
        {"headers": [("X", 1)]},
        {"body": 5},
    ],
)
def test_bad_input(make_sandbox: MakeSandbox, wrong: dict[str, object]) -> None:
    box = make_sandbox("bad-input")
    with pytest.raises(InvalidRequestError):
        box.fetch(**{"url": "/", "port": 3000, **wrong})  # type: ignore[arg-type]
