"""What goes through a preview: all of HTTP/1, both ways."""

from __future__ import annotations

import hashlib
import socket

import pytest

from tests.previews.conftest import Preview


def test_a_request_and_its_answer(preview: Preview) -> None:
    answer = preview.get("/echo?a=1&b=%20", X_Own="yes")
    assert answer.status == 200
    told = answer.json
    assert (told["method"], told["target"], told["version"]) == ("GET", "/echo?a=1&b=%20", "HTTP/1.1")
    headers = dict(told["headers"])
    assert headers["x-own"] == "yes" and headers["host"] == "localhost:3000"
    assert headers["x-forwarded-host"] == preview.host and headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-for"] == "127.0.0.1" and headers["x-sandbox-name"] == preview.sandbox.id
    assert headers["x-original-url"] == f"http://{preview.host}/echo?a=1&b=%20"


def test_a_connection_is_kept_on_both_sides(preview: Preview) -> None:
    with preview.wire() as wire:
        answers = [wire.get("/echo") for _ in range(5)]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["connection"] for answer in answers}) == 1


def test_requests_sent_ahead_are_answered_in_order(preview: Preview) -> None:
    with preview.wire() as wire:
        wire.send("".join(f"GET /echo?{n} HTTP/1.1\r\nHost: HOST\r\n\r\n" for n in range(50)))
        assert [wire.answer().json["target"] for n in range(50)] == [f"/echo?{n}" for n in range(50)]


