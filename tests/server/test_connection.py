"""What an unknown peer can make the server keep or wait for is bounded; a patient one is served as ever."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandcove.asgi import Listener, application, prepare
from sandcove.server.connection import MAX_HEAD, MOST_WAITING, Connection

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class Hasty(Connection):
    head_seconds = 0.3
    idle_seconds = 0.3  # type: ignore[assignment]


class Patient(Connection):
    head_seconds = 60.0


class Taker(asyncio.Protocol):
    """In the place of the previews' protocol."""

    taken: ClassVar[list[bytes]] = []

    def data_received(self, data: bytes) -> None:
        self.taken.append(data)


class Seen(Patient):
    """One that says what it reads, and has previews."""

    front = Taker
    read: ClassVar[asyncio.Queue[bytes]]
    last: ClassVar[Connection]

    def data_received(self, data: bytes) -> None:
        Seen.last = self
        super().data_received(data)
        self.read.put_nowait(data)


@contextlib.asynccontextmanager
async def listening(protocol: type[Connection]) -> AsyncIterator[tuple[Listener, int, asyncio.Event]]:
    """A listener, its port, and the event that its ``/wait`` waits for."""
    go = asyncio.Event()

    async def echo(http: Request) -> Response:
        return Response(await http.body())

    async def early(_: Request) -> Response:
        return Response(b"early")

    async def wait(_: Request) -> Response:
        await go.wait()
        return Response(b"waited")

    async def told(http: Request) -> Response:
        content = await http.body()
        return Response(content + b"".join(value for name, value in http.scope["headers"] if name == b"x-told"))

    routes = [Route(f"/{f.__name__}", f, methods=["GET", "POST"]) for f in (echo, early, wait, told)]
    listener = Listener(prepare(application([*routes]), protocol))
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    await listener.start(sock)
    yield listener, port, go
    await listener.stop(0)


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


HEAD = b"POST /echo HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize("beginning", [b"P", b"POST /echo HTTP/1.1\r\nHos", HEAD, HEAD + b"A: " + b"a" * 1000])
async def test_a_head_that_does_not_come_whole_is_answered_and_closed(beginning: bytes) -> None:
    async with listening(Hasty) as (listener, port, _):
        for before in (b"", HEAD + b"Content-Length: 1\r\n\r\nx"):
            async with connected(port) as (reader, writer):
                writer.write(before)
                if before:
                    assert await answer(reader) == (200, b"x")
                writer.write(beginning)
                status, told = await answer(reader)
                assert (status, json.loads(told)["code"]) == (408, "INVALID_REQUEST")
                assert await reader.read() == b""
        assert listener.connections == 0


async def test_a_head_that_trickles_has_no_more_time() -> None:
    async with listening(Hasty) as (_, port, _), connected(port) as (reader, writer):
        ended = asyncio.ensure_future(answer(reader))
        writer.write(HEAD + b"A: ")
        while not ended.done():
            writer.write(b"a")
            await asyncio.wait([ended], timeout=0.05)
        assert ended.result()[0] == 408


@pytest.mark.parametrize(
    "before", [b"", HEAD + b"Content-Length: 1\r\n\r\nx", b"GET /early HTTP/1.1\r\nHost: x\r\n\r\n"]
)
async def test_an_idle_connection_is_closed(before: bytes) -> None:
    async with listening(Hasty) as (listener, port, _), connected(port) as (reader, writer):
        writer.write(before)
        if before:
            assert (await answer(reader))[0] == 200
        assert await reader.read() == b""
        assert listener.connections == 0


@pytest.mark.parametrize(
    "rest",
    [
        b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n",
        b"POST /early HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
    ],
)
async def test_a_body_that_nobody_reads_may_not_go_on_for_ever(rest: bytes) -> None:
    async with listening(Hasty) as (_, port, _), connected(port) as (reader, writer):
        writer.write(rest)
        assert await answer(reader) == (200, b"early")
        ended = asyncio.ensure_future(reader.read())
        with contextlib.suppress(ConnectionError):
            while not ended.done():
                writer.write(b"a")
                await writer.drain()
                await asyncio.wait([ended], timeout=0.05)
            assert ended.result() == b""


