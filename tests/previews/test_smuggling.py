"""Requests that two programs could read differently, and headers that a stranger must not set: none gets through."""

from __future__ import annotations

import pytest

from tests.previews.conftest import Preview, Wire, preview_of

LONG = "a" * 70_000
GET = "GET /echo HTTP/1.1\r\nHost: HOST\r\n"
POST = "POST /echo HTTP/1.1\r\nHost: HOST\r\n"

REFUSED = {
    "length-and-chunks": POST + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks-and-length": POST + "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
    "two-lengths": POST + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "one-length-twice": POST + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "lengths-in-a-list": POST + "Content-Length: 3, 3\r\n\r\nabc",
    "a-length-with-a-sign": POST + "Content-Length: +3\r\n\r\nabc",
    "a-negative-length": POST + "Content-Length: -1\r\n\r\n",
    "a-hexadecimal-length": POST + "Content-Length: 0x3\r\n\r\nabc",
    "an-empty-length": POST + "Content-Length:\r\n\r\n",
    "an-endless-length": POST + "Content-Length: 99999999999999999999\r\n\r\n",
    "another-coding": POST + "Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    "two-codings": POST + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked-twice": POST + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "two-coding-headers": POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "identity": POST + "Transfer-Encoding: identity\r\n\r\n",
    "xchunked": POST + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked-with-a-tab-in-its-name": POST + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "chunked-by-vertical-tab": POST + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunks-in-1.0": "POST /echo HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a-space-before-the-colon": POST + "Content-Length : 3\r\n\r\nabc",
    "a-folded-line": GET + "X: a\r\n b\r\n\r\n",
    "a-folded-coding": POST + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a-line-without-a-name": GET + ": a\r\n\r\n",
    "a-line-without-a-colon": GET + "nothing\r\n\r\n",
    "bare-line-feeds": "GET /echo HTTP/1.1\nHost: HOST\n\n",
    "one-bare-line-feed": GET + "X: a\nY: b\r\n\r\n",
    "a-bare-carriage-return": GET + "X: a\rY: b\r\n\r\n",
    "a-nul": GET + "X: a\0b\r\n\r\n",
    "a-control-character": GET + "X: a\x07b\r\n\r\n",
    "a-name-beyond-ascii": GET + "Content-L\xe9ngth: 3\r\n\r\n",
    "no-host": "GET /echo HTTP/1.1\r\n\r\n",
    "two-hosts": GET + "Host: evil\r\n\r\n",
    "the-same-host-twice": GET + "Host: HOST\r\n\r\n",
    "a-host-with-a-user": "GET /echo HTTP/1.1\r\nHost: evil@HOST\r\n\r\n",
    "a-host-with-a-path": "GET /echo HTTP/1.1\r\nHost: HOST/evil\r\n\r\n",
    "hosts-in-a-list": "GET /echo HTTP/1.1\r\nHost: HOST, evil\r\n\r\n",
    "another-host-in-the-target": "GET http://evil/echo HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a-user-in-the-target": "GET http://evil@HOST/echo HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a-target-without-a-slash": "GET echo HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a-target-with-a-space": "GET /e cho HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a-target-with-a-tab": "GET\t/echo HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a-target-beyond-ascii": "GET /\xe9 HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a-fragment": "GET /echo#x HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a-star": "GET * HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "connect": "CONNECT evil:80 HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "http-0.9": "GET /echo\r\n",
    "http-0.9-and-more": "GET /echo\r\nHost: HOST\r\n\r\n",
    "a-long-version": "GET /echo HTTP/1.11\r\nHost: HOST\r\n\r\n",
    "a-small-version": "GET /echo http/1.1\r\nHost: HOST\r\n\r\n",
    "a-space-first": " GET /echo HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "tls": "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + "x" * 100,
}
OTHER = {
    "http-2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "http-0.2": ("GET /echo HTTP/0.2\r\nHost: HOST\r\n\r\n", 505),
    "a-huge-header": (GET + f"X: {LONG}\r\n\r\n", 431),
    "a-huge-target": (f"GET /{LONG} HTTP/1.1\r\nHost: HOST\r\n\r\n", 431),
    "a-head-without-end": (GET + "X: a" * 20_000, 431),
    "many-headers": (GET + "X: a\r\n" * 300 + "\r\n", 431),
}
BODIES = {
    "no-number": "zz\r\nabc\r\n0\r\n\r\n",
    "a-sign": "+3\r\nabc\r\n0\r\n\r\n",
    "a-prefix": "0x3\r\nabc\r\n0\r\n\r\n",
    "a-space-before": " 3\r\nabc\r\n0\r\n\r\n",
    "a-space-behind": "3 \r\nabc\r\n0\r\n\r\n",
    "an-underscore": "1_0\r\nabcdefghijklmnop\r\n0\r\n\r\n",
    "an-endless-number": "fffffffffffffffff\r\nabc\r\n",
    "a-bare-line-feed": "3\nabc\r\n0\r\n\r\n",
    "a-bare-line-feed-in-an-extension": "3;a\nb\r\nabc\r\n0\r\n\r\n",
    "too-short": "2\r\nabc\r\n0\r\n\r\n",
    "too-long": "4\r\nabc\r\n0\r\n\r\n",
    "no-line-break-behind": "3\r\nabc0\r\n\r\n",
    "a-bare-line-feed-behind": "3\r\nabc\n0\r\n\r\n",
    "a-carriage-return-behind": "3\r\nabc\rX0\r\n\r\n",
    "nothing": "\r\n\r\n",
    "a-huge-extension": f"3;{LONG}\r\nabc\r\n0\r\n\r\n",
    "a-wrong-trailer": "0\r\nX : a\r\n\r\n",
    "a-folded-trailer": "0\r\nX: a\r\n b\r\n\r\n",
    "a-nul-in-a-trailer": "0\r\nX: a\0\r\n\r\n",
    "huge-trailers": "0\r\n" + "X: aaaaaaaaaaaaaaaaa\r\n" * 2000 + "\r\n",
    "many-trailers": "0\r\n" + "X:\r\n" * 257 + "\r\n",
}


