"""What an agent keeps of what it is sent is bounded in memory, not only in bytes sent."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import tracemalloc
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from starlette.requests import Request
from starlette.types import ASGIApp, Message

from sandcove.agent.kernel_feed import BrokenKernelError, Feed
from sandcove.agent.log import Log, LogSpace
from sandcove.agent.output import Output, bytes_waiting
from sandcove.asgi import application
from sandcove.calls import Call, Json

CHUNK = bytes(100_000)


@pytest.fixture
def traced() -> Iterator[None]:
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["live", "kept"])
def test_output_that_comes_in_small_pieces_takes_no_more_memory(kind: str, traced: None) -> None:
    async def feed() -> tuple[int, int]:
        read, write = os.pipe2(os.O_NONBLOCK)
        other, closed = os.pipe2(os.O_NONBLOCK)
        output = Output(read, other, keep=None if kind == "live" else 1 << 20)
        if kind == "kept":
            await asyncio.sleep(0.01)  # until it reads while the command runs
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20_000):
            os.write(write, b"xy")
            await asyncio.sleep(0)
        grown, left = tracemalloc.get_traced_memory()[0] - before, bytes_waiting(read)
        output.abandon()
        os.close(write)
        os.close(closed)
        await asyncio.sleep(0)
        return grown, left

    grown, left = asyncio.run(feed())
    assert grown < (1.5e6 if kind == "live" else 2e5)
    assert (left > 0) == (kind == "live"), "the command waits for a reader of a stream"


def test_logs_remember_fewer_changes_between_streams_when_they_are_many() -> None:
    space = LogSpace()
    logs = [Log(folder="/tmp", space=space) for _ in range(100)]
    try:
        for log in logs[:2]:
            for _ in range(20_000):
                log.append("stdout", b"o")
                log.append("stderr", b"e")
            assert log.start > 0 and log.end - log.start > 5000
            assert log.newest(1 << 20)[2], "and it is told"
            piece = log.read(log.start)
            assert piece is not None and piece.data in (b"o", b"e")
        for log in logs[2:]:
            log.delete()
        alone = Log(folder="/tmp", space=space)
        for stream in ("stdout", "stderr") * 20_000:
            alone.append(stream, b"x")
        assert alone.start == 0
        alone.delete()
    finally:
        for log in logs:
            log.delete()


@pytest.mark.parametrize(
    ("value", "fits"),
    [(b'"json": [' + b"[]," * 350_000 + b"[]]", True), (b'"json": [[],}', False), (b'"data": [1]', False)],
    ids=["nested", "no JSON", "no object"],
)
def test_a_result_is_no_larger_in_memory_than_it_was_sent(value: bytes, fits: bool, traced: None) -> None:
    line = b'{"type":"result",' + value + b"}\n"
    ours, theirs = socket.socketpair()
    pipes = [os.pipe2(os.O_NONBLOCK) for _ in range(3)]
    feed = Feed(ours.detach(), pipes[0][1], pipes[1][0], pipes[2][0])
    lines: list[bytes] = []

    def send() -> None:
        sent = 0
        while sent < len(line):
            sent += theirs.send(line[sent : sent + 100_000])
            lines.extend(feed.take()[0])

    try:
        if fits:
            send()
            assert [len(each) for each in lines] == [len(line)]
            assert tracemalloc.get_traced_memory()[1] < 8 * len(line)
        else:
            with pytest.raises(BrokenKernelError):
                send()
    finally:
        feed.close()
        theirs.close()
        for fd in (pipes[0][0], pipes[1][1], pipes[2][1]):
            os.close(fd)


class Blank(msgspec.Struct):
    text: str = ""


async def do(http: Request, spec: Blank) -> Json[Blank]:
    return Json(spec)


class Sender:
    """A caller that has sent so many bytes of a body, and no end yet."""

    def __init__(self, app: ASGIApp, size: int) -> None:
        self.status = 0
        self.body = b""
        self._chunks = [CHUNK] * (size // len(CHUNK))
        self._end = asyncio.Event()
        self.sent = asyncio.Event()
        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/x", "query_string": b"", "headers": []}
        self._task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def end(self) -> int:
        """Says no more; gives the status of the answer."""
        self._end.set()
        await self._task
        return self.status

    async def _receive(self) -> Message:
        if self._chunks:
            return {"type": "http.request", "body": self._chunks.pop(), "more_body": True}
        self.sent.set()
        await self._end.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")
        self.sent.set()


def test_large_bodies_together_are_bounded_and_small_ones_always_fit() -> None:
    async def ask() -> None:
        app = application([Call("POST", "/x", do)])
        large = [Sender(app, 50 << 20) for _ in range(5)]
        for each in large:
            await each.sent.wait()
        refused = Sender(app, 50 << 20)
        await refused.sent.wait()
        assert (await refused.end(), json.loads(refused.body)["begun"]) == (503, False)
        small = Sender(app, 200_000)
        await small.sent.wait()
        assert await small.end() == 499, "it was read to its end, where its caller left"
        for each in large:
            assert await each.end() == 499
        again = [Sender(app, 50 << 20) for _ in range(5)]
        for each in again:
            await each.sent.wait()
            assert each.status == 0
        for each in again:
            await each.end()

    asyncio.run(ask())
