"""Secrets at the proxy: what gets them, and how one could be had sent where it does not belong."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sandcove.server.egress.authority import Authority
from sandcove.server.egress.purse import NO_SECRETS, Purse
from sandcove.wire.egress import parse_egress
from sandcove.wire.secrets import Secret, check_secrets
from tests.egress.proxy import Proxy, run
from tests.egress.secure import SecureHost, Tunnel, until

VALUE = "s3cret/value+1"
OURS, OTHER = "api.test", "other.test"
UPSTREAM = Authority.make()
"""Vouches for the hosts of these tests: the server trusts it, programs in sandboxes don't."""


@pytest.fixture(autouse=True)
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").write_text(Authority(UPSTREAM).certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


@pytest.fixture
def host() -> Iterator[SecureHost]:
    made = SecureHost(Authority(UPSTREAM), OURS)
    yield made
    made.close()


@pytest.fixture
def other() -> Iterator[SecureHost]:
    made = SecureHost(Authority(UPSTREAM), OTHER)
    yield made
    made.close()


@pytest.fixture
def plain() -> Iterator[SecureHost]:
    made = SecureHost(None)
    yield made
    made.close()


def purse_of(**secrets: Secret) -> Purse:
    return NO_SECRETS.changed(check_secrets(secrets), parse_egress("public"))


def secret(port: int, header: str | None = None, *, tls: bool = True, in_url: bool = False) -> Secret:
    return Secret(VALUE, [f"{OURS}:{port}"], header, tls, in_url)


def proxy_to(purse: Purse, *hosts: SecureHost, rate: int = 0) -> Proxy:
    exempt = ", ".join(f"127.0.0.1:{host.port}" for host in hosts)
    return Proxy("public", exempt, lambda name: ["127.0.0.1"], secrets=purse, rate=rate)


def placeholder(purse: Purse, name: str = "KEY") -> bytes:
    return purse.kept[name].placeholder.encode()


async def tunnel(proxy: Proxy, purse: Purse, port: int, name: str = OURS) -> Tunnel:
    made = await Tunnel.open(proxy.port, OURS, port)
    await made.begin_tls(Authority(purse.authority).certificate, name)
    return made


def get(port: int, *lines: bytes, path: bytes = b"/", host: str = OURS) -> bytes:
    head = [b"GET %b HTTP/1.1" % path, f"Host: {host}:{port}".encode(), *lines]
    return b"\r\n".join([*head, b"", b""])


# --- what gets them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0, 10_000_000])
def test_a_placeholder_in_a_header_becomes_the_value_and_nothing_comes_back(host: SecureHost, rate: int) -> None:
    purse = purse_of(KEY=secret(host.port))
    word = placeholder(purse)
    basic = base64.b64encode(b"me:" + word)

    async def attempt() -> tuple[str | None, list[bytes]]:
        made = await tunnel(proxy_to(purse, host, rate=rate), purse, host.port)
        answers = []
        for lines in (
            [b"Authorization: Bearer " + word],
            [b"authorization: basic " + basic],
            [b"Cookie: a=1; b=" + word],
        ):
            await made.send(get(host.port, *lines))
            answers.append(await made.answer())
        made.close()
        return made.protocol, answers

    protocol, answers = run(attempt)
    assert protocol == "http/1.1"
    assert len(host.seen) == 1, "the connection is kept"
    assert b"authorization: Bearer " + VALUE.encode() in host.got
    assert b"authorization: basic " + base64.b64encode(b"me:" + VALUE.encode()) in host.got
    assert b"cookie: a=1; b=" + VALUE.encode() in host.got
    assert word not in host.got
    # The host echoes its heads: what the program sees is what it has sent.
    for answer, sent in zip(answers, (b"Bearer " + word, b"basic " + basic, b"a=1; b=" + word), strict=True):
        assert sent in answer
        assert VALUE.encode() not in answer


