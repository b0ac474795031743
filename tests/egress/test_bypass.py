"""Ways around the policy, from a table: none gets to the victim, and each does, or would, without the protection.

Only loopback is asked. What would lead elsewhere is refused before anything is sent: its verdict shows that.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from sandcove.server.egress.addresses import Addresses, AddressRefused, parse_exempt
from sandcove.server.egress.own import is_own
from sandcove.wire.egress import canonical_host
from tests.egress.proxy import Host, Proxy, ask, run, socks

LOOPBACK = "127.0.0.0/8 ::1/128"
NAMES = {
    "evil.test": ["127.0.0.1"],
    "evil6.test": ["::ffff:127.0.0.1"],
    "two.test": ["10.0.0.1", "127.0.0.1"],
    "good.test": ["127.0.0.1"],
    "a.good.test": ["127.0.0.1"],
    "good.test.evil.test": ["127.0.0.1"],
    "evilgood.test": ["127.0.0.1"],
    "localhost": ["127.0.0.1"],
}


def names(name: str) -> list[str]:
    if name not in NAMES:
        raise OSError("unknown")
    return NAMES[name]


@pytest.fixture
def victim() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


@pytest.fixture
def good() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


def connect(target: str) -> tuple[bytes, ...]:
    return (f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode(), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


def get(host: str) -> tuple[bytes, ...]:
    return (f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(),)


def by_socks(kind: int, host: bytes, port: int) -> tuple[bytes, ...]:
    return (b"\x05\x01\x00", socks(kind, host, port), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


# --- addresses: everything is allowed by name -----------------------------------------------------------


def packed(address: str) -> bytes:
    return ip_address(address).packed


ADDRESSES: dict[str, Any] = {
    "CONNECT 127.0.0.1": lambda p: connect(f"127.0.0.1:{p}"),
    "CONNECT 127.0.0.1 with a dot": lambda p: connect(f"127.0.0.1.:{p}"),
    "CONNECT mapped": lambda p: connect(f"[::ffff:127.0.0.1]:{p}"),
    "CONNECT mapped in hexadecimal": lambda p: connect(f"[::ffff:7f00:1]:{p}"),
    "CONNECT a mapped address in full": lambda p: connect(f"[0:0:0:0:0:ffff:7f00:0001]:{p}"),
    "CONNECT localhost": lambda p: connect(f"localhost:{p}"),
    "CONNECT a name": lambda p: connect(f"evil.test:{p}"),
    "CONNECT a name in capitals": lambda p: connect(f"EVIL.test.:{p}"),
    "CONNECT a name with a mapped address": lambda p: connect(f"evil6.test:{p}"),
    "GET 127.0.0.1": lambda p: get(f"127.0.0.1:{p}"),
    "GET mapped": lambda p: get(f"[::ffff:127.0.0.1]:{p}"),
    "GET a name": lambda p: get(f"evil.test:{p}"),
    "SOCKS 127.0.0.1": lambda p: by_socks(1, packed("127.0.0.1"), p),
    "SOCKS mapped": lambda p: by_socks(4, packed("::ffff:127.0.0.1"), p),
    "SOCKS a name": lambda p: by_socks(3, b"evil.test", p),
    "SOCKS an address as name": lambda p: by_socks(3, b"127.0.0.1", p),
}


@pytest.mark.parametrize("way", ADDRESSES)
@pytest.mark.parametrize("protected", [True, False], ids=["protected", "unprotected"])
def test_an_address_that_is_not_public(victim: Host, way: str, protected: bool) -> None:
    async def attempt() -> bytes:
        proxy = Proxy("public", "" if protected else LOOPBACK, names)
        came = await ask(proxy.port, *ADDRESSES[way](victim.port))
        assert [entry.verdict for entry in proxy.entries] == ["refused" if protected else "allowed"]
        return came

    came = run(attempt)
    assert (b"reached" in came) == (not protected)
    assert bool(victim.seen) == (not protected)


FORMS = [
    "2130706433",
    "0x7f000001",
    "0x7F000001",
    "017700000001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f.1",
    "127.1",
    "127.0.1",
    "0",
    "0.0.0.0",
    "127.000.000.001",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("how", ["connect", "get", "socks"])
def test_an_address_in_another_form(victim: Host, form: str, how: str) -> None:
    """The system's own functions take each for an address of this machine."""
    socket.create_connection((form, victim.port), 2).close()
    while not victim.seen:
        pass
    victim.seen.clear()
    target = f"{form}:{victim.port}"
    pieces = {"connect": connect(target), "get": get(target), "socks": by_socks(3, form.encode(), victim.port)}

    async def attempt() -> None:
        # Even loopback is allowed: the form alone is what stops it. But 0.0.0.0 is in the usual form.
        proxy = Proxy("public", LOOPBACK, lambda name: [str(socket.gethostbyname(name))])
        await ask(proxy.port, *pieces[how])
        assert [entry.verdict for entry in proxy.entries] == ["refused"]

    run(attempt)
    assert not victim.seen