def test_bodies_go_up_by_length_and_in_chunks(preview: Preview) -> None:
    body = bytes(range(256)) * 5000
    with preview.wire() as wire:
        wire.send(f"POST /echo HTTP/1.1\r\nHost: HOST\r\nContent-Length: {len(body)}\r\n\r\n")
        wire.sock.sendall(body)
        by_length = wire.answer().json
        wire.send("POST /echo HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n")
        for at in range(0, len(body), 100_000):
            piece = body[at : at + 100_000]
            wire.sock.sendall(b"%x;name=value\r\n%b\r\n" % (len(piece), piece))
        wire.send("0\r\nX-Sum: 7\r\nHost: evil\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
        in_chunks = wire.answer().json
    digest = hashlib.sha256(body).hexdigest()
    assert by_length["digest"] == in_chunks["digest"] == digest
    assert dict(by_length["headers"])["content-length"] == str(len(body))
    assert dict(in_chunks["headers"])["transfer-encoding"] == "chunked"
    assert in_chunks["trailers"] == ["x-sum: 7"]


def test_a_body_byte_by_byte(preview: Preview) -> None:
    text = "POST /echo HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    with preview.wire() as wire:
        wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in text.replace("HOST", preview.host).encode():
            wire.sock.sendall(bytes([byte]))
        assert wire.answer().json["size"] == 3


def test_answers_in_chunks_with_trailers(preview: Preview) -> None:
    with preview.wire() as wire:
        answer = wire.get("/chunks?100")
        assert answer.body == b"".join(b"%04d" % n for n in range(100))
        assert answer.trailers == ["x-sum: 7"]
        assert wire.get("/echo").status == 200


def test_an_answer_that_ends_with_the_connection(preview: Preview) -> None:
    with preview.wire() as wire:
        answer = wire.get("/until-close")
        assert answer.body == b"until the end" and answer.headers["transfer-encoding"] == "chunked"
        # The caller's own connection stays.
        assert wire.get("/echo").status == 200


def test_http_1_0(preview: Preview) -> None:
    with preview.wire() as wire:
        wire.send("GET /chunks?3 HTTP/1.0\r\nHost: HOST\r\n\r\n")
        answer = wire.answer()
        assert answer.body == b"000000010002" and "transfer-encoding" not in answer.headers
        assert answer.headers["connection"] == "close" and wire.ended()
    with preview.wire() as wire:
        wire.send("GET /echo HTTP/1.0\r\nHost: HOST\r\nConnection: keep-alive\r\n\r\n")
        assert wire.answer().headers["connection"] == "keep-alive"
        wire.send("GET /echo HTTP/1.0\r\nHost: HOST\r\n\r\n")
        assert wire.answer().status == 200 and wire.ended()


def test_close_is_heeded(preview: Preview) -> None:
    with preview.wire() as wire:
        assert wire.get("/echo", Connection="close").headers["connection"] == "close"
        assert wire.ended()


def test_head_and_range(preview: Preview) -> None:
    with preview.wire() as wire:
        wire.send("HEAD /send?1000 HTTP/1.1\r\nHost: HOST\r\n\r\n")
        answer = wire.answer("HEAD")
        assert answer.headers["content-length"] == "1000"
        told = wire.get("/echo", Range="bytes=1-2", If_None_Match='"x"').json
        assert dict(told["headers"])["range"] == "bytes=1-2"
        raw = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/9\r\nContent-Length: 2\r\n\r\nbc"
        answer = wire.get(f"/raw?{raw.hex()}")
        assert (answer.status, answer.headers["content-range"], answer.body) == (206, "bytes 1-2/9", b"bc")
        raw = b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 55\r\n\r\n'
        answer = wire.get(f"/raw?{raw.hex()}")
        assert (answer.status, answer.headers["etag"]) == (304, '"x"')
        assert wire.get("/echo").status == 200


def test_100_continue_and_early_hints(preview: Preview) -> None:
    with preview.wire() as wire:
        wire.send("POST /continue HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert wire.head()[0] == 100
        assert wire.head() == (103, [("link", "</a>")])
        wire.send("abc")
        assert wire.answer().json["size"] == 3
    with preview.wire() as wire:
        wire.send("POST /echo HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\nExpect: miracles\r\n\r\n")
        assert wire.answer().status == 417


def test_an_answer_that_comes_before_the_body_was_sent(preview: Preview) -> None:
    with preview.wire() as wire:
        wire.send("POST /early HTTP/1.1\r\nHost: HOST\r\nContent-Length: 50000000\r\n\r\n")
        wire.sock.sendall(bytes(100_000))
        answer = wire.answer()
        assert (answer.status, answer.body, answer.headers["connection"]) == (413, b"no", "close")
        assert wire.ended()


def test_events_come_as_they_happen(preview: Preview) -> None:
    with preview.wire() as wire:
        wire.send("GET /slow HTTP/1.1\r\nHost: HOST\r\n\r\n")
        assert wire.head()[0] == 200
        assert wire.read(14) == b"9\r\ndata: 1\n\n\r\n"
        assert preview.get("/go").status == 200
        assert wire.read(19) == b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"


def test_an_upgrade_is_a_tunnel(preview: Preview) -> None:
    with preview.wire() as wire:
        # Bytes sent ahead belong to the tunnel, whatever they look like.
        wire.send(
            "GET /upgrade HTTP/1.1\r\nHost: HOST\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nA"
        )
        status, pairs = wire.head()
        assert status == 101 and ("upgrade", "websocket") in pairs and ("connection", "upgrade") in pairs
        assert wire.read(7) == b"hello A"
        data = b"\0\xff GET / HTTP/1.1\r\n\r\n"
        wire.send(data)
        assert wire.read(len(data)) == data
        wire.sock.shutdown(socket.SHUT_WR)
        assert wire.read(3) == b"bye" and wire.ended()


def test_an_upgrade_that_is_refused_is_an_answer(preview: Preview) -> None:
    with preview.wire() as wire:
        wire.send("GET /echo HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert dict(wire.answer().json["headers"])["upgrade"] == "websocket"
        assert wire.get("/echo").status == 200


def test_an_idle_connection_that_the_service_closed_harms_nobody(preview: Preview) -> None:
    with preview.wire() as wire:
        for _ in range(30):
            assert wire.get("/once").status == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Le", 502),
        (b"HELLO\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", 502),
        (b"HTTP/1.1 200 OK\r\nSet-Cookie: a\0b\r\nContent-Length: 0\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n", 502),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nhi", 502),
    ],
)
def test_a_service_that_answers_nonsense(preview: Preview, raw: bytes, status: int) -> None:
    with preview.wire() as wire:
        answer = wire.get(f"/raw?{raw.hex()}", Accept="application/json")
        assert answer.status == status and answer.json["code"]
        assert "Traceback" not in answer.json["error"]
        assert wire.get("/echo").status == 200


def test_a_head_that_is_too_long(preview: Preview) -> None:
    answer = preview.get("/long")
    assert answer.status == 502 and "head is longer than" in answer.json["error"]


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
)
def test_an_answer_that_breaks_off_is_seen_to_be_broken(preview: Preview, raw: bytes) -> None:
    with preview.wire() as wire:
        wire.send(f"GET /raw?{raw.hex()} HTTP/1.1\r\nHost: HOST\r\n\r\n")
        assert wire.head()[0] == 200
        try:
            rest = wire.read(10_000)
        except ConnectionResetError:
            return
        assert len(rest) < 500 and not rest.endswith(b"0\r\n\r\n")
