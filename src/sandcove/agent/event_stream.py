"""A stream of server-sent events as an answer: heartbeats while it is silent, an end when its reader leaves."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from sandcove.asgi import while_there
from sandcove.calls import Many
from sandcove.wire.codec import encode
from sandcove.wire.sse import encode_comment, encode_event

__all__ = ["EventStream"]

E = TypeVar("E")

_HEAD_WITHIN = 0.01
"""Seconds after which the head of an answer is sent though there is no event."""


class EventStream(Many[E]):
    """Sends the events that `run` tells. `run` is cancelled when the reader leaves.

    Args:
        heartbeat: milliseconds of silence after which a comment is sent, so that proxies keep the connection.
    """

    media_type = "text/event-stream"
    beat = encode_comment()
    """What is sent as heartbeat."""

    def __init__(self, http: Request, heartbeat: int) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._http = http
        self._heartbeat = heartbeat / 1000
        self._begun = False
        self._writing = asyncio.Lock()
        self._sent = 0.0
        self._send: Send
        self._timer: asyncio.TimerHandle
        self._beating: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """What can still fail with an error's status."""

    async def run(self) -> bytes:
        """Sends all events with `tell`, but the last: that it returns `encoded`, and it goes out with the end."""
        raise NotImplementedError

    def encoded(self, event: E) -> bytes:
        """An event as it is sent."""
        return encode_event(encode(event))

    async def tell(self, event: E) -> None:
        """Sends one event, when the reader takes it."""
        await self.send(self.encoded(event))

    async def send(self, data: bytes) -> None:
        """Sends bytes, when the reader takes them."""
        await self._write(data, more=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send
        await self.begin()
        self._sent = time.monotonic()
        # The head goes out with the first event, if that comes soon: each piece wakes the reader.
        self._timer = asyncio.get_running_loop().call_later(_HEAD_WITHIN, self._tick)
        try:
            last = await while_there(self._http, self.run())
        except ClientDisconnect:
            if self._beating is not None:
                self._beating.cancel()
            return
        finally:
            self._timer.cancel()
        await self._write(last, more=False)

    async def _write(self, data: bytes, *, more: bool) -> None:
        async with self._writing:
            self._sent = time.monotonic()
            if not self._begun:
                self._begun = True
                await self._send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if data or not more:
                await self._send({"type": "http.response.body", "body": data, "more_body": more})

    def _tick(self) -> None:
        silent = time.monotonic() - self._sent
        waiting = self._beating is not None and not self._beating.done()
        if not waiting and (silent >= self._heartbeat or not self._begun):
            self._beating = asyncio.ensure_future(self._write(self.beat if self._begun else b"", more=True))
            silent = 0.0
        self._timer = asyncio.get_running_loop().call_later(max(self._heartbeat - silent, _HEAD_WITHIN), self._tick)
