"""Takes every new connection of a listener: previews are answered here, everything else is the API's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sandcove.errors import PortNotListeningError, QuotaExceededError, SandboxError, SandboxNotFoundError
from sandcove.server.preview.exchange import Exchange
from sandcove.server.preview.gate import Authenticate, Gate, Target
from sandcove.server.preview.head import MAX_HEAD, Refused, Request, looks_wrong, parse_request
from sandcove.server.preview.incoming import Incoming
from sandcove.server.preview.page import Page, crowded, misdirected, silent, starting, unknown, wrong
from sandcove.server.preview.upstream import Upstream

__all__ = ["Front"]

HEAD_TIMEOUT = 30.0
"""Seconds in which a request's head must be there."""
IDLE_TIMEOUT = 120.0
"""Seconds that a connection is kept without a request."""
LINGER = 2.0
"""Seconds in which a caller can read an answer that came before its request's end."""
MOST_AHEAD = 64 * 1024
"""Bytes of further requests that are read while one is being answered."""


class Front(Incoming):
    """One connection.

    Args:
        gate: knows what previews there are.
        authenticate: says who sent a request, or raises; None where there are previews only.
        api: makes the protocol that gets what is no preview; None where there are previews only.
    """

    def __init__(
        self, gate: Gate, authenticate: Authenticate | None, api: Callable[[], asyncio.Protocol] | None
    ) -> None:
        self._gate = gate
        self._authenticate = authenticate
        self._api = api
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._exchange: Exchange | None = None
        self._target: Target | None = None
        self._opening: asyncio.Task[None] | None = None
        self._upstream: Upstream | None = None
        self._upstream_key: object = None
        self._host = ""
        self._full = self._clogged = self._ended = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def key(self) -> str | None:
        """The id of the key that the request which is passed on was shown with."""
        return None if self._target is None else self._target.by

    # --- asyncio calls these ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else ""
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._gate.fronts.add(self)
        self._wait(HEAD_TIMEOUT)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        exchange = self._exchange
        if exchange is not None and self._opening is None and exchange.wants:
            data = exchange.feed(data)
            if not data:
                return
        self._buffer += data
        if self._exchange is None:
            self._next()
        elif len(self._buffer) > MOST_AHEAD:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        exchange = self._exchange
        if exchange is not None and self._opening is None and exchange.caller_ended():
            return bool(self._transport.can_write_eof())
        # As other proxies do: who sends no more has left.
        self._transport.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._gate.fronts.discard(self)
        self._stop_waiting()
        self._leave()
        if self._opening is not None:
            self._opening.cancel()
        if self._upstream is not None:
            self._upstream.close()

    def pause_writing(self) -> None:
        self._clogged = True
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        self._clogged = False
        if self._upstream is not None:
            self._upstream.transport.resume_reading()
        self._go_on()

    # --- a request begins ---

    def _next(self) -> None:
        """Takes the next request out of the buffer, if its head is there."""
        if self._clogged:
            # The caller must read the answers that it has before there is another.
            self._read()
            return
        if self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD + 4)
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                self._answer(None, wrong(431, f"its head is longer than {MAX_HEAD:,} bytes"), close=True)
            elif looks_wrong(self._buffer):
                self._answer(None, wrong(400, "it is no HTTP/1.1"), close=True)
            elif self._buffer and self._timer is None:
                self._wait(HEAD_TIMEOUT)
            return
        try:
            request = parse_request(bytes(self._buffer[:end]))
        except Refused as error:
            self._answer(None, wrong(error.status, str(error)), close=True)
            return
        found = self._gate.find(request, self, self._authenticate)
        if found is None and self._api is not None and not self._host:
            self._hand_over(self._api)
            return
        del self._buffer[: end + 4]
        self._stop_waiting()
        if request.host != self._host:
            if self._gate.is_preview_host(request.host):
                self._host = request.host
            elif self._host:
                found = None
        if found is None:
            found = misdirected()
        if isinstance(found, Page):
            self._answer(request, found, close=not request.keep_alive or request.length != 0 or found.status == 421)
            return
        self._start(request, found)

    def _hand_over(self, api: Callable[[], asyncio.Protocol]) -> None:
        """The connection is the API's from here on."""
        self._gate.fronts.discard(self)
        self._stop_waiting()
        if self._upstream is not None:
            self._upstream.close()
        protocol: Any = api()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.looked_at = True
        protocol.data_received(bytes(self._buffer))
        protocol.looked_at = False

    def _start(self, request: Request, target: Target) -> None:
        self._target = target
        target.begin(self)
        self._exchange = Exchange(self, request, target.origin)
        upstream = self._upstream
        if (
            upstream is not None
            and upstream.open
            and self._upstream_key == target.key
            and self._exchange.may_reuse(self._loop.time() - upstream.idle_since)
        ):
            self._begin(upstream)
        else:
            self._open()

    def _open(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None
        self._transport.pause_reading()
        self._opening = self._gate.spawn(self._connect())

    async def _connect(self) -> None:
        assert self._target is not None
        try:
            upstream = await self._gate.connect(self._target)
        except SandboxNotFoundError:
            page = unknown()
        except PortNotListeningError:
            page = silent(self._target.origin.port)
        except QuotaExceededError:
            page = crowded()
        except (SandboxError, OSError):
            page = starting()
        else:
            if self._ended:
                upstream.close()
                return
            self._opening = None
            self._upstream_key = self._target.key
            self._begin(upstream)
            return
        self._opening = None
        if not self._ended:
            self.failed(page)

    def _begin(self, upstream: Upstream) -> None:
        self._upstream = upstream
        exchange = self._exchange
        assert exchange is not None
        exchange.begin(upstream)
        if self._buffer and exchange.wants:
            data = bytes(self._buffer)
            self._buffer.clear()
            # An error in it ends the exchange, and its rest with it.
            self._buffer += exchange.feed(data)
        self._read()

    # --- the exchange calls these ---

    def write(self, data: bytes) -> None:
        self._transport.write(data)
        exchange = self._exchange
        if exchange is not None and exchange.tunnel and self._buffer:
            # It was sent ahead, before the service agreed to the other protocol.
            ahead = bytes(self._buffer)
            self._buffer.clear()
            exchange.feed(ahead)

    def end_writing(self) -> None:
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def on_full(self, *, full: bool) -> None:
        self._full = full
        self._read()

    def finished(self, *, keep: bool) -> None:
        self._leave()
        if self._upstream is not None:
            self._upstream.idle_since = self._loop.time()
            # A caller that reads slowly may have paused it.
            self._upstream.transport.resume_reading()
        self._full = False
        if not keep:
            self._end()
            return
        self._wait(IDLE_TIMEOUT)
        self._read()
        if self._buffer:
            self._loop.call_soon(self._go_on)

    def failed(self, page: Page) -> None:
        request = self._exchange.request if self._exchange is not None else None
        self._leave()
        self._answer(request, page, close=request is None or not request.keep_alive or request.length != 0)

    def broken(self) -> None:
        self.cut()

    def again(self) -> None:
        self._open()

    # --- ends ---

    def cut(self) -> None:
        """Ends the connection at once."""
        self._transport.abort()

    def _go_on(self) -> None:
        if not self._ended and self._exchange is None and self._buffer:
            self._next()

    def _leave(self) -> None:
        """The request is over, however it ended."""
        self._exchange = None
        target, self._target = self._target, None
        if target is not None:
            target.end(self)

    def _answer(self, request: Request | None, page: Page, *, close: bool) -> None:
        self._transport.write(page.answer(request, close=close))
        if close:
            self._end()
        else:
            self._wait(IDLE_TIMEOUT)
            self._read()
            if self._buffer:
                self._loop.call_soon(self._go_on)

    def _end(self) -> None:
        """Closes when what was written has been read; until then what still comes is dropped."""
        self._ended = True
        if self._upstream is not None:
            self._upstream.close()
        if not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._transport.resume_reading()
        self._wait(LINGER)

    def _read(self) -> None:
        """Reads from the caller, unless there is reason not to."""
        if self._full or self._opening is not None or len(self._buffer) > MOST_AHEAD:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self._loop.call_later(seconds, self._late)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self._buffer and not self._ended:
            self._answer(None, wrong(408, "its head took too long"), close=True)
        else:
            self._transport.abort()
