"""One connection of a program to the proxy: what it asks for, by HTTP or SOCKS5, and what becomes of it."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from sandcove.server.egress.asked import Asked, Onward, parse
from sandcove.server.egress.keyring import Injected
from sandcove.server.egress.socks import DONE, FAILED, NOT_ALLOWED, SocksRefused, greeting, reply, wanted
from sandcove.server.egress.tunnel import Tunnel
from sandcove.server.preview.downstream import Downstream
from sandcove.server.preview.exchange import Exchange
from sandcove.server.preview.head import Refused
from sandcove.server.preview.upstream import Upstream
from sandcove.wire.egress import canonical_host, is_address
from sandcove.wire.egress_log import EgressEntry

if TYPE_CHECKING:
    import socket

    from sandcove.server.egress.outlet import Outlet
    from sandcove.server.preview.page import Page

__all__ = ["Denied", "Passage"]

HEAD_TIMEOUT = 20.0
"""Seconds in which what is asked for must have been said."""
IDLE = 900.0
"""Seconds after which a tunnel or an answer through which nothing goes is cut."""

_UNPRINTABLE = re.compile(r"[^ -~]")


class Denied(Exception):  # noqa: N818 - a verdict; no user sees it as an exception
    """There is no connection to what was asked for; the text says why and what to do.

    Attributes:
        refused: by a rule; else it could not be made.
    """

    def __init__(self, reason: str, *, refused: bool) -> None:
        super().__init__(reason)
        self.refused = refused


class Passage(Downstream, asyncio.Protocol):
    """One connection.

    Attributes:
        target: the host and port that it is used for, or is about to be.
        secure: what is asked for comes out of TLS.
        via: how requests are noted.
    """

    kept = 60.0
    secure = False
    via = "http"

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self.target: tuple[str, int] | None = None
        self._outlet = outlet
        self._socks = 0
        """Of SOCKS5: 1, the greeting is over; 2, the request is."""
        self._asked: Asked | None = None
        self._entry: EgressEntry | None = None
        self._tunnel: Tunnel | None = None
        self._seen = 0

    # --- asyncio calls these ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._outlet.passages.add(self)
        self._wait(HEAD_TIMEOUT)

    def connection_lost(self, exc: Exception | None) -> None:
        self._over()

    # --- what it asks for ---

    @property
    def _busy(self) -> bool:
        return self._asked is not None

    def _next(self) -> None:
        if not self._buffer:
            return
        try:
            if self._socks or (self._buffer[0] == 5 and self._upstream is None and not self.secure):
                asked = self._next_socks()
            elif self._clogged:
                # The program must read the answers that it has before there is another.
                self._read()
                return
            else:
                asked = self._next_http()
        except Refused as error:
            self._malformed("http", str(error))
            self._answer(error.status, str(error))
            return
        except SocksRefused as error:
            self._malformed("socks5", str(error))
            self._transport.write(error.answer)
            self._end()
            return
        if asked is not None:
            self._start(asked)

    def _next_socks(self) -> Asked | None:
        if not self._socks:
            length = greeting(self._buffer)
            if not length:
                return None
            del self._buffer[:length]
            self._socks = 1
            self._transport.write(b"\x05\x00")
        found = wanted(self._buffer)
        if found is None:
            return None
        del self._buffer[: found[0]]
        self._socks = 2
        return Asked(found[1], found[2], None)

    def _next_http(self) -> Asked | None:
        end = self._beginning.end(self._buffer)
        if end is None:
            return None
        asked = self._parse(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        return asked

    def _parse(self, head: bytes) -> Asked:
        return parse(head)

    def _start(self, asked: Asked) -> None:
        self._wait(IDLE)
        self._asked = asked
        upstream, target = self._upstream, (asked.host, asked.port)
        if asked.request is not None:
            self._exchange = Exchange(self, asked.request, self._heads(*target))
            if (
                upstream is not None
                and upstream.open
                and self.target == target
                and self._exchange.may_reuse(self._loop.time() - upstream.idle_since)
                and self._outlet.refusal(*target) is None
            ):
                self._begin(upstream)
                return
        self.target = target
        if asked.request is None and self._outlet.keyring.ends_tls(*target):
            self._end_tls(*target)
        else:
            self._open()

    def _heads(self, host: str, port: int) -> Onward:
        outlet = self._outlet
        if not outlet.keyring:
            return Onward(host, port, 443 if self.secure else 80)
        return Injected(host, port, keyring=lambda: outlet.keyring, tls=self.secure, used=self._used)

    def _used(self, names: list[str]) -> None:
        if self._entry is not None:
            self._entry.secrets = sorted({*self._entry.secrets, *names})

    def _open(self) -> None:
        self._drop_upstream()
        self._transport.pause_reading()
        self._opening = self._outlet.spawn(self._connect())

    async def _connect(self) -> None:
        asked = self._asked
        assert asked is not None
        try:
            sock, entry = await self._outlet.connect(asked.host, asked.port, self._via(asked))
        except Denied as denied:
            self._opening = None
            self._deny(denied)
            return
        self._entry = entry
        try:
            if asked.request is None:
                await self._begin_tunnel(sock, asked)
            else:
                upstream = await self._reach(sock, asked.host, asked.port)
                self._opening = None
                self._begin(upstream)
        except (Denied, OSError) as error:
            self._opening = None
            entry.verdict, entry.reason = "failed", str(error)
            self._deny(error if isinstance(error, Denied) else Denied(str(error), refused=False))

    async def _reach(self, sock: socket.socket, host: str, port: int) -> Upstream:
        """What a request is sent over.

        Raises:
            Denied, OSError: it can't be had.
        """
        return await Upstream.over(sock)

    def _via(self, asked: Asked) -> str:
        return self.via if asked.request is not None else "socks5" if self._socks else "connect"

    def _deny(self, denied: Denied) -> None:
        if self._ended:
            return
        if self._socks:
            self._transport.write(reply(NOT_ALLOWED if denied.refused else FAILED))
            self._end()
        else:
            self._answer(403 if denied.refused else 502, str(denied))

    # --- a tunnel ---

    def _end_tls(self, host: str, port: int) -> None:
        """What comes through the tunnel is for the proxy: there is a secret for requests to this host."""
        assert self._asked is not None
        via = self._via(self._asked)
        reason = self._outlet.refusal(host, port)
        if reason is not None:
            self._deny(self._outlet.denied(host, port, via, reason, refused=True))
            return
        self._transport.write(self._there())
        first = bytes(self._buffer)
        self._outlet.begin_within(self._transport, first, host, port, via)
        self._over()

    def _there(self) -> bytes:
        return reply(DONE) if self._socks else b"HTTP/1.1 200 Connection established\r\n\r\n"

    async def _begin_tunnel(self, sock: socket.socket, asked: Asked) -> None:
        may_name = None
        if not is_address(asked.host) and not self._outlet.any_host:
            may_name = self._may_name
        counts = (self._sent, self._received)
        tunnel = Tunnel(self._outlet.buffer, counts, may_name, self._tunnel_ended)
        tunnel.inner.connection_made(self._transport)
        try:
            await self._loop.create_connection(lambda: tunnel.outer, sock=sock)
        except BaseException:
            sock.close()
            raise
        self._opening = None
        if self._ended:
            tunnel.outer.transport.abort()
            return
        self._tunnel = tunnel
        self._transport.write(self._there())
        first, self._buffer = bytes(self._buffer), bytearray()
        self._wait(IDLE)
        tunnel.begin(first)

    def _may_name(self, name: bytes) -> bool:
        assert self.target is not None
        try:
            return self._outlet.refusal(canonical_host(name.decode("ascii")), self.target[1]) is None
        except ValueError:
            return False

    def _tunnel_ended(self, reason: str) -> None:
        if reason and self._entry is not None:
            self._entry.reason, self._entry.verdict = reason, "refused"
        self._over()

    # --- a request ---

    def _begin(self, upstream: Upstream) -> None:
        self._wait(IDLE)
        super()._begin(upstream)

    def failed(self, page: Page) -> None:
        self._answer(page.status, page.text)

    # --- ends ---

    @property
    def tunnels(self) -> bool:
        """Bytes go through it unseen."""
        return self._tunnel is not None or (self._asked is not None and self._asked.request is None)

    def cut(self, why: str = "its egress was changed") -> None:
        """Ends the connection at once."""
        if self._tunnel is not None:
            self._tunnel.end(why)
        else:
            self._transport.abort()

    def _malformed(self, via: str, reason: str) -> None:
        self._outlet.note("", 0, via, "refused", reason=reason)

    def _answer(self, status: int, text: str) -> None:
        """An answer of the proxy's own, and the end. Many programs show nothing but its first line."""
        text = _UNPRINTABLE.sub("?", text)
        body = f"{text}\n".encode()
        if self._asked is not None and self._asked.request is not None and self._asked.request.method == b"HEAD":
            body = b""
        self._transport.write(
            b"HTTP/1.1 %d Sandcove: %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, text[:400].encode(), len(body), body)
        )
        self._end()

    def _leave(self) -> None:
        super()._leave()
        self._asked = None

    def _over(self) -> None:
        """The connection is gone, or another's."""
        super().connection_lost(None)
        self._outlet.gone(self)

    def _drop_upstream(self) -> None:
        super()._drop_upstream()
        entry, self._entry = self._entry, None
        if entry is not None:
            self._outlet.trail.end(entry)

    def _sent(self, count: int) -> None:
        if self._entry is not None:
            self._entry.sent += count
            self._outlet.trail.count(sent=count)

    def _received(self, count: int) -> None:
        if self._entry is not None:
            self._entry.received += count
            self._outlet.trail.count(received=count)

    def _late(self) -> None:
        tunnel = self._tunnel
        if tunnel is not None:
            if tunnel.active:
                tunnel.active = False
                self._wait(IDLE)
            else:
                tunnel.end()
        elif self._exchange is not None and self._entry is not None and self._moved():
            self._wait(IDLE)
        else:
            self._transport.abort()

    def _moved(self) -> bool:
        """Bytes have gone through since it was last asked."""
        entry = self._entry
        assert entry is not None
        before, self._seen = self._seen, entry.sent + entry.received
        return self._seen != before
