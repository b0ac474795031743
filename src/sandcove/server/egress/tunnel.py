"""Bytes both ways between a program and a host, as they come; a side that is slow stops the reading of the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sandcove.server.egress.hello import WAIT, server_name

__all__ = ["Buffer", "Tunnel"]

SIZE = 256 * 1024
PIECES = 32
"""Pieces in which the first message of TLS may come."""
PATIENCE = 300.0
"""Seconds in which a side takes at least something of what was written to it, after the tunnel's end."""


class Buffer:
    """What all tunnels of a loop read into: what is read is written on before anything else is read."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(SIZE))

    def passed_on(self, to: asyncio.Transport) -> None:
        """`to` has got a part of it, and may still hold it."""
        if to.get_write_buffer_size():
            self.view = memoryview(bytearray(SIZE))


class _Side(asyncio.BufferedProtocol):
    """Reads from its own transport, and writes to that of the other side."""

    def __init__(self, tunnel: Tunnel, buffer: Buffer, count: Callable[[int], None]) -> None:
        self.transport: asyncio.Transport
        self.other: _Side
        self.ended = False
        self._tunnel = tunnel
        self._buffer = buffer
        self._count = count
        self.look: Callable[[bytes], bytes | None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer.view

    def buffer_updated(self, nbytes: int) -> None:
        self.pass_on(self._buffer.view[:nbytes])
        self._buffer.passed_on(self.other.transport)

    def pass_on(self, data: memoryview | bytes) -> None:
        self._count(len(data))
        self._tunnel.active = True
        if self.look is not None:
            seen = self.look(bytes(data))
            if seen is None:
                return
            self.look = None
            data = seen
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        if self.other.ended:
            self._tunnel.end()
        elif not self.other.transport.is_closing():
            self.other.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._tunnel.end()

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()


class Tunnel:
    """One tunnel.

    Args:
        count: called with bytes that came out of the sandbox, and with those that go into it.
        may_name: whether a host may be named in TLS; None where every host may.
        on_end: called once, at its end, with what was wrong, or nothing.

    Attributes:
        active: bytes have gone through since this was last made false.
    """

    def __init__(
        self,
        buffer: Buffer,
        count: tuple[Callable[[int], None], Callable[[int], None]],
        may_name: Callable[[bytes], bool] | None,
        on_end: Callable[[str], None],
    ) -> None:
        self.active = True
        self._on_end: Callable[[str], None] | None = on_end
        self._may_name = may_name
        self._hello = bytearray()
        self._pieces = 0
        self.inner = _Side(self, buffer, count[0])
        self.outer = _Side(self, buffer, count[1])
        self.inner.other, self.outer.other = self.outer, self.inner
        if may_name is not None:
            self.inner.look = self._look

    def begin(self, first: bytes) -> None:
        """Both sides are connected. The inner one's bytes are the tunnel's from here on; `first` came already."""
        inner = self.inner.transport
        inner.set_protocol(self.inner)
        if first:
            self.inner.pass_on(first)
        if not inner.is_closing():
            inner.resume_reading()

    def end(self, reason: str = "") -> None:
        """Ends both sides. Where it went well, what was written still arrives."""
        on_end, self._on_end = self._on_end, None
        if on_end is None:
            return
        for side in (self.inner, self.outer):
            if reason:
                side.transport.abort()
            else:
                side.transport.close()
                _flush(side.transport)
        on_end(reason)

    def _look(self, data: bytes) -> bytes | None:
        """The program's first bytes, when it is seen that they may go; else None."""
        assert self._may_name is not None
        self._hello += data
        self._pieces += 1
        try:
            name = server_name(self._hello)
        except ValueError as error:
            self.end(str(error))
            return None
        if name is WAIT:
            if self._pieces >= PIECES:
                self.end("its first message comes in too many pieces")
            return None
        if name and not self._may_name(name):
            self.end(f"TLS names another host: {name[:253].decode('ascii', 'replace')!r}")
            return None
        held, self._hello = bytes(self._hello), bytearray()
        return held


def _flush(transport: asyncio.Transport, before: int = 0) -> None:
    """Aborts a transport that is closed when it gets rid of nothing any more; `before`: what it had a while ago."""
    left = transport.get_write_buffer_size()
    if left and left == before:
        transport.abort()
    elif left:
        asyncio.get_running_loop().call_later(PATIENCE, _flush, transport, left)
