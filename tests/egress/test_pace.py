"""An operator's rate holds for all connections of a sandbox together, whichever way bytes go."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from sandcove.server.egress.pace import Pace
from tests.egress.proxy import LOOPBACK, Proxy, run
from tests.egress.secure import until

RATE = 1_000_000
DATA = random.Random(5).randbytes(600_000)


@asynccontextmanager
async def service() -> AsyncIterator[int]:
    """The port of one that answers GET with `DATA`, POST with the digest of what came, and echoes all else."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            first = await reader.read(4)
            if first in (b"GET ", b"POST"):
                await reader.readuntil(b"\r\n\r\n")
                body = DATA
                if first == b"POST":
                    body = hashlib.sha256(await reader.readexactly(len(DATA))).hexdigest().encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            else:
                while first:
                    writer.write(first)
                    await writer.drain()
                    first = await reader.read(65536)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def echoed(proxy: int, port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
    writer.write(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % port)
    await reader.readuntil(b"\r\n\r\n")
    writer.write(DATA)
    came = await reader.readexactly(len(DATA))
    writer.close()
    return came


async def requested(proxy: int, port: int, *, method: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
    head = b"%b http://127.0.0.1:%d/ HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % (method, port, port)
    if method == b"POST":
        writer.write(head + b"content-length: %d\r\n\r\n" % len(DATA) + DATA)
    else:
        writer.write(head + b"\r\n")
    answer = await reader.readuntil(b"\r\n\r\n")
    size = int(answer.lower().partition(b"content-length: ")[2].split()[0])
    body = await reader.readexactly(size)
    writer.close()
    return body


def test_tunnels_and_requests_share_one_rate_and_lose_no_byte() -> None:
    async def attempt() -> tuple[float, float]:
        async with service() as port:
            proxy, neighbour = Proxy("public", LOOPBACK, rate=RATE), Proxy("public", LOOPBACK)
            begun = time.monotonic()
            echo, down, up = await asyncio.gather(
                echoed(proxy.port, port),
                requested(proxy.port, port, method=b"GET"),
                requested(proxy.port, port, method=b"POST"),
            )
            took = time.monotonic() - begun
            assert echo == DATA and down == DATA
            assert up.decode() == hashlib.sha256(DATA).hexdigest()
            assert (proxy.trail.sent, proxy.trail.received) >= (2 * len(DATA), 2 * len(DATA))
            begun = time.monotonic()
            assert await echoed(neighbour.port, port) == DATA
            return took, time.monotonic() - begun

    took, other = run(attempt)
    # 2.4 MB at 1 MB/s, of which 0.25 MB may go at once, and the last piece is not waited for.
    assert took > 1.8
    assert other < 1.0


@pytest.mark.parametrize("rate", [0, RATE])
def test_without_a_rate_nothing_is_in_between(rate: int) -> None:
    async def attempt() -> bool:
        proxy = Proxy("public", LOOPBACK, rate=rate)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"\x05\x01\x00")
        await reader.readexactly(2)
        (passage,) = proxy.outlet.passages
        writer.close()
        return type(passage._transport).__module__ == Pace.__module__

    assert run(attempt) == bool(rate)


@pytest.mark.parametrize("rate", [0, RATE])
def test_what_is_refused_is_told_and_ended_at_once(rate: int) -> None:
    async def told(port: int, request: bytes, answer: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        assert (await asyncio.wait_for(reader.read(), 3)).startswith(answer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def attempt() -> None:
        proxy = Proxy("none", rate=rate)
        await told(proxy.port, b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", b"HTTP/1.1 403")
        await told(proxy.port, b"CONNECT a.test:443 HTTP/1.1\r\n\r\n", b"HTTP/1.1 403")
        await told(proxy.port, b"rubbish\r\n\r\n", b"HTTP/1.1 400")
        await told(proxy.port, b"\x05\x01\x00\x05\x01\x00\x03\x06a.test\x01\xbb", b"\x05\x00\x05\x02")
        await until(lambda: not proxy.outlet.passages)

    run(attempt)


def test_a_pace_is_that_of_its_rate() -> None:
    now = 0.0
    pace = Pace(RATE, lambda: now)
    sent = 0
    while now < 10:
        now += pace.take(50_000) + 1e-6
        sent += 50_000
    assert 10 * RATE <= sent <= 10.4 * RATE
    now += 3600
    assert pace.take(250_000) == 0, "what was not used for an hour is not saved up"
    assert pace.take(100_000) > 0.09


def test_the_operator_says_how_many_connections() -> None:
    async def attempt() -> None:
        async with service() as port:
            proxy = Proxy("public", LOOPBACK, most=2)
            held = [await asyncio.open_connection("127.0.0.1", proxy.port) for _ in range(2)]
            for reader, writer in held:
                writer.write(b"\x05\x01\x00")
                assert await reader.readexactly(2) == b"\x05\x00"
            late = asyncio.ensure_future(requested(proxy.port, port, method=b"GET"))
            done, _ = await asyncio.wait({late}, timeout=0.2)
            assert not done
            held.pop()[1].close()
            assert await asyncio.wait_for(late, 3) == DATA
            held.pop()[1].close()

    run(attempt)
