"""One HTTP request of a visitor and its answer: bodies go through as they come, at the pace of the slower side."""

from __future__ import annotations

import asyncio

from sandcove.client.proxy.answer import Gone, Headers, Message, Receive, Told, away, broken, headers_of, told_to_us
from sandcove.client.proxy.request import UNKNOWN, Request
from sandcove.client.proxy.ways import STALLED, Way, Ways
from sandcove.client.results import log
from sandcove.errors import SandboxError, SandboxNetworkError
from sandcove.wire.http import END, Event, Head, chunk

__all__ = ["pass_on"]

EXPECTANT = 1.0
"""Seconds that a body waits for a service that was asked whether it wants it, and says nothing: as curl does."""


class _Lost(Exception):  # noqa: N818 - it says what the connection is; no user sees it
    """The connection to the server ended too early."""


async def pass_on(request: Request, receive: Receive, told: Told, ways: Ways, *, hints: bool) -> None:
    """From the request to the end of its answer.

    Args:
        request: its body is still to be received.
        hints: the ASGI server takes early hints.
    """
    first: Message | None = None
    if request.length == UNKNOWN:
        first = await receive()
        request.length = None if first.get("more_body") else len(first.get("body", b""))
        request.repeatable = request.repeatable or (request.length == 0 and request.method in ("GET", "HEAD"))
    head = request.head(ways.endpoint)
    while True:
        try:
            way = await ways.to(request.label)
        except SandboxError as error:
            log.warning("a preview can't be passed on: %s", error)
            await told.page(away(), request)
            return
        exchange = _Exchange(way, request, first, receive, told, hints=hints)
        try:
            again = await exchange.run(head)
        finally:
            if exchange.whole:
                ways.keep(way, request.label)
            else:
                way.close()
        # Each idle connection is tried once, then a new one, over which nothing is sent again.
        if not again:
            return


class _Exchange:
    """One over one connection.

    Attributes:
        whole: both sides are at their end, and the connection can take another request.
    """

    def __init__(
        self, way: Way, request: Request, first: Message | None, receive: Receive, told: Told, *, hints: bool
    ) -> None:
        self.whole = False
        self._way = way
        self._request = request
        self._first = first
        self._receive = receive
        self._told = told
        self._hints = hints
        self._heard = self._sent = self._left = False
        self._wanted = asyncio.Event()
        if not request.expects:
            self._wanted.set()

    async def run(self, head: bytes) -> bool:
        """Sends `head` and all that follows; True if the idle connection had ended, so that another is to be tried."""
        way, request = self._way, self._request
        way.parser.expect(request.method, interim=True)
        way.stream.sent = 0
        try:
            await way.stream.send(head)
        except OSError:
            if way.used and (request.repeatable or not way.stream.sent):
                return True
            await self._told.page(broken(), request)
            return False
        async with asyncio.TaskGroup() as group:
            upload = group.create_task(self._upload())
            try:
                await self._download()
            except _Lost:
                if way.used and request.repeatable and not self._heard and not self._left:
                    return True
                if not self._told.started and not self._left:
                    await self._told.page(broken(), request)
                # Else the ASGI server sees that the answer has no end, and closes.
            except Gone:
                pass
            finally:
                upload.cancel()
        return False

    # --- the visitor's side ---

    async def _upload(self) -> None:
        """The request's body; then until the visitor leaves."""
        try:
            await self._send_body()
        except TimeoutError:
            self._leave()
        except OSError:
            pass  # the service wants no more of it: why, its answer says
        while True:
            if (await self._receive())["type"] == "http.disconnect":
                self._leave()
                return

    async def _send_body(self) -> None:
        length, stream = self._request.length, self._way.stream
        if length != 0:
            try:
                async with asyncio.timeout(EXPECTANT):
                    await self._wanted.wait()
            except TimeoutError:
                pass
        left, more = length or 0, length != 0
        while more:
            message, self._first = self._first or await self._receive(), None
            if message["type"] == "http.disconnect":
                self._leave()
                return
            piece, more = message.get("body", b""), message.get("more_body", False)
            left -= len(piece)
            if length is not None and (left < 0 or (left and not more)):
                self._leave()  # it is not what its length says
                return
            if piece:
                async with asyncio.timeout(STALLED):
                    await stream.send(chunk(piece) if length is None else piece)
        if length is None:
            await stream.send(b"0\r\n\r\n")
        self._sent = True

    def _leave(self) -> None:
        self._left = True
        self._way.close()

    # --- the service's side ---

    async def _download(self) -> None:
        status, headers = 0, Headers()
        while True:
            events = await self._events()
            pieces = [event for event in events if isinstance(event, bytes)]
            ended = bool(events) and events[-1] is END
            for event in events:
                if not isinstance(event, Head):
                    continue
                self._wanted.set()
                if event.status >= 200:
                    status, headers = event.status, headers_of(event)
                    if told_to_us(event):
                        await self._told.page(away(), self._request)
                        return
                    await self._told.begin(status, headers)
                elif event.status == 101:
                    raise _Lost  # which was not asked for
                elif event.status == 103 and self._hints:
                    links = [value for name, value in event.headers if name.lower() == b"link"]
                    await self._told.message({"type": "http.response.early_hint", "links": links})
            if ended or pieces:
                await self._told.body(b"".join(pieces), more=not ended)
            if ended:
                self.whole = self._way.parser.reusable and (self._sent or self._request.length == 0) and not self._left
                return

    async def _events(self) -> list[Event]:
        way = self._way
        try:
            data = await way.stream.receive()
            self._heard = self._heard or bool(data)
            return way.parser.feed(data) if data else way.parser.feed_eof()
        except (OSError, SandboxNetworkError):
            raise _Lost from None
