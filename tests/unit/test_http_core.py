"""The HTTP/1.1 client core, the cases that the protocol names."""

from __future__ import annotations

import pytest

from sandcove.errors import InvalidRequestError, SandboxNetworkError
from sandcove.wire.http import END, Head, ResponseParser, chunk, request_head


def parser(method: str = "GET") -> ResponseParser:
    made = ResponseParser()
    made.expect(method)
    return made


def test_request_head() -> None:
    head = request_head("POST", "/api/execute", [("Host", "sandcove"), ("Content-Length", "2")])
    assert head == b"POST /api/execute HTTP/1.1\r\nHost: sandcove\r\nContent-Length: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", "/a b", []),
        ("GET", "/a\r\nX: y", []),
        ("GET", "/é", []),
        ("GET", "", []),
        ("GE T", "/", []),
        ("GET", "/", [("X", "a\r\nY: b")]),
        ("GET", "/", [("X", "a\nY: b")]),
        ("GET", "/", [("X", "a\0")]),
        ("GET", "/", [("X:", "a")]),
        ("GET", "/", [("", "a")]),
        ("GET", "/", [("X", "\u20ac")]),
    ],
)
def test_request_head_refuses_what_could_split_it(method: str, target: str, headers: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidRequestError):
        request_head(method, target, headers)


def test_chunk() -> None:
    assert chunk(b"a" * 26) == b"1a\r\n" + b"a" * 26 + b"\r\n"
    assert chunk(b"") == b""


def test_head_has_no_body_in_spite_of_its_length() -> None:
    p = parser("HEAD")
    events = p.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert events == [Head(200, [(b"Content-Length", b"5")]), END] and p.reusable
    p.expect("GET")
    assert p.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")[1:] == [b"x", END]


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(status: int) -> None:
    p = parser()
    assert p.feed(b"HTTP/1.1 %d X\r\n\r\n" % status) == [Head(status, []), END]
    assert p.reusable


def test_connection_close_is_not_reusable() -> None:
    p = parser()
    p.feed(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert not p.reusable
    p = parser()
    p.feed(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert not p.reusable


def test_bytes_after_the_end_are_of_no_request() -> None:
    for extra in (b"HTTP/1.1 200 OK\r\n", b"x"):
        p = parser()
        assert p.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na" + extra)[-1] is END
        assert not p.reusable
        p = parser()
        p.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
        assert p.feed(extra) == [] and not p.reusable


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: b\0c\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
def test_what_is_ambiguous_or_no_http_is_refused(answer: bytes) -> None:
    with pytest.raises(SandboxNetworkError):
        parser().feed(answer)


def test_started_tells_whether_a_byte_came() -> None:
    p = parser()
    assert not p.started
    p.feed(b"H")
    assert p.started


def test_expect_in_the_middle_is_a_bug_of_the_caller() -> None:
    p = parser()
    with pytest.raises(RuntimeError):
        p.expect("GET")