ELSEWHERE = [
    "169.254.169.254",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.1",
    "::1",
    "::",
    "fe80::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:169.254.169.254",
    "::ffff:10.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::1",
    "::127.0.0.1",
]


@pytest.mark.parametrize("address", ELSEWHERE)
def test_an_address_elsewhere(address: str) -> None:
    """Nothing is sent there, not even in the control: without the rules the address would be connected to."""

    async def attempt() -> None:
        proxy = Proxy("public", names=lambda _: [address])
        shown = f"[{address}]" if ":" in address else address
        for pieces in (connect(f"{shown}:80"), connect("evil.test:80"), get("evil.test:80")):
            assert b"403" in await ask(proxy.port, *pieces)
        assert [entry.verdict for entry in proxy.entries] == ["refused"] * 3
        assert "egress_private" in proxy.entries[0].reason

    run(attempt)
    assert Addresses(parse_exempt("0.0.0.0/0 [::/0]"), own=lambda _: False).check(address, 80)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_a_public_address_is_let_through(address: str) -> None:
    assert Addresses(own=lambda _: False).check(address, 443) == address


def test_the_servers_own_address() -> None:
    assert is_own("127.0.0.1")
    assert not is_own("8.8.8.8")
    with pytest.raises(AddressRefused, match="server itself"):
        Addresses(own=lambda address: address == "8.8.8.8").check("8.8.8.8", 443)


def test_a_network_that_the_operator_allows_does_not_open_the_server_in_it() -> None:
    def allowed(exempt: str) -> Addresses:
        return Addresses(parse_exempt(exempt), own=lambda address: address == "10.1.2.3")

    assert allowed("10.0.0.0/8").check("10.1.2.4", 80)
    for exempt in ("10.0.0.0/8", "10.1.2.3:443"):
        with pytest.raises(AddressRefused):
            allowed(exempt).check("10.1.2.3", 80)
    assert allowed("10.0.0.0/8 10.1.2.3:80").check("10.1.2.3", 80)


def test_a_name_that_changes_its_address() -> None:
    """127.0.0.2 plays the public address, which a name has when it is checked, 127.0.0.1 the private one after it."""
    decoy = Host("127.0.0.2")
    victim = Host("127.0.0.1", decoy.port)
    turns = iter(["127.0.0.2", "127.0.0.1"] * 8)

    async def attempts() -> None:
        for _ in range(8):
            proxy = Proxy("public", "127.0.0.2", lambda _: [next(turns)])
            await ask(proxy.port, *connect(f"evil.test:{decoy.port}"))
            proxy.outlet.close()

    try:
        run(attempts)
        assert decoy.seen and not victim.seen
        # What looks the name up once to check it, and once to connect:
        again = iter(["127.0.0.2", "127.0.0.1"])
        assert Addresses(parse_exempt("127.0.0.2")).check(next(again), decoy.port)
        socket.create_connection((next(again), decoy.port), 2).close()
        while not victim.seen:
            pass
    finally:
        decoy.close()
        victim.close()


def test_of_a_names_addresses_only_those_that_may() -> None:
    async def attempt() -> None:
        proxy = Proxy("public", "", lambda _: ["10.0.0.1", "127.0.0.1"])
        assert b"403" in await ask(proxy.port, *connect("two.test:80"))

    run(attempt)


# --- names and ports: every address is allowed ----------------------------------------------------------