def test_plain_http_gets_those_that_are_meant_for_it_alone(plain: SecureHost, host: SecureHost) -> None:
    purse = purse_of(
        KEY=secret(plain.port, tls=False),
        SAFE=Secret(f"{VALUE}-safe", [f"{OURS}:{plain.port}", f"{OURS}:{host.port}"], intercept_tls=True),
    )

    async def attempt() -> bytes:
        proxy = proxy_to(purse, plain, host)
        lines = [b"X-Key: " + placeholder(purse), b"X-Safe: " + placeholder(purse, "SAFE")]
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(get(plain.port, *lines, path=f"http://{OURS}:{plain.port}/".encode()))
        came = await asyncio.wait_for(reader.readuntil(b"hello"), 10)
        writer.close()
        made = await tunnel(proxy, purse, host.port)
        await made.send(get(host.port, *lines))
        await made.answer()
        made.close()
        return came

    came = run(attempt)
    assert b"x-key: " + VALUE.encode() + b"\r\n" in plain.got
    assert b"x-safe: " + placeholder(purse, "SAFE") in plain.got, "a secret for TLS does not go in the clear"
    assert b"x-safe: " + VALUE.encode() + b"-safe\r\n" in host.got
    assert b"x-key: " + placeholder(purse) in host.got
    assert VALUE.encode() not in came


@pytest.mark.parametrize(
    "sent", [[], [b"X-Api-Key: mine"], [b"x_api_key: mine", b"X-API-KEY: mine", b"Connection: x-api-key"]]
)
def test_a_header_is_set_whatever_the_program_sends(host: SecureHost, sent: list[bytes]) -> None:
    purse = purse_of(KEY=secret(host.port, "X-Api-Key: Key {secret}!"))

    async def attempt() -> bytes:
        made = await tunnel(proxy_to(purse, host), purse, host.port)
        return await made.ask(get(host.port, *sent, b"X-Else: " + placeholder(purse), b"Connection: close"))

    came = run(attempt)
    lines = host.got.split(b"\r\n")
    assert [line for line in lines if line.lower().replace(b"_", b"-").startswith(b"x-api-key")] == [
        b"x-api-key: Key " + VALUE.encode() + b"!"
    ]
    assert b"x-else: " + placeholder(purse) in lines, "it goes into its header alone"
    assert VALUE.encode() not in came


@pytest.mark.parametrize("in_url", [True, False])
def test_the_url_has_it_only_where_that_is_asked_for(host: SecureHost, in_url: bool) -> None:
    purse = purse_of(KEY=secret(host.port, in_url=in_url))
    word = placeholder(purse)

    async def attempt() -> bytes:
        made = await tunnel(proxy_to(purse, host), purse, host.port)
        return await made.ask(get(host.port, b"Connection: close", path=b"/bot%b/x?key=%b" % (word, word)))

    came = run(attempt)
    quoted = b"s3cret%2Fvalue%2B1"
    assert (b"GET /bot%b/x?key=%b HTTP/1.1" % ((quoted, quoted) if in_url else (word, word))) in host.got
    assert quoted not in came


def test_bodies_and_trace_are_left_alone(host: SecureHost) -> None:
    purse = purse_of(KEY=secret(host.port))
    word = placeholder(purse)

    async def attempt() -> None:
        made = await tunnel(proxy_to(purse, host), purse, host.port)
        request = get(host.port, b"Content-Length: %d" % len(word)).replace(b"GET", b"POST") + word
        await made.send(request)
        await made.answer()
        await made.ask(get(host.port, b"X-Key: " + word, b"Connection: close").replace(b"GET", b"TRACE"))

    run(attempt)
    assert host.got.count(word) == 2
    assert VALUE.encode() not in host.got


def test_a_websocket_and_a_body_that_waits(host: SecureHost) -> None:
    def answer(head: bytes) -> bytes:
        if b"upgrade: websocket" in head:
            return b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nfirst"
        if b"expect: 100-continue" in head:
            return b"HTTP/1.1 100 Continue\r\n\r\n"
        return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

    host._answer = answer
    purse = purse_of(KEY=secret(host.port))
    key = b"X-Key: " + placeholder(purse)

    async def attempt() -> tuple[bytes, bytes]:
        proxy = proxy_to(purse, host)
        made = await tunnel(proxy, purse, host.port)
        await made.send(get(host.port, key, b"Connection: Upgrade", b"Upgrade: websocket"))
        came = await made.answer()
        await made.send(b"\x81frame of the program's")
        came += await made._reader.readexactly(5)
        await until(lambda: b"frame" in host.got)
        made.close()
        made = await tunnel(proxy, purse, host.port)
        await made.send(get(host.port, key, b"Expect: 100-continue", b"Content-Length: 4").replace(b"GET", b"PUT"))
        waited = await made.answer()
        await made.send(b"body")
        await until(lambda: host.got.endswith(b"body"))
        made.close()
        return came, waited

    came, waited = run(attempt)
    assert came.startswith(b"HTTP/1.1 101") and came.endswith(b"first")
    assert waited.startswith(b"HTTP/1.1 100")
    assert host.got.count(b"x-key: " + VALUE.encode()) == 2


