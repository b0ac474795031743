"""One HTTP/1.1 connection of the client: a request out, its response in, one at a time."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import cast

from sandcove.client._async.io import Stream
from sandcove.client.endpoint import Broken, Endpoint, Silent, Unreachable
from sandcove.errors import SandboxNetworkError
from sandcove.wire.http import END, Event, Head, ResponseParser, chunk, request_head

__all__ = ["AsyncConnection", "AsyncResponse", "Body"]

Body = bytes | AsyncIterator[bytes] | tuple[AsyncIterator[bytes], int]
"""A request's body: bytes, or pieces, which are sent in chunks, or pieces and the length of them all."""

MAX_ANSWER = 512 * 1024 * 1024
"""Bytes of an answer that is held in memory as a whole. The longest is a command's output, twice 32 MiB in JSON."""
SMALL = 64 * 1024
"""A body up to this many bytes is sent with its head in one call: the copy is cheaper than a second one."""


class AsyncConnection:
    """A connection that sends requests to `endpoint`."""

    def __init__(self, endpoint: Endpoint, stream: Stream) -> None:
        self.endpoint = endpoint
        self.used = False
        self._stream = stream
        self._parser = ResponseParser()

    @classmethod
    async def open(cls, endpoint: Endpoint) -> AsyncConnection:
        """Connects.

        Raises:
            Unreachable: nothing listens, or the connection was refused.
        """
        try:
            return cls(endpoint, await Stream.connect(endpoint))
        except OSError as error:
            # asyncio's own text names the address, which the caller knows, and not the reason.
            raise Unreachable(_reason(error)) from error

    @property
    def stale(self) -> bool:
        """The other end closed it, or said something that nobody asked for, while it was idle."""
        return self._stream.readable()

    async def request(
        self,
        method: str,
        target: str,
        body: Body,
        headers: str,
        done: Callable[[AsyncConnection, bool], None],
        *,
        within: float | None = None,
        silence: float | None = None,
    ) -> AsyncResponse:
        """Sends a request and waits for the head of its response.

        Args:
            method, target, body: what to send.
            headers: further header lines, checked, each with its line end.
            done: called once with this connection and whether it can be used again, when the response is at its end.
            within: seconds in which the head has come when all is sent; None: any number.
            silence: seconds in which at least something is taken before, and comes after; None: any number.

        Raises:
            Silent: it took longer.
            Unreachable: the connection broke before a byte was sent.
            Broken: it broke later.
        """
        self._parser.expect(method)
        self._stream.sent = 0
        self._stream.patience = silence
        try:
            whole = await self._send(method, target, body, headers)
            self.used = True
            self._stream.patience = within
            until = None if within is None else time.monotonic() + within
            while not (events := await self._receive()):
                if until is not None:
                    # A head that comes byte by byte has no more time than another.
                    self._stream.patience = max(until - time.monotonic(), 0.001)
            self._stream.patience = silence
        except BaseException:
            done(self, False)
            raise
        head = cast(Head, events.pop(0))
        return AsyncResponse(head, events, self, done if whole else _never_again(done))

    async def _send(self, method: str, target: str, body: Body, headers: str) -> bool:
        """Sends the request; False when the answer came, or the connection broke, before its end."""
        if isinstance(body, bytes):
            length = f"Content-Length: {len(body)}\r\n" if body or method in ("POST", "PUT") else ""
            head = self._head(method, target, headers + length)
            if len(body) <= SMALL:
                return await self._put(head + body)
            return await self._put(head) and await self._put(body)
        pieces, size = body if isinstance(body, tuple) else (body, None)
        framing = "Transfer-Encoding: chunked\r\n" if size is None else f"Content-Length: {size}\r\n"
        if not await self._put(self._head(method, target, headers + framing)):
            return False
        async for piece in pieces:
            if self._stream.readable() or not await self._put(chunk(piece) if size is None else piece):
                return False
        return size is not None or await self._put(b"0\r\n\r\n")

    async def _put(self, data: bytes) -> bool:
        """Sends `data`; False when the connection broke: an answer that refuses the request may have come before.

        Raises:
            Unreachable: it broke before a byte was sent.
        """
        try:
            await self._stream.send(data)
        except TimeoutError as error:
            raise self._silent(error) from None
        except OSError as error:
            if not self._stream.sent:
                raise Unreachable(str(error)) from error
            return False
        return True

    def _head(self, method: str, target: str, headers: str) -> bytes:
        start = request_head(method, target, ())
        return start[:-2] + (self.endpoint.fixed + headers).encode("latin-1") + b"\r\n"

    async def receive(self) -> list[Event]:
        """The next events of the response; raises `Broken`."""
        return await self._receive()

    async def _receive(self) -> list[Event]:
        try:
            data = await self._stream.receive()
        except TimeoutError as error:
            raise self._silent(error) from None
        except OSError as error:
            raise Broken(str(error)) from error
        try:
            return self._parser.feed(data) if data else self._parser.feed_eof()
        except SandboxNetworkError as error:
            if not data:
                raise Broken(error.message) from None
            raise

    def _silent(self, error: TimeoutError) -> Broken:
        return Broken(str(error)) if error.errno else Silent("the other end says nothing")

    @property
    def reusable(self) -> bool:
        return self._parser.reusable

    def close(self) -> None:
        self._stream.close()


