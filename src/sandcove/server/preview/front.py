"""Takes every new connection of a listener: previews are answered here, everything else is the API's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sandcove.errors import PortNotListeningError, QuotaExceededError, SandboxError, SandboxNotFoundError
from sandcove.server.preview.downstream import Downstream
from sandcove.server.preview.exchange import Exchange
from sandcove.server.preview.gate import Authenticate, Gate, Target
from sandcove.server.preview.head import Refused, Request, parse_request
from sandcove.server.preview.incoming import Incoming
from sandcove.server.preview.page import Page, crowded, misdirected, silent, starting, unknown, wrong

__all__ = ["Front"]

HEAD_TIMEOUT = 30.0
"""Seconds in which a request's head must be there."""


class Front(Downstream, Incoming):
    """One connection.

    Args:
        gate: knows what previews there are.
        authenticate: says who sent a request, or raises; None where there are previews only.
        api: makes the protocol that gets what is no preview; None where there are previews only.
    """

    kept = 120.0

    def __init__(
        self, gate: Gate, authenticate: Authenticate | None, api: Callable[[], asyncio.Protocol] | None
    ) -> None:
        super().__init__()
        self._gate = gate
        self._authenticate = authenticate
        self._api = api
        self._target: Target | None = None
        self._upstream_key: object = None
        self._host = ""

    @property
    def key(self) -> str | None:
        """The id of the key that the request which is passed on was shown with."""
        return None if self._target is None else self._target.shown

    # --- asyncio calls these ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else ""
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._gate.fronts.add(self)
        self._wait(HEAD_TIMEOUT)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gate.fronts.discard(self)
        super().connection_lost(exc)

    # --- a request begins ---

    def _next(self) -> None:
        if self._clogged:
            # The caller must read the answers that it has before there is another.
            self._read()
            return
        try:
            end = self._beginning.end(self._buffer)
            if end is None:
                if self._buffer and self._timer is None:
                    self._wait(HEAD_TIMEOUT)
                return
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
        self._drop_upstream()
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

    def failed(self, page: Page) -> None:
        request = self._exchange.request if self._exchange is not None else None
        self._leave()
        self._answer(request, page, close=request is None or not request.keep_alive or request.length != 0)

    def _leave(self) -> None:
        super()._leave()
        target, self._target = self._target, None
        if target is not None:
            target.end(self)

    def _answer(self, request: Request | None, page: Page, *, close: bool) -> None:
        self._transport.write(page.answer(request, close=close))
        if close:
            self._end()
        else:
            self._await_next()

    def _late(self) -> None:
        if self._buffer and not self._ended:
            self._answer(None, wrong(408, "its head took too long"), close=True)
        else:
            self._transport.abort()