def test_nothing_of_an_answer_but_its_body_says_the_secret(host: SecureHost) -> None:
    value = VALUE.encode()
    host._answer = lambda _: (
        b"HTTP/1.1 103 Early %b\r\nlink: %b\r\n\r\nHTTP/1.1 400 %b is wrong\r\nx-a: %b\r\n" % ((value,) * 4)
        + b"transfer-encoding: chunked\r\n\r\n0\r\nx-b: %b\r\n\r\n" % value
    )
    purse = purse_of(KEY=secret(host.port))
    key = placeholder(purse)

    async def attempt() -> bytes:
        made = await tunnel(proxy_to(purse, host), purse, host.port)
        await made.send(get(host.port, b"X-Key: " + key))
        came = b"".join([await made._reader.readuntil(b"\r\n\r\n") for _ in range(3)])
        made.close()
        return came

    came = run(attempt)
    assert value in host.got and value not in came
    for line in (b"103 Early %b", b"link: %b", b"400 %b is wrong", b"x-a: %b", b"x-b: %b"):
        assert line % key + b"\r\n" in came


def test_a_first_message_that_comes_with_the_request_for_the_tunnel(host: SecureHost) -> None:
    purse = purse_of(KEY=secret(host.port))

    async def attempt() -> bytes:
        proxy = proxy_to(purse, host)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cadata=Authority(purse.authority).certificate)
        tls = context.wrap_bio(incoming, outgoing, server_hostname=OURS)
        with suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(f"CONNECT {OURS}:{host.port} HTTP/1.1\r\n\r\n".encode() + outgoing.read())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(await asyncio.wait_for(reader.read(65536), 10))
        # Its last word of the handshake and the request are one piece.
        tls.write(get(host.port, b"X-Key: " + placeholder(purse)))
        writer.write(outgoing.read())
        came = b""
        while b"hello" not in came:
            incoming.write(await asyncio.wait_for(reader.read(65536), 10))
            with suppress(ssl.SSLWantReadError):
                came += tls.read(65536)
        writer.close()
        return came

    assert b"200 OK" in run(attempt)
    assert b"x-key: " + VALUE.encode() in host.got


# --- what does not ----------------------------------------------------------------------------------------


def test_the_placeholder_at_another_host_stays_what_it_is(
    host: SecureHost, other: SecureHost, plain: SecureHost
) -> None:
    """TLS to it passes by unseen: the program meets the host's own certificate."""
    purse = purse_of(KEY=secret(host.port), CLEAR=Secret(VALUE, [f"{OURS}:80"]))

    async def attempt() -> None:
        proxy = proxy_to(purse, host, other, plain)
        made = await Tunnel.open(proxy.port, OTHER, other.port)
        await made.begin_tls(Authority(UPSTREAM).certificate, OTHER)
        await made.ask(get(other.port, b"X-Key: " + placeholder(purse), b"Connection: close", host=OTHER))
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        keys = [b"X-Key: " + placeholder(purse), b"X-Clear: " + placeholder(purse, "CLEAR")]
        writer.write(get(plain.port, *keys, path=f"http://{OTHER}:{plain.port}/".encode(), host=OTHER))
        await asyncio.wait_for(reader.readuntil(b"hello"), 10)
        writer.close()

    run(attempt)
    assert b"X-Key: " + placeholder(purse) in other.got, "as it was sent: nobody has read it on the way"
    assert placeholder(purse) in plain.got
    assert placeholder(purse, "CLEAR") in plain.got
    assert VALUE.encode() not in other.got + plain.got