POLICY: dict[str, Any] = {
    "another host": lambda g, v: connect(f"evil.test:{v}"),
    "another port": lambda g, v: connect(f"good.test:{v}"),
    "another port by GET": lambda g, v: get(f"good.test:{v}"),
    "a host that begins alike": lambda g, v: connect(f"good.test.evil.test:{v}"),
    "a host that ends alike": lambda g, v: connect(f"evilgood.test:{v}"),
    "below the host": lambda g, v: connect(f"a.good.test:{g}"),
    "its address": lambda g, v: connect(f"127.0.0.1:{g}"),
    "its address by SOCKS": lambda g, v: by_socks(1, packed("127.0.0.1"), g),
    "another host by SOCKS": lambda g, v: by_socks(3, b"evil.test", v),
    "the second request of a connection": lambda g, v: (*get(f"good.test:{g}"), *get(f"evil.test:{v}")),
    "a redirect that is followed": lambda g, v: (*get(f"good.test:{g}"), *get(f"127.0.0.1:{v}")),
    "a pipelined request": lambda g, v: (get(f"good.test:{g}")[0] + get(f"evil.test:{v}")[0],),
}


@pytest.mark.parametrize("way", POLICY)
@pytest.mark.parametrize("protected", [True, False], ids=["protected", "unprotected"])
def test_what_the_policy_does_not_name(good: Host, victim: Host, way: str, protected: bool) -> None:
    async def attempt() -> str:
        proxy = Proxy([f"good.test:{good.port}"] if protected else "public", LOOPBACK, names)
        await ask(proxy.port, *POLICY[way](good.port, victim.port))
        return proxy.entries[-1].verdict

    assert run(attempt) == ("refused" if protected else "allowed")
    if protected:
        assert not victim.seen


def test_the_ceiling_holds_whatever_the_sandbox_has(victim: Host) -> None:
    async def attempt(ceiling: str) -> bytes:
        proxy = Proxy("public", LOOPBACK, names, ceiling)
        return await ask(proxy.port, *connect(f"evil.test:{victim.port}"))

    assert b"egress_ceiling" in run(lambda: attempt("good.test"))
    assert not victim.seen
    assert b"reached" in run(lambda: attempt("public"))


