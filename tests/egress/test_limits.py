"""One sandbox's proxy is slow or crowded: its other connections, and other sandboxes, go on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from contextlib import suppress

import pytest

from sandcove.server.egress import outlet, passage, resolve
from sandcove.server.egress.addresses import parse_exempt
from sandcove.server.egress.connect import connect as connect_to
from sandcove.server.egress.hello import WAIT, server_name
from sandcove.server.egress.resolve import Resolver
from sandcove.server.egress.trail import LINES, Trail
from sandcove.wire.egress import parse_egress
from sandcove.wire.egress_log import EgressEntry
from tests.egress.proxy import LOOPBACK, Host, Proxy, ask, run


def get(port: int) -> bytes:
    return b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (port, port)


def test_connections_beyond_the_most_wait(host: Host) -> None:
    async def attempt() -> None:
        proxy, neighbour = Proxy("public", LOOPBACK), Proxy("public", LOOPBACK)
        held = [await asyncio.open_connection("127.0.0.1", proxy.port) for _ in range(outlet.MOST)]
        for reader, writer in held:
            writer.write(b"\x05\x01\x00")
            assert await reader.readexactly(2) == b"\x05\x00"
        assert not await ask(proxy.port, get(host.port), wait=0.2)
        assert b"reached" in await ask(neighbour.port, get(host.port))
        held.pop()[1].close()
        assert b"reached" in await ask(proxy.port, get(host.port), wait=3)
        for _, writer in held:
            writer.close()

    run(attempt)


def test_a_head_that_drips_is_cut(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passage, "HEAD_TIMEOUT", 0.2)

    async def attempt() -> float:
        proxy = Proxy("public", LOOPBACK)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        begun = time.monotonic()

        async def drip() -> None:
            writer.write(b"GET http://127.0.0.1/ HTTP/1.1\r\n")
            for _ in range(100):
                writer.write(b"a: b\r\n")
                await asyncio.sleep(0.02)

        task = asyncio.ensure_future(drip())
        with suppress(ConnectionError):
            assert not await asyncio.wait_for(reader.read(), 1.5)
        task.cancel()
        writer.close()
        return time.monotonic() - begun

    assert run(attempt) < 1


def test_a_name_server_that_is_silent_stops_nobody_else(host: Host) -> None:
    silent, asked = threading.Event(), threading.Event()

    def names(name: str) -> list[str]:
        if name == "silent.test":
            asked.set()
            silent.wait(5)
        return ["127.0.0.1"]

    async def attempt() -> None:
        proxy = Proxy("public", LOOPBACK, names)
        waiting = [
            asyncio.ensure_future(ask(proxy.port, b"CONNECT silent.test:%d HTTP/1.1\r\n\r\n" % host.port, wait=3))
            for _ in range(4)
        ]
        assert await asyncio.to_thread(asked.wait, 5)
        assert b"reached" in await ask(proxy.port, get(host.port))
        silent.set()
        assert all(b" 200 " in came for came in await asyncio.gather(*waiting))

    run(attempt)


def test_a_name_is_looked_up_once_for_all_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def names(name: str) -> list[str]:
        asked.append(name)
        if name == "none.test":
            raise OSError("unknown")
        return ["127.0.0.1"]

    async def attempt() -> None:
        resolver = Resolver(names)
        await asyncio.gather(*(resolver.addresses("a.test") for _ in range(5)))
        await resolver.addresses("a.test")
        assert asked == ["a.test"]
        for _ in range(2):
            with pytest.raises(OSError, match=r"looked up|unknown"):
                await resolver.addresses("none.test")
        assert asked == ["a.test", "none.test"]
        monkeypatch.setattr(resolve, "KEPT", 3)
        for number in range(5):
            await resolver.addresses(f"{number}.test")
        await resolver.addresses("a.test")
        assert asked.count("a.test") == 2

    run(attempt)


def test_names_that_nobody_knows_leave_lookups_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(resolve, "PATIENCE", 0.05)

    def names(name: str) -> list[str]:
        assert name == "good.test" or go_on.wait(30)
        return ["127.0.0.1"]

    async def attempt() -> None:
        resolver = Resolver(names)
        for box in range(12):
            for number in range(40):  # longer than anybody waits, and than there are threads
                with pytest.raises(OSError, match=r"no name server|too many"):
                    await resolver.addresses(f"{number}.{box}.test", box)
            assert await resolver.addresses("good.test", "other") == ["127.0.0.1"]
            resolver._known.clear()
        running = threading.active_count()
        assert 40 < running <= resolve.AT_ONCE + 5
        go_on.set()

    run(attempt)


def test_the_next_address_is_tried_when_one_does_not_answer(host: Host) -> None:
    async def attempt() -> str:
        with await connect_to(["::1", "127.0.0.3", "127.0.0.1"], host.port) as sock:
            return str(sock.getpeername()[0])

    assert run(attempt) == "127.0.0.1"


def test_a_log_that_is_flooded_says_what_it_lacks() -> None:
    lines: list[dict[str, object]] = []

    class File:
        def write(self, content: dict[str, object]) -> None:
            lines.append(content)

    trail = Trail(File(), {"sandbox": "a"}, Counter())  # type: ignore[arg-type]
    entry = EgressEntry(time="", host="a.test", port=1, via="http", verdict="refused", ended=True)
    for _ in range(1000):
        trail.begin(entry)
    assert LINES <= len(lines) < LINES + 50
    trail._lines = 1
    trail.begin(entry)
    assert lines[-1]["unwritten"] == 1001 - len(lines)
    assert trail.counts["refused"] == 1001
    cut = EgressEntry(time="", host="a.test", port=443, via="connect", verdict="allowed")
    trail.begin(cut)
    cut.verdict = "refused"
    trail.end(cut)
    assert (trail.counts["allowed"], trail.counts["refused"]) == (1, 1002)


@pytest.mark.parametrize(
    ("egress", "host", "port", "allowed"),
    [
        ([], "a.test", 80, False),
        ("public", "a.test", 25, True),
        (["python"], "pypi.org", 443, True),
        (["python"], "pypi.org", 80, False),
        (["a.test"], "a.test", 80, True),
        (["a.test"], "a.test", 8080, False),
        (["a.test:*"], "a.test", 8080, True),
        (["*.a.test"], "b.a.test", 443, True),
        (["*.a.test"], "c.b.a.test", 443, True),
        (["*.a.test"], "a.test", 443, False),
        (["*.a.test"], "xa.test", 443, False),
        (["A.Test."], "a.test", 443, True),
        (["b\u00fccher.example"], "xn--bcher-kva.example", 443, True),
        (["[2001:db8::1]:443"], "2001:db8::1", 443, True),
        (["*:443"], "a.test", 443, True),
        (["*:443"], "a.test", 80, False),
    ],
)
def test_what_a_policy_allows(egress: str | list[str], host: str, port: int, allowed: bool) -> None:
    assert parse_egress(egress).allows(host, port) == allowed


@pytest.mark.parametrize(
    ("egress", "ceiling", "beyond"),
    [
        ("public", "public", []),
        ("public", ["a.test"], ["public"]),
        (["a.test"], ["a.test:80", "a.test:443"], []),
        (["a.test:*"], ["a.test"], ["a.test:*"]),
        (["*.b.a.test:443"], ["*.a.test"], []),
        (["*.a.test"], ["*.b.a.test"], ["*.a.test"]),
        (["python"], ["*:443"], []),
        (["a.test"], ["*:443"], ["a.test"]),
        ("none", "none", []),
    ],
)
def test_what_is_beyond_a_ceiling(egress: str | list[str], ceiling: str | list[str], beyond: list[str]) -> None:
    assert parse_egress(egress).beyond(parse_egress(ceiling)) == beyond


@pytest.mark.parametrize(
    "text", ["10.1.2.3:0", "10.1.2.3/40", "a.test", "10.1.2.3:99999", "[fd00::/8]:x", "10.1.2.3/8"]
)
def test_what_is_no_address_for_operators(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_exempt(text)


def test_a_first_message_of_tls() -> None:
    assert server_name(b"") is WAIT
    assert server_name(b"GET / HTTP/1.1") == b""
    assert server_name(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc" + bytes(100)) is WAIT
    assert server_name(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00") == b""
    with pytest.raises(ValueError, match="too long"):
        server_name((b"\x16\x03\x01\x10\x00" + b"\x01\xff\xff\xff" + bytes(4092)) * 6)