ATTACKS = {
    "another Host": "GET / HTTP/1.1\r\nHost: {other}\r\nX-Key: {key}\r\n\r\n",
    "another port": "GET / HTTP/1.1\r\nHost: {ours_name}:1\r\nX-Key: {key}\r\n\r\n",
    "another port, unsaid": "GET / HTTP/1.1\r\nHost: {ours_name}\r\nX-Key: {key}\r\n\r\n",
    "two Hosts": "GET / HTTP/1.1\r\nHost: {ours}\r\nHost: {other}\r\nX-Key: {key}\r\n\r\n",
    "two Hosts, the other way": "GET / HTTP/1.1\r\nHost: {other}\r\nHost: {ours}\r\nX-Key: {key}\r\n\r\n",
    "no Host": "GET / HTTP/1.1\r\nX-Key: {key}\r\n\r\n",
    "an empty Host": "GET / HTTP/1.1\r\nHost: \r\nX-Key: {key}\r\n\r\n",
    "a Host with a user": "GET / HTTP/1.1\r\nHost: {ours}@{other}\r\nX-Key: {key}\r\n\r\n",
    "a Host with a path": "GET / HTTP/1.1\r\nHost: {other}/{ours}\r\nX-Key: {key}\r\n\r\n",
    "a list of Hosts": "GET / HTTP/1.1\r\nHost: {ours}, {other}\r\nX-Key: {key}\r\n\r\n",
    "another target": "GET https://{other}/ HTTP/1.1\r\nHost: {other}\r\nX-Key: {key}\r\n\r\n",
    "another target, our Host": "GET https://{other}/ HTTP/1.1\r\nHost: {ours}\r\nX-Key: {key}\r\n\r\n",
    "our target, another Host": "GET https://{ours}/ HTTP/1.1\r\nHost: {other}\r\nX-Key: {key}\r\n\r\n",
    "a target with a user": "GET https://{ours}@{other}/ HTTP/1.1\r\nHost: {ours}\r\nX-Key: {key}\r\n\r\n",
    "a target in the clear": "GET http://{other}/ HTTP/1.1\r\nHost: {ours}\r\nX-Key: {key}\r\n\r\n",
    "our target in the clear": "GET http://{ours}/ HTTP/1.1\r\nHost: {ours}\r\nX-Key: {key}\r\n\r\n",
    "a target without a path": "GET {other} HTTP/1.1\r\nHost: {ours}\r\nX-Key: {key}\r\n\r\n",
    "a target by ftp": "GET ftp://{other}/ HTTP/1.1\r\nHost: {ours}\r\nX-Key: {key}\r\n\r\n",
    "a tunnel in the tunnel": "CONNECT {other} HTTP/1.1\r\nHost: {other}\r\nX-Key: {key}\r\n\r\n",
    "a tunnel to ours": "CONNECT {ours} HTTP/1.1\r\nHost: {ours}\r\nX-Key: {key}\r\n\r\n",
    "SOCKS5": "\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50",
    "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": "GET /\r\n\r\n",
    "folded": "GET / HTTP/1.1\r\nHost: {ours}\r\nX-Key: a\r\n {key}\r\n\r\n",
    "folded Host": "GET / HTTP/1.1\r\nHost: {ours}\r\n {other}\r\nX-Key: {key}\r\n\r\n",
    "a space before the colon": "GET / HTTP/1.1\r\nHost: {ours}\r\nX-Key : {key}\r\n\r\n",
    "a bare line feed": "GET / HTTP/1.1\r\nHost: {ours}\r\nX: a\nX-Key: {key}\r\n\r\n",
    "a bare carriage return": "GET / HTTP/1.1\r\nHost: {ours}\r\nX: a\rX-Key: {key}\r\n\r\n",
    "a NUL": "GET / HTTP/1.1\r\nHost: {ours}\r\nX-Key: {key}\0\r\n\r\n",
    "two lengths": "POST / HTTP/1.1\r\nHost: {ours}\r\nContent-Length: 0\r\nContent-Length: 99\r\nX-Key: {key}\r\n\r\n",
    "a length and chunks": "POST / HTTP/1.1\r\nHost: {ours}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n"
    "X-Key: {key}\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: {other}\r\n\r\n",
    "an odd coding": "POST / HTTP/1.1\r\nHost: {ours}\r\nTransfer-Encoding: xchunked\r\nX-Key: {key}\r\n\r\n",
    "two codings": "POST / HTTP/1.1\r\nHost: {ours}\r\nTransfer-Encoding: gzip, chunked\r\nX-Key: {key}\r\n\r\n",
    "a length with a sign": "POST / HTTP/1.1\r\nHost: {ours}\r\nContent-Length: +0\r\nX-Key: {key}\r\n\r\n",
    "a head without end": "GET / HTTP/1.1\r\nHost: {ours}\r\nX-Key: {key}" + "A" * 66_000,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_not_plainly_for_the_tunnels_host_is_refused(host: SecureHost, other: SecureHost, attack: str) -> None:
    purse = purse_of(KEY=secret(host.port), ALL=secret(host.port, "X-All: {secret}"))
    text = ATTACKS[attack].format(
        ours=f"{OURS}:{host.port}", ours_name=OURS, other=f"{OTHER}:{other.port}", key=placeholder(purse).decode()
    )

    async def attempt() -> bytes:
        made = await tunnel(proxy_to(purse, host, other), purse, host.port)
        await made.send(text.encode())
        came = await made.answer()
        made.close()
        return came

    came = run(attempt)
    assert came.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505")), came
    assert VALUE.encode() not in came + host.got + other.got
    assert not other.seen


SMUGGLED = {
    "in a body": "POST / HTTP/1.1\r\nHost: {ours}\r\nContent-Length: {length}\r\n\r\n{second}",
    "in a chunk": "POST / HTTP/1.1\r\nHost: {ours}\r\nTransfer-Encoding: chunked\r\n\r\n"
    "{size}\r\n{second}\r\n0\r\n\r\n",
    "in a chunk's extension": "POST / HTTP/1.1\r\nHost: {ours}\r\nTransfer-Encoding: chunked\r\n\r\n"
    "1;{key}\r\nx\r\n0\r\n\r\n",
    "in trailers": "POST / HTTP/1.1\r\nHost: {ours}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    "X-Key: {key}\r\nHost: {other}\r\n\r\n",
    "behind GET": "GET / HTTP/1.1\r\nHost: {ours}\r\n\r\n{second}",
}


@pytest.mark.parametrize("attack", SMUGGLED)
def test_a_second_request_gets_no_further_than_the_first(host: SecureHost, other: SecureHost, attack: str) -> None:
    """What a body holds stays a body; what stands behind a request is a request, for the same host or refused."""
    purse = purse_of(KEY=secret(host.port))
    names = {"ours": f"{OURS}:{host.port}", "other": f"{OTHER}:{other.port}", "key": placeholder(purse).decode()}
    second = "GET /second HTTP/1.1\r\nHost: {other}\r\nX-Key: {key}\r\n\r\n".format(**names)
    text = SMUGGLED[attack].format(**names, second=second, length=len(second), size=f"{len(second):x}")

    async def attempt() -> bytes:
        made = await tunnel(proxy_to(purse, host, other), purse, host.port)
        return await made.ask(text.encode())

    came = run(attempt)
    assert came.startswith(b"HTTP/1.1 200")
    assert VALUE.encode() not in came + host.got + other.got
    assert not other.seen


@pytest.mark.parametrize("name", [OTHER, f"x.{OURS}", "127.0.0.1"])
def test_tls_that_names_another_host(host: SecureHost, name: str) -> None:
    purse = purse_of(KEY=secret(host.port))

    async def attempt() -> str:
        proxy = proxy_to(purse, host)
        with pytest.raises((OSError, EOFError)):
            await tunnel(proxy, purse, host.port, name)
        await until(lambda: proxy.entries)
        return proxy.entries[-1].reason

    # An address is named in no first message; the certificate is not for it.
    assert ("could not be begun" if name == "127.0.0.1" else "another host") in run(attempt)
    assert not host.seen


FIRST = {
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "SSH": b"SSH-2.0-x\r\n",
    "a record that is no hello": b"\x16\x03\x01\x00\x05hello",
    "zeros": b"\x00" * 99,
}


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_what_is_no_tls_does_not_pass(host: SecureHost, first: bytes) -> None:
    purse = purse_of(KEY=secret(host.port))

    async def attempt() -> tuple[bytes, str]:
        proxy = proxy_to(purse, host)
        made = await Tunnel.open(proxy.port, OURS, host.port)
        return await made.ask(first), proxy.entries[-1].reason

    came, reason = run(attempt)
    assert ("could not be begun" if first[0] == 22 else "what came is no TLS") in reason
    assert VALUE.encode() not in came
    assert not host.seen


def test_what_takes_the_server_long_is_bounded(host: SecureHost) -> None:
    """A first message byte by byte; and a connection with TLS counts for ten."""
    purse = purse_of(KEY=secret(host.port))

    async def attempt() -> tuple[str, float]:
        proxy = proxy_to(purse, host)
        made = await Tunnel.open(proxy.port, OURS, host.port)
        for byte in b"\x16\x03\x01\x02\x00\x01" + b"x" * 60:
            await made.send(bytes([byte]))
            await asyncio.sleep(0.002)
        await made.rest()
        made.close()
        reason = proxy.entries[-1].reason
        before = proxy.outlet._taken
        (await tunnel(proxy, purse, host.port)).close()
        return reason, before - proxy.outlet._taken

    reason, cost = run(attempt)
    assert "too many pieces" in reason
    assert 0 < cost <= 10


def test_a_program_that_does_not_trust_the_sandboxs_certificates(host: SecureHost) -> None:
    purse = purse_of(KEY=secret(host.port))

    async def attempt() -> str:
        proxy = proxy_to(purse, host)
        made = await Tunnel.open(proxy.port, OURS, host.port)
        with pytest.raises(ssl.SSLCertVerificationError):
            await made.begin_tls(Authority(UPSTREAM).certificate, OURS)
        made.close()
        await until(lambda: proxy.entries)
        return proxy.entries[-1].reason

    assert "trust the sandbox's certificates" in run(attempt)
    assert not host.seen


@pytest.mark.parametrize("wrong", ["unknown authority", "another name"])
def test_a_host_that_is_not_what_it_should_be_gets_nothing(wrong: str) -> None:
    authority = Authority(UPSTREAM if wrong == "another name" else Authority.make())
    impostor = SecureHost(authority, OTHER if wrong == "another name" else OURS)
    purse = purse_of(KEY=secret(impostor.port))

    async def attempt() -> tuple[bytes, str]:
        proxy = proxy_to(purse, impostor)
        made = await tunnel(proxy, purse, impostor.port)
        return await made.ask(get(impostor.port, b"X-Key: " + placeholder(purse))), proxy.entries[-1].verdict

    came, verdict = run(attempt)
    assert came.startswith(f"HTTP/1.1 502 Sandcove: {OURS}:{impostor.port} can't be trusted: ".encode())
    assert verdict == "failed"
    assert VALUE.encode() not in came + impostor.got
    impostor.close()


# --- changes ----------------------------------------------------------------------------------------------


def test_changes_hold_on_connections_that_are_open(host: SecureHost) -> None:
    """Another value is used at once, and one that is removed no more; what may not be reached any more is cut."""
    purse = purse_of(KEY=secret(host.port))
    request = get(host.port, b"X-Key: " + placeholder(purse))

    async def attempt() -> bytes:
        proxy = proxy_to(purse, host)
        made = await tunnel(proxy, purse, host.port)
        others = Secret("another-value", [f"{OURS}:{host.port}"], intercept_tls=True)
        for changed in (None, {"KEY": others}, {"KEY": None}):
            if changed is not None:
                proxy.outlet.set_secrets(purse.changed(changed, parse_egress("public")))
            await made.send(request)
            await made.answer()
        proxy.outlet.change(parse_egress("none"))
        left = await made.rest()
        made.close()
        return left

    assert run(attempt) == b""
    assert len(host.seen) == 1
    keys = [line for line in host.got.split(b"\r\n") if line.startswith(b"x-key")]
    assert keys == [b"x-key: " + word for word in (VALUE.encode(), b"another-value", placeholder(purse))]


def test_a_tunnel_that_passes_by_is_cut_when_its_host_gets_a_secret(host: SecureHost) -> None:
    async def attempt() -> str:
        proxy = proxy_to(NO_SECRETS, host)
        made = await Tunnel.open(proxy.port, OURS, host.port)
        await made.begin_tls(Authority(UPSTREAM).certificate, OURS)
        proxy.outlet.set_secrets(purse_of(KEY=secret(host.port)))
        assert await made.ask(get(host.port)) == b""
        return proxy.entries[-1].reason

    assert run(attempt) == "there is a secret for this host now"


def test_secrets_of_another_sandbox_are_no_use(host: SecureHost) -> None:
    mine, others = purse_of(KEY=secret(host.port)), purse_of(KEY=secret(host.port))
    assert placeholder(mine) != placeholder(others)

    async def attempt() -> None:
        made = await tunnel(proxy_to(mine, host), mine, host.port)
        await made.ask(get(host.port, b"X-Key: " + placeholder(others), b"Connection: close"))
        made = await Tunnel.open(proxy_to(mine, host).port, OURS, host.port)
        with pytest.raises(ssl.SSLCertVerificationError):
            await made.begin_tls(Authority(others.authority).certificate, OURS)
        made.close()

    run(attempt)
    assert b"x-key: " + placeholder(others) in host.got
    assert VALUE.encode() not in host.got