def count(preview: Preview) -> int:
    return int(preview.get("/count").body)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_reaches_nobody(preview: Preview, name: str) -> None:
    before = count(preview)
    with preview.wire() as wire:
        wire.send(REFUSED[name])
        assert wire.answer().status == 400
        assert wire.ended()
    assert count(preview) == before + 1


@pytest.mark.parametrize("name", OTHER)
def test_it_is_refused_with_its_own_status(preview: Preview, name: str) -> None:
    text, status = OTHER[name]
    with preview.wire() as wire:
        wire.send(text)
        assert wire.answer().status == status
        assert wire.ended()


@pytest.mark.parametrize("name", BODIES)
def test_a_body_in_wrong_chunks_is_refused_and_what_follows_is_no_request(preview: Preview, name: str) -> None:
    before = count(preview)
    with preview.wire() as wire:
        wire.send(POST + "Transfer-Encoding: chunked\r\n\r\n" + BODIES[name])
        wire.send("GET /count HTTP/1.1\r\nHost: HOST\r\n\r\n")
        assert wire.answer().status == 400
        assert wire.ended()
    # The one that was cut off, and this.
    assert count(preview) - before <= 2


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_as_a_second_request_too(preview: Preview, name: str) -> None:
    with preview.wire() as wire:
        assert wire.get("/echo").status == 200
        wire.send(REFUSED[name])
        assert wire.answer().status == 400
        assert wire.ended()


def test_what_is_right_though_it_looks_odd(preview: Preview) -> None:
    for text in (
        "\r\nGET /echo HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "GET http://HOST/echo HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "GET /echo HTTP/1.1\r\nhOsT:HOST\t\r\nX:\r\nY: \xe9\r\n\r\n",
        'POST /echo HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: Chunked\r\n\r\n3;a="b"\r\nabc\r\n0000\r\n\r\n',
        "OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "M-SEARCH /echo HTTP/1.1\r\nHost: HOST\r\n\r\n".replace(
            "HOST", preview.host.replace("localhost", "LocalHost.")
        ),
        "GET //evil/../echo%2f..?a=/../&b=% HTTP/1.1\r\nHost: HOST\r\n\r\n",
    ):
        with preview.wire() as wire:
            wire.send(text)
            assert wire.answer().status == 200, text


def test_an_answer_with_many_trailers_does_not_get_through(preview: Preview) -> None:
    for count, whole in ((256, True), (257, False)):
        raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + b"X:\r\n" * count + b"\r\n"
        with preview.wire() as wire:
            wire.send(f"GET /raw?{raw.hex()} HTTP/1.1\r\nHost: HOST\r\n\r\n")
            if whole:
                assert len(wire.answer().trailers) == count
            else:
                try:
                    assert wire.answer().status == 502
                except (ValueError, ConnectionError):
                    pass  # its beginning had been passed on: it was cut


def sent(preview: Preview, lines: str, method: str = "GET") -> list[tuple[str, str]]:
    """The headers that the service gets."""
    with preview.wire() as wire:
        wire.send(f"{method} /echo HTTP/1.1\r\nHost: HOST\r\n{lines}\r\n")
        return [(name, value) for name, value in wire.answer().json["headers"]]


