"""A connection from somebody unknown: HTTP/1.1 with bounds on what a peer can make the server keep or wait for."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from sandcove.errors import InvalidRequestError, SandboxError, TooLargeError, error_to_wire
from sandcove.server.preview.api import ApiConnection
from sandcove.wire.codec import encode

__all__ = ["MAX_HEAD", "MOST_WAITING", "Connection"]

MAX_HEAD = 64 * 1024
"""Longest head of a request, in bytes; also the most in a row that are neither head nor body, as trailers are."""
MOST_WAITING = 16
"""Requests that wait for the answers before theirs; while there are more, nothing is read."""
PIECE = 4096
"""Bytes that are parsed at once: so many can bring more requests than may wait."""


class _HeadTooLargeError(Exception):
    pass


class _Flow(FlowControl):
    """Does not read on while it is `full`, whatever else wants it to."""

    full = False

    def resume_reading(self) -> None:
        if not self.full:
            super().resume_reading()


class Connection(ApiConnection):
    """Uvicorn's protocol, which trusts its peer in these things.

    Uvicorn bounds idle connections only after their first request, and neither the time nor the size of a head, nor the
    number of requests that are sent ahead.

    Attributes:
        head_seconds: a head comes whole within this time; so does the rest of a body that nobody reads, since its
            request is answered.
        idle_seconds: an idle connection is closed after so long.
    """

    head_seconds = 30.0
    idle_seconds = 90

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.timeout_keep_alive = self.idle_seconds
        self._in_head = True
        self._head = 0
        self._fed = 0
        self._held = b""
        self._upgraded = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow: _Flow = _Flow(transport)
        self._expect_within(self.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        self._held = b""
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head and self._fed == 0:
            self._expect_within(self.head_seconds)
        super().data_received(data)

    def take(self, data: bytes) -> None:
        data = self._held + data
        at = 0
        while at < len(data) and len(self.pipeline) <= MOST_WAITING and not self.transport.is_closing():
            if self._upgraded and self._in_head:
                at = len(data)  # what follows is no HTTP/1.1
                break
            piece = data[at : at + PIECE]
            at += len(piece)
            # Counts what came since the last progress: a callback that tells of a part of the request sets it back.
            self._fed += len(piece)
            super().take(piece)
            if self._fed > MAX_HEAD and not self.transport.is_closing():
                self._refuse(_too_large(), 431)
        self._held = data[at:]
        self.flow.full = len(self.pipeline) > MOST_WAITING

    def give_up(self) -> None:
        self._expect_nothing()
        super().give_up()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        if self._in_head:  # else it is a trailer, which could say what the head did not
            super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > MAX_HEAD:
            raise _HeadTooLargeError

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._fed = 0
        self._expect_nothing()
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False
            self._upgraded = True

    def on_body(self, body: bytes) -> None:
        self._fed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head = self._fed = 0
        self._expect_nothing()
        super().on_message_complete()
        if self.cycle.response_complete:
            self._expect_within(self.idle_seconds)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.flow.full:
            self.take(b"")
        if not self._in_head:
            self._expect_within(self.head_seconds)

    @property
    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def send_400_response(self, msg: str) -> None:
        """Called when the parser or one of the callbacks above raised."""
        if self._head > MAX_HEAD:
            self._refuse(_too_large(), 431)
        else:
            self._refuse(InvalidRequestError("this is no HTTP/1.1 request that the server understands"), 400)

    def _refuse(self, error: SandboxError, status: int) -> None:
        """Answers, if it is this request's turn, and closes."""
        if self._answering and not self._in_head and not self.cycle.response_started and not self.pipeline:
            self.cycle.disconnected = True  # its body is at fault: what it would answer is not wanted any more
            self.cycle.message_event.set()
        if not self._answering or self.cycle.disconnected:
            content = encode(error_to_wire(error))
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(content)
            self.transport.write(STATUS_LINE[status] + head + content)
        self.transport.close()

    def _expect_within(self, seconds: float) -> None:
        self._expect_nothing()
        self._timer = self.loop.call_later(seconds, self._too_late)

    def _expect_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        if self._answering:
            self._expect_within(self.head_seconds)  # it is not read further while the request before it runs
        elif self._in_head and self._fed > 0:
            self._refuse(
                InvalidRequestError(f"the request's head did not come whole within {self.head_seconds:g} s"), 408
            )
        else:
            self.transport.close()


def _too_large() -> SandboxError:
    return TooLargeError(f"the request's head is over {MAX_HEAD:,} bytes")
