"""A tunnel whose TLS is ended here: the requests in it are read as strictly as plain ones, and go to its host alone."""

from __future__ import annotations

import asyncio
import ssl
from enum import Enum, auto
from typing import TYPE_CHECKING

from sandcove.server.egress.asked import Asked, parse_within
from sandcove.server.egress.hello import WAIT, server_name
from sandcove.server.egress.passage import HEAD_TIMEOUT, Denied, Passage
from sandcove.server.egress.tunnel import PIECES
from sandcove.server.preview.downstream import LINGER
from sandcove.server.preview.upstream import Upstream
from sandcove.wire.egress import canonical_host, shown

if TYPE_CHECKING:
    import socket

    from sandcove.server.egress.outlet import Outlet

__all__ = ["Within"]

COST = 10
"""Connections that one with TLS counts for: each takes the server so much more time."""
MOST_BEFORE = 1024 * 1024
"""Bytes within TLS that come in the few steps of the loop before it is known to have begun."""


class _Stage(Enum):
    HELLO = auto()
    """The program's first message is awaited."""
    SHAKE = auto()
    OPEN = auto()


class _Secure(Upstream):
    """A connection to a host by TLS."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False  # TLS has no half-closed connections


class Within(Passage):
    """One such tunnel, from its first byte on."""

    secure = True
    via = "https"

    def __init__(self, outlet: Outlet, host: str, port: int, via: str) -> None:
        super().__init__(outlet)
        self.target = (host, port)
        self._asked_by = via
        self._stage = _Stage.HELLO
        self._early = bytearray()
        self._pieces = 0

    def begin(self, transport: asyncio.Transport, first: bytes) -> None:
        """The program has been told that the tunnel is there; `first` it has sent already."""
        transport.set_protocol(self)
        self.connection_made(transport)
        transport.resume_reading()
        if first:
            self.data_received(first)

    # --- asyncio calls these ---

    def data_received(self, data: bytes) -> None:
        if self._stage is _Stage.OPEN:
            super().data_received(data)
        elif self._stage is _Stage.SHAKE:
            # What is within TLS, before `start_tls` has told us of it.
            self._early += data
            if len(self._early) > MOST_BEFORE:
                self._transport.abort()
        else:
            self._buffer += data
            self._look()

    def eof_received(self) -> bool:
        if self._stage is not _Stage.SHAKE:
            self._transport.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stage is not _Stage.SHAKE:  # then `_shake` is told, and says why
            super().connection_lost(exc)

    # --- TLS ---

    def _look(self) -> None:
        assert self.target is not None
        host, port = self.target
        try:
            name = server_name(self._buffer)
            if name is WAIT:
                self._pieces += 1
                if self._pieces < PIECES:
                    return
                raise ValueError("TLS's first message comes in too many pieces")
            if self._buffer[0] != 22:
                raise ValueError("TLS to this host is ended at the proxy, for a secret; what came is no TLS")
            if name and canonical_host(name.decode("ascii", "replace")) != host:
                raise ValueError(f"TLS names another host: {name[:253].decode('ascii', 'replace')!r}")
        except ValueError as error:
            self._outlet.note(host, port, self._asked_by, "refused", reason=str(error))
            self._transport.abort()
            return
        self._stage = _Stage.SHAKE
        self._transport.pause_reading()
        self._outlet.charge(COST - 1)
        self._opening = self._outlet.spawn(self._shake(host, port))

    async def _shake(self, host: str, port: int) -> None:
        try:
            context = self._outlet.authority().context(host)
            begun = asyncio.ensure_future(
                self._loop.start_tls(
                    self._transport,
                    self,
                    context,
                    server_side=True,
                    ssl_handshake_timeout=HEAD_TIMEOUT,
                    ssl_shutdown_timeout=LINGER,
                )
            )
            try:
                await asyncio.sleep(0)
                # It has set its protocol, whose beginning is the loop's next step; what was looked at follows it.
                self._loop.call_soon(self._give_back, self._transport.get_protocol())
                transport = await begun
                if transport is None or transport.is_closing():
                    raise ConnectionResetError("the program has left")
            finally:
                begun.cancel()
        except Exception as error:  # noqa: BLE001 - asyncio's TLS raises what it likes; nobody else would end this
            self._opening = None
            reason = (
                f"TLS with the program could not be begun: {_said(error)}; it has to trust the sandbox's certificates"
            )
            self._outlet.note(host, port, self._asked_by, "failed", reason=reason)
            self._transport.abort()
            self._over()
            return
        self._opening = None
        if self._ended:
            return
        self._transport = transport
        self._stage = _Stage.OPEN
        self._wait(HEAD_TIMEOUT)
        if self._early:
            early, self._early = bytes(self._early), bytearray()
            self.data_received(early)

    def _give_back(self, tls: asyncio.BaseProtocol) -> None:
        assert isinstance(tls, asyncio.BufferedProtocol)
        held, self._buffer = memoryview(bytes(self._buffer)), bytearray()
        while held and not self._ended:
            space = memoryview(tls.get_buffer(len(held)))
            count = min(len(space), len(held))
            space[:count] = held[:count]
            tls.buffer_updated(count)
            held = held[count:]

    # --- a request ---

    def _parse(self, head: bytes) -> Asked:
        assert self.target is not None
        return parse_within(head, *self.target)

    async def _reach(self, sock: socket.socket, host: str, port: int) -> Upstream:
        where = shown(host, port)
        try:
            return await _Secure.over(sock, ssl=self._outlet.trusted(), name=host)
        except ssl.SSLCertVerificationError as error:
            reason = f"{where} can't be trusted: {error.verify_message}; the server's own certificates decide"
        except OSError as error:
            reason = f"TLS with {where} could not be begun: {_said(error)}"
        raise Denied(reason, refused=False)

    def end_writing(self) -> None:
        self._transport.close()

    def finished(self, *, keep: bool) -> None:
        super().finished(keep=keep)
        if not keep:
            self._transport.close()

    def _end(self) -> None:
        """As without TLS; but that no more comes can't be said before the end."""
        self._ended = True
        self._leave()
        self._drop_upstream()
        self._transport.resume_reading()
        self._wait(LINGER)


def _said(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error) or type(error).__name__