FORGED = [
    "X-Forwarded-For: 1.2.3.4",
    "X-Forwarded-Host: evil",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Prefix: /evil",
    "X-Forwarded-Port: 1",
    "x_forwarded_for: 1.2.3.4",
    "X-Forwarded_Host: evil",
    "Forwarded: for=1.2.3.4",
    "X-Real-IP: 1.2.3.4",
    "X-Original-URL: /admin",
    "X-Sandbox-Name: evil",
    "X_Sandbox-Name: evil",
    "Authorization: Bearer sck_k_1_secret",
    "authorization: bearer  scs_payload.mac",
    "Authorization: BEARER\tsck_x",
    "Proxy-Authorization: Basic eA==",
    "Proxy-Connection: keep-alive",
    "Keep-Alive: timeout=5",
    "Upgrade: websocket",
    "TE: trailers",
    "Transfer_Encoding: evil",
    "Content_Length: 5",
    "Proxy: http://evil",
    "Connection: X-Secret\r\nX-Secret: 1",
]


@pytest.mark.parametrize("line", FORGED)
def test_what_a_stranger_may_not_say_is_dropped(preview: Preview, line: str) -> None:
    plain = dict(sent(preview, ""))
    headers = sent(preview, line + "\r\n")
    assert dict(headers) == plain and len(headers) == len(plain)


def test_connection_can_t_take_away_what_the_server_says(preview: Preview) -> None:
    options = "close, Host, Content-Length, X-Forwarded-For, X-Forwarded-Host, X-Sandbox-Name"
    headers = dict(sent(preview, f"Connection: {options}\r\nContent-Length: 0\r\n", "POST"))
    assert headers["host"] == "localhost:3000" and headers["content-length"] == "0"
    assert headers["x-forwarded-for"] == "127.0.0.1" and headers["x-forwarded-host"] == preview.host


def test_other_credentials_and_cookies_are_the_service_s(preview: Preview) -> None:
    headers = dict(
        sent(preview, "Authorization: Bearer mine\r\nCookie: a=b; c=d\r\nTE: trailers\r\nConnection: TE\r\n")
    )
    assert headers["authorization"] == "Bearer mine" and headers["cookie"] == "a=b; c=d"
    assert headers["te"] == "trailers"


def test_h2c_is_no_way_around(preview: Preview) -> None:
    headers = dict(sent(preview, "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"))
    assert "upgrade" not in headers and "http2-settings" not in headers


def test_headers_of_answers(preview: Preview) -> None:
    raw = (
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop, Content-Length\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\n"
        b"Proxy-Authenticate: Basic\r\nUpgrade: h2\r\nContent-Length: 2\r\n"
        b"Set-Cookie: a=b; Domain=localhost; Path=/x; HttpOnly\r\nSet-Cookie: c=d;domain = .localhost\r\n"
        b"Set-Cookie: e=f; DOMAIN=" + preview.host.split(":")[0].encode() + b"; Secure\r\n"
        b"Location: http://localhost:3000/next?a\r\nX-Own: kept\r\n\r\nok"
    )
    answer = preview.get(f"/raw?{raw.hex()}")
    names = [name for name, _ in answer.pairs]
    assert answer.body == b"ok" and names.count("content-length") == 1
    assert not {"x-hop", "keep-alive", "proxy-authenticate", "upgrade", "connection"} & set(names)
    cookies = [value for name, value in answer.pairs if name == "set-cookie"]
    assert cookies == ["a=b; Path=/x; HttpOnly", "c=d", "e=f; Secure"]
    assert answer.headers["location"] == "/next?a" and answer.headers["x-own"] == "kept"


def test_a_connection_belongs_to_the_host_that_it_began_with(preview: Preview) -> None:
    with preview.wire() as wire:
        assert wire.get("/echo").status == 200
        wire.host = f"127.0.0.1:{preview.tcp}"
        assert wire.get("/echo").status == 421 and wire.ended()
    with preview.wire(f"127.0.0.1:{preview.tcp}") as wire:
        assert wire.get("/echo").status == 421 and wire.ended()


def test_another_preview_on_the_same_connection_is_its_own(preview: Preview) -> None:
    other = preview_of(preview.sandbox, preview.sandbox.expose_port(3001))
    with Wire(preview.tcp, preview.host) as wire:
        assert wire.get("/echo").status == 200
        wire.host = other.host
        assert wire.get("/echo").status == 502
        wire.host = preview.host
        assert wire.get("/echo").status == 200
    preview.sandbox.unexpose_port(3001)
