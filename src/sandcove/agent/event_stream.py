"""A stream of server-sent events as an answer: heartbeats while it is silent, an end when its reader leaves."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sandcove.agent.query import number
from sandcove.asgi import disconnected
from sandcove.wire.codec import encode
from sandcove.wire.sse import encode_comment, encode_event

__all__ = ["HEARTBEAT", "EventStream"]

HEARTBEAT = 15_000
"""Milliseconds of silence after which a comment is sent, so that proxies keep the connection; a caller may say."""


class EventStream(Response):
    """Sends the events that `run` tells. `run` is cancelled when the reader leaves.

    The query parameter ``heartbeat`` has the milliseconds of silence after which a comment is sent: 10 to 60,000.
    """

    media_type = "text/event-stream"
    beat = encode_comment()
    """What is sent as heartbeat."""

    def __init__(self, http: Request) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._http = http
        self._heartbeat = number(dict(http.query_params), "heartbeat", HEARTBEAT, least=10, most=60_000) / 1000
        self._sent = 0.0
        self._send: Send

    async def begin(self) -> None:
        """What can still fail with an error's status."""

    async def run(self) -> None:
        """Sends all events with `tell`."""
        raise NotImplementedError

    async def tell(self, event: Any) -> None:
        """Sends one event, when the reader takes it."""
        await self.send(encode_event(encode(event)))

    async def send(self, data: bytes) -> None:
        """Sends bytes, when the reader takes them."""
        self._sent = time.monotonic()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send
        await self.begin()
        self._sent = time.monotonic()
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        running = asyncio.ensure_future(self.run())
        helping = [asyncio.ensure_future(self._beat()), asyncio.ensure_future(disconnected(self._http))]
        try:
            await asyncio.wait({running, *helping}, return_when=asyncio.FIRST_COMPLETED)
            left = not running.done()
        finally:
            for task in (running, *helping):
                task.cancel()
            await asyncio.wait({running, *helping})
        if not left:
            running.result()
            await send({"type": "http.response.body", "body": b""})

    async def _beat(self) -> None:
        while True:
            silent = time.monotonic() - self._sent
            if silent >= self._heartbeat:
                await self.send(self.beat)
                silent = 0.0
            await asyncio.sleep(self._heartbeat - silent)