@pytest.mark.parametrize("after", [b"", HEAD + b"Content-Length: 1\r\n\r\nx"])
async def test_a_body_that_comes_late_leaves_the_connection_usable_and_bounded(after: bytes) -> None:
    async with listening(Hasty) as (listener, port, _), connected(port) as (reader, writer):
        writer.write(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        assert await answer(reader) == (200, b"early")
        writer.write(b"b" + after)
        if after:
            assert await answer(reader) == (200, b"x")
        assert await reader.read() == b""
        assert listener.connections == 0


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * MAX_HEAD,
        HEAD + b"A: " + b"a" * MAX_HEAD,
        HEAD + b"A" * MAX_HEAD,
        HEAD + b"A: a\r\n" * (MAX_HEAD // 6),
        HEAD + b"A: " + b"a" * MAX_HEAD + b"\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * (8 * MAX_HEAD),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"a" * (8 * MAX_HEAD),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: a\r\n" * (MAX_HEAD // 6),
    ],
)
@pytest.mark.parametrize("size", [1000, 1 << 20])
async def test_a_head_or_a_trailer_has_64_kib_at_most(head: bytes, size: int) -> None:
    async with listening(Patient) as (_, port, _), connected(port) as (reader, writer):
        for start in range(0, len(head), size):
            writer.write(head[start : start + size])
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        try:
            got = await reader.read()
        except ConnectionError:
            got = b""  # what it had not read yet breaks the connection; the answer may be lost in that
        assert got == b"" or b'"code":"TOO_LARGE"' in got
        if b"chunked" not in head and size == 1 << 20:
            assert got.startswith(b"HTTP/1.1 431 ")


async def test_a_head_just_below_the_limit_and_a_long_body_are_served() -> None:
    async with listening(Patient) as (_, port, _), connected(port) as (reader, writer):
        long = b"POST /echo?" + b"q" * 1000 + b" HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (MAX_HEAD - 2000) + b"\r\n"
        for _ in range(3):
            writer.write(long + b"Content-Length: 1000000\r\n\r\n" + b"b" * 1_000_000)
            assert await answer(reader) == (200, b"b" * 1_000_000)
            writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nc\r\n" * 100_000 + b"0\r\n\r\n")
            assert await answer(reader) == (200, b"c" * 100_000)


async def test_a_trailer_says_nothing() -> None:
    async with listening(Patient) as (_, port, _), connected(port) as (reader, writer):
        request = b"POST /told HTTP/1.1\r\nHost: x\r\nX-Told: head\r\nTransfer-Encoding: chunked\r\n\r\n"
        # The second waits for the first, and its trailer has come when it begins.
        writer.write(2 * (request + b"1\r\na\r\n0\r\nX-Told: trailer\r\n\r\n"))
        assert await answer(reader) == (200, b"ahead")
        assert await answer(reader) == (200, b"ahead")


async def test_a_request_may_take_its_time_and_the_next_wait_for_it() -> None:
    async with listening(Hasty) as (_, port, go), connected(port) as (reader, writer):
        writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" + HEAD)
        await asyncio.sleep(3 * Hasty.head_seconds)  # nothing may happen in this time
        go.set()
        assert await answer(reader) == (200, b"waited")
        writer.write(b"Content-Length: 1\r\n\r\nx")
        assert await answer(reader) == (200, b"x")


@pytest.mark.parametrize("count", [16, 17, 9000])
async def test_requests_ahead_are_answered_in_order_and_only_few_are_kept(count: int) -> None:
    async with listening(Seen) as (_, port, go), connected(port) as (reader, writer):
        Seen.read = asyncio.Queue()
        heads = [b"GET /early HTTP/1.1\r\nHost: x\r\nA: %d\r\n\r\n" % number for number in range(count)]
        writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" + b"".join(heads))
        await Seen.read.get()
        connection = Seen.last
        assert min(count, MOST_WAITING) <= len(connection.pipeline) < 200
        writer.write(HEAD + b"Content-Length: 3\r\n\r\nend")
        go.set()
        assert await answer(reader) == (200, b"waited")
        for _ in range(count):
            assert await answer(reader) == (200, b"early")
            assert len(connection.pipeline) < 200
        assert await answer(reader) == (200, b"end")


async def test_nonsense_after_a_request_does_not_get_into_its_answer() -> None:
    async with listening(Patient) as (_, port, go), connected(port) as (reader, writer):
        writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n")
        assert await reader.read() == b""
        go.set()


PREVIEW = b"GET /preview/3000-x/ HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("byte_by_byte", [False, True])
@pytest.mark.parametrize("before", [b"", b"GET /early HTTP/1.1\r\nHost: x\r\n\r\n"])
@pytest.mark.parametrize(
    ("first", "then", "status"),
    [
        (b"P", b"POST /preview/3000-x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"PO", b"ST /preview/3000-x/ HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"\r\n\r\nG", b"ET /preview/3000-x/ HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /echo?", PREVIEW, 400),
        (HEAD, PREVIEW, 400),
        (HEAD + b"Content-Length: %d\r\nX: " % len(PREVIEW), PREVIEW + PREVIEW, 200),
        (HEAD + b"Content-Length: %d\r\n\r\n" % len(PREVIEW), PREVIEW, 200),
        (b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(PREVIEW), PREVIEW, 200),
    ],
)
async def test_what_looks_like_a_request_for_a_preview_within_another_is_that_one_s(
    before: bytes, first: bytes, then: bytes, status: int, byte_by_byte: bool
) -> None:
    Seen.read = asyncio.Queue()
    Taker.taken.clear()
    async with listening(Seen) as (_, port, _), connected(port) as (reader, writer):

        async def send(*pieces: bytes) -> None:
            for piece in pieces:
                writer.write(piece)
                assert await Seen.read.get() == piece

        if before:
            await send(before)
            assert (await answer(reader))[0] == 200
        await send(*([bytes([byte]) for byte in first] if byte_by_byte else [first]), then)
        assert (await answer(reader))[0] == status
        assert Taker.taken == []


@pytest.mark.parametrize("before", [b"", b"\r\n", HEAD + b"Content-Length: 1\r\n\r\nx"])
async def test_a_request_for_a_preview_makes_the_connection_the_previews(before: bytes) -> None:
    Seen.read = asyncio.Queue()
    Taker.taken.clear()
    async with listening(Seen) as (_, port, _), connected(port) as (reader, writer):
        if before:
            writer.write(before)
            assert await Seen.read.get() == before
            if before != b"\r\n":
                assert await answer(reader) == (200, b"x")
        writer.write(PREVIEW)
        await Seen.read.get()
        assert Taker.taken == [PREVIEW]


async def test_an_upgrade_is_answered_as_a_request_and_ends_the_connection() -> None:
    async with listening(Patient) as (_, port, _), connected(port) as (reader, writer):
        head = b"GET /early HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        writer.write(head + b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await answer(reader) == (200, b"early")
        assert await reader.read() == b""