class AsyncResponse:
    """A response whose body is read when it is asked for. `aclose` it, or read it to its end.

    Attributes:
        status: the HTTP status.
        head: status and headers.
    """

    def __init__(
        self,
        head: Head,
        events: list[Event],
        connection: AsyncConnection,
        done: Callable[[AsyncConnection, bool], None],
    ) -> None:
        self.head = head
        self.status = head.status
        self._events = events
        self._connection = connection
        self._done = done
        self._open = True
        if events and events[-1] is END:
            self._finish()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Leaving it before its end closes the connection.

        Raises:
            Broken: the connection ended before the body.
        """
        try:
            while True:
                for event in self._events:
                    if isinstance(event, bytes):
                        yield event
                self._events = []
                if not self._open:
                    return
                await self._next()
        finally:
            self.close()

    async def read(self, limit: int | None = MAX_ANSWER) -> bytes:
        """The whole body.

        Raises:
            Broken: the connection ended before it.
            SandboxNetworkError: it is longer than `limit` bytes.
        """
        body = bytearray()
        try:
            while True:
                for event in self._events:
                    if isinstance(event, bytes):
                        body += event
                if limit is not None and len(body) > limit:
                    raise SandboxNetworkError(f"the answer is longer than {limit:,} bytes")
                self._events = []
                if not self._open:
                    return bytes(body)
                await self._next()
        finally:
            self.close()

    async def finish(self) -> None:
        """Reads what little is left after the last that mattered, so that the connection can be used again."""
        await self.read(SMALL)

    async def next_piece(self) -> bytes:
        """The next bytes of the body, for an answer that goes on without end; raises `Broken` when it does end."""
        while True:
            while self._events:
                event = self._events.pop(0)
                if isinstance(event, bytes):
                    return event
            if not self._open:
                raise Broken("the answer is at its end")
            await self._next()

    def close(self) -> None:
        """Gives the response up: its connection is closed, unless the body was read to its end."""
        if self._open:
            self._open = False
            self._done(self._connection, False)

    async def _next(self) -> None:
        self._events = await self._connection.receive()
        if self._events and self._events[-1] is END:
            self._finish()

    def _finish(self) -> None:
        self._open = False
        self._done(self._connection, self._connection.reusable)


def _reason(error: OSError) -> str:
    if refused := getattr(error, "verify_message", None):
        return f"its certificate is not trusted: {refused}; SANDCOVE_CA_FILE can name the authority that signed it"
    if tls := getattr(error, "reason", None):
        return f"no TLS could be agreed on: {tls}"
    return os.strerror(error.errno) if error.errno else str(error) or "timed out"


def _never_again(done: Callable[[AsyncConnection, bool], None]) -> Callable[[AsyncConnection, bool], None]:
    """Part of the request was never sent, so that the connection can't carry another one."""
    return lambda connection, _: done(connection, False)