# `G` is the port of the good host, `V` that of the victim.
HEADS: dict[str, bytes] = {
    "a user before the host": b"GET http://good.test:G@evil.test:V/ HTTP/1.1\r\nHost: good.test:G\r\n\r\n",
    "a backslash": b"GET http://good.test:G\\@evil.test:V/ HTTP/1.1\r\nHost: good.test:G\r\n\r\n",
    "another Host": b"GET http://good.test:G/ HTTP/1.1\r\nHost: evil.test:V\r\n\r\n",
    "two Hosts": b"GET http://good.test:G/ HTTP/1.1\r\nHost: good.test:G\r\nHost: evil.test:V\r\n\r\n",
    "no URL": b"GET / HTTP/1.1\r\nHost: evil.test:V\r\n\r\n",
    "CONNECT with another Host": b"CONNECT good.test:G HTTP/1.1\r\nHost: evil.test:V\r\n\r\n",
    "CONNECT with a user": b"CONNECT good.test:G@evil.test:V HTTP/1.1\r\nHost: good.test:G\r\n\r\n",
    "CONNECT with a URL": b"CONNECT http://evil.test:V/good.test:G HTTP/1.1\r\nHost: good.test:G\r\n\r\n",
    "CONNECT with a path": b"CONNECT evil.test:V/good.test:G HTTP/1.1\r\nHost: good.test:G\r\n\r\n",
    "CONNECT with two ports": b"CONNECT evil.test:V:G HTTP/1.1\r\nHost: good.test:G\r\n\r\n",
    "CONNECT without a port": b"CONNECT evil.test HTTP/1.1\r\nHost: good.test:G\r\n\r\n",
    "CONNECT with a port too large": b"CONNECT good.test:65616 HTTP/1.1\r\n\r\n",
    "CONNECT with a line feed": b"CONNECT evil.test:V\nX: good.test:G HTTP/1.1\r\n\r\n",
    "CONNECT with a NUL": b"CONNECT evil.test\0.good.test:V HTTP/1.1\r\n\r\n",
    "CONNECT with a body": b"CONNECT good.test:G HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "an https URL": b"GET https://evil.test:V/ HTTP/1.1\r\nHost: good.test:G\r\n\r\n",
    "a folded header": b"GET http://good.test:G/ HTTP/1.1\r\nHost: good.test:G\r\n X: y\r\n\r\n",
    "two lengths": (
        b"POST http://good.test:G/ HTTP/1.1\r\nHost: good.test:G\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n"
    ),
    "a length and chunks": (
        b"POST http://good.test:G/ HTTP/1.1\r\nHost: good.test:G\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET http://evil.test:V/ HTTP/1.1\r\nHost: evil.test:V\r\n\r\n"
    ),
    "chunks under another name": (
        b"POST http://good.test:G/ HTTP/1.1\r\nHost: good.test:G\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"
    ),
    "a space before the colon": b"GET http://good.test:G/ HTTP/1.1\r\nHost : evil.test\r\nHost: good.test:G\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("way", HEADS)
def test_a_head_that_can_be_read_in_two_ways(good: Host, victim: Host, way: str) -> None:
    """Even where every host is allowed it goes nowhere; the same head, put right, does."""
    sent = HEADS[way]
    data = re.sub(rb"\bG\b", b"%d" % good.port, re.sub(rb"\bV\b", b"%d" % victim.port, sent))

    async def attempt() -> None:
        proxy = Proxy("public", LOOPBACK, names)
        came = await ask(proxy.port, data)
        assert re.match(rb"HTTP/1\.1 (400|403|505|431) Sandcove: ", came), came
        assert [entry.verdict for entry in proxy.entries] == ["refused"]
        assert b"reached" in await ask(proxy.port, *get(f"good.test:{good.port}"))

    run(attempt)
    assert not victim.seen
    assert len(good.seen) == 1


SOCKS: dict[str, Any] = {
    "a NUL in the name": lambda g, v: by_socks(3, b"evil.test\0.good.test", v),
    "a NUL at its end": lambda g, v: by_socks(3, b"evil.test\0", v),
    "bytes that are no ASCII": lambda g, v: by_socks(3, "evil\uff0etest".encode(), v),
    "a space": lambda g, v: by_socks(3, b"evil.test good.test", v),
    "a line break": lambda g, v: by_socks(3, b"evil.test\r\n", v),
    "an empty name": lambda g, v: by_socks(3, b"", v),
    "a zone": lambda g, v: by_socks(3, b"fe80::1%lo", v),
    "BIND": lambda g, v: (b"\x05\x01\x00", socks(3, b"good.test", g, 2)),
    "UDP": lambda g, v: (b"\x05\x01\x00", socks(3, b"good.test", g, 3)),
    "a password": lambda g, v: (b"\x05\x01\x02", b"\x01\x01a\x01b"),
    "SOCKS4": lambda g, v: (b"\x04\x01" + v.to_bytes(2, "big") + packed("127.0.0.1") + b"\0",),
}


@pytest.mark.parametrize("way", SOCKS)
def test_socks_that_asks_for_something_else(good: Host, victim: Host, way: str) -> None:
    async def attempt() -> None:
        # What reads a name up to its NUL finds the victim.
        proxy = Proxy("public", LOOPBACK, lambda name: names(name.split("\0")[0]))
        await ask(proxy.port, *SOCKS[way](good.port, victim.port), wait=0.3)
        assert all(entry.verdict == "refused" for entry in proxy.entries)
        assert b"reached" in await ask(proxy.port, *by_socks(3, b"evil.test", victim.port))

    run(attempt)
    assert len(victim.seen) == 1, "the control alone got there"


def test_letters_that_become_others() -> None:
    for text in ("pyp\u0131.org", "\u212aernel.org", "pypi\u3002org", "pypi.org\0", "pypi..org", "-pypi.org", ".org"):
        with pytest.raises(ValueError, match="it "):
            canonical_host(text)


@pytest.mark.parametrize("protected", [True, False], ids=["protected", "unprotected"])
def test_tls_that_names_another_host(good: Host, protected: bool) -> None:
    def hello(name: str) -> bytes:
        out = ssl.MemoryBIO()
        client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        return out.read()

    async def attempt(name: str) -> str:
        proxy = Proxy([f"good.test:{good.port}"] if protected else "public", LOOPBACK, names)
        before = len(good.seen)
        tunnel = connect(f"good.test:{good.port}")[0]
        data = hello(name)
        await ask(proxy.port, tunnel, data[:7], data[7:], wait=0.3)
        await asyncio.sleep(0)
        assert len(good.seen) == before + 1
        return proxy.entries[-1].verdict

    assert run(lambda: attempt("good.test")) == "allowed"
    assert run(lambda: attempt("evil.test")) == ("refused" if protected else "allowed")
    assert bool(good.seen[1]) == (not protected), "not a byte of it got there"
