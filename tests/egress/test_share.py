"""The connections of all sandboxes leave descriptors to the server, and to each other."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
from contextlib import suppress

import pytest

from sandcove.server.egress import passage, tunnel
from sandcove.server.egress.connect import connect
from sandcove.server.egress.share import Descriptors, Share
from tests.egress.proxy import LOOPBACK, Host, Proxy, ask, run


async def tunnels(proxy: Proxy, host: Host) -> tuple[list[asyncio.StreamWriter], bytes]:
    """As many as it gives, and what it says to one more."""
    held: list[asyncio.StreamWriter] = []
    while len(held) < 100:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % host.port)
        said = await asyncio.wait_for(reader.read(4096), 3)
        if not said.startswith(b"HTTP/1.1 200 "):
            writer.close()
            return held, said
        held.append(writer)
    raise AssertionError("there is no bound")


def test_others_find_something_and_it_is_said_why(host: Host) -> None:
    async def attempt() -> None:
        every = Descriptors(200)
        greedy, sibling, other = (
            Proxy("public", LOOPBACK, descriptors=every, tenant=tenant) for tenant in ("a", "a", "b")
        )
        held, said = await tunnels(greedy, host)
        assert 10 < len(held) <= 20, "a fifth of the descriptors, two for each"
        assert b" 502 " in said and b"LimitNOFILE" in said and b"egress_connections" in said
        assert greedy.entries[-1].verdict == "failed" and "LimitNOFILE" in greedy.entries[-1].reason
        more, _ = await tunnels(sibling, host)
        assert 5 < len(more) < len(held)
        others, _ = await tunnels(other, host)
        assert len(others) > 5
        assert len(every.held) < every.most
        for writer in (*held, *more, *others):
            writer.close()
        async with asyncio.timeout(3):
            while every.held:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        again, _ = await tunnels(greedy, host)
        assert len(again) == len(held)
        for writer in again:
            writer.close()

    run(attempt)


def get(port: int) -> bytes:
    return b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (port, port)


def test_who_says_nothing_takes_no_more_either(host: Host) -> None:
    async def attempt() -> None:
        every = Descriptors(60)
        silent, other = (Proxy("public", LOOPBACK, descriptors=every, tenant=tenant) for tenant in ("a", "b"))
        held = [await asyncio.open_connection("127.0.0.1", silent.port) for _ in range(60)]
        assert b"reached" in await ask(other.port, get(host.port))
        assert 10 <= len(every.held) <= 20
        for _, writer in held:
            writer.close()

    run(attempt)


@pytest.mark.parametrize("tenants", [1, 3, 10])
@pytest.mark.parametrize("sandboxes", [1, 5, 40])
def test_no_number_of_sandboxes_takes_all(tenants: int, sandboxes: int) -> None:
    every = Descriptors(2000)
    found: list[socket.socket] = []
    first: list[int] = []
    for tenant in range(tenants):
        before = len(found)
        for _ in range(sandboxes):
            share = every.share(str(tenant))
            taken = 0
            while share.may_take() and taken < 500:
                found.append(share.count(socket.socket()))
                taken += 1
        first.append(len(found) - before)
    assert all(first) and len(every.held) == len(found) < every.most
    late = every.share("late")
    assert late.may_take()
    for sock in found:
        sock.close()
    assert not every.held


def test_what_nobody_closes_is_not_counted_for_good() -> None:
    every = Descriptors(30)
    share = every.share("a")
    with pytest.warns(ResourceWarning):
        share.connecting(socket.AF_INET)
    assert not every.held


def test_who_has_left_before_the_answer_is_not_counted() -> None:
    """As long as the proxy reads nothing it does not see that; its answer is what brings a reset."""
    asked, left = threading.Event(), threading.Event()

    def names(name: str) -> list[str]:
        asked.set()
        assert left.wait(10)
        raise OSError("there is none")

    async def attempt() -> None:
        every = Descriptors(100)
        proxy = Proxy("public", names=names, descriptors=every)
        with socket.create_connection(("127.0.0.1", proxy.port)) as sock:
            sock.sendall(b"CONNECT any.test:80 HTTP/1.1\r\n\r\n")
            assert await asyncio.to_thread(asked.wait, 10)
        left.set()
        async with asyncio.timeout(5):
            while every.held or proxy.outlet.passages:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)

    run(attempt)


def test_it_is_a_part_of_what_the_process_may_have() -> None:
    assert Descriptors().most < resource.getrlimit(resource.RLIMIT_NOFILE)[0] / 2


def test_addresses_that_are_tried_side_by_side_count(host: Host) -> None:
    """Each of them is a socket, for as long as nobody answers."""

    async def attempt() -> None:
        def room(most: int) -> Share:
            return Descriptors(most).share("a")

        with await connect(["127.0.0.3", "127.0.0.1"], host.port, room(100).connecting) as sock:
            assert sock.getpeername()[0] == "127.0.0.1"
        with pytest.raises(OSError, match="LimitNOFILE"):
            await connect(["127.0.0.1", "127.0.0.3"], host.port, room(0).connecting)

    run(attempt)


def test_what_is_not_read_after_a_tunnels_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does not read holds no descriptors for good."""
    monkeypatch.setattr(passage, "IDLE", 0.2)
    monkeypatch.setattr(tunnel, "PATIENCE", 0.1)

    async def attempt() -> None:
        async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(bytes(64 * 1024 * 1024))
            with suppress(ConnectionError):
                await writer.drain()
            writer.close()

        far = await asyncio.start_server(send, "127.0.0.1", 0)
        port = far.sockets[0].getsockname()[1]
        every = Descriptors(100)
        proxy = Proxy("public", LOOPBACK, descriptors=every)
        with socket.create_connection(("127.0.0.1", proxy.port)) as program:
            program.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % port)
            async with asyncio.timeout(5):
                while not every.held:  # noqa: ASYNC110 - as below
                    await asyncio.sleep(0.01)
                while every.held:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.01)
        far.close()

    run(attempt)
