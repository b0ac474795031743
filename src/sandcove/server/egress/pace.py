"""How many bytes a second go through all connections of one sandbox, both ways together.

A connection that is to wait is not read, and what writes to it is told that it takes no more. Where there is no rate
nothing of this is in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["Pace", "Paced"]

BURST = 0.25
"""Seconds' worth of bytes that may go at once."""
LEAST_BURST = 64 * 1024


class Pace:
    """What one sandbox may still send and receive now; below zero when it has had some of the future.

    Args:
        rate: bytes a second.
    """

    def __init__(self, rate: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._most = max(LEAST_BURST, rate * BURST)
        self._left = self._most
        self._at = clock()

    def take(self, size: int) -> float:
        """So many bytes have come; gives the seconds until any more should."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._rate) - size
        self._at = now
        return max(0.0, -self._left / self._rate)


class Paced(asyncio.Protocol):
    """A connection of a program's between its transport and `protocol`, each of which takes this for the other."""

    def __init__(self, protocol: asyncio.BaseProtocol, pace: Pace) -> None:
        self.protocol = protocol
        self.transport: asyncio.Transport
        self._pace = pace
        self._wanted = True
        """The protocol reads."""
        self._clogged = self._told = False
        """The transport takes no more; so the protocol has been told."""
        self._timer: asyncio.TimerHandle | None = None

    # --- the transport calls these ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.protocol.connection_made(_Outside(self))

    def data_received(self, data: bytes) -> None:
        self._count(len(data))
        protocol = self.protocol
        if not isinstance(protocol, asyncio.BufferedProtocol):
            protocol.data_received(data)  # type: ignore[attr-defined]
            return
        rest = memoryview(data)
        while rest:
            buffer = memoryview(protocol.get_buffer(len(rest)))
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            protocol.buffer_updated(size)
            rest = rest[size:]

    def eof_received(self) -> bool | None:
        return self.protocol.eof_received()  # type: ignore[attr-defined, no-any-return]

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._clogged = True
        self._tell()

    def resume_writing(self) -> None:
        self._clogged = False
        self._tell()

    # --- the protocol calls these, by `_Outside` ---

    def read(self, *, wanted: bool) -> None:
        """The protocol wants to read, or not."""
        self._wanted = wanted
        if self.transport.is_closing():
            return
        if wanted and self._timer is None:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.transport.write(data)
        self._count(len(data))

    # --- the pace ---

    def _count(self, size: int) -> None:
        wait = self._pace.take(size)
        if wait and self._timer is None and not self.transport.is_closing():
            self._timer = asyncio.get_running_loop().call_later(wait, self._on_time)
            self.transport.pause_reading()
            self._tell()

    def _on_time(self) -> None:
        self._timer = None
        self._count(0)  # others may have taken what there was
        if self._timer is None:
            self.read(wanted=self._wanted)
            self._tell()

    def _tell(self) -> None:
        full = self._clogged or self._timer is not None
        if full != self._told:
            self._told = full
            if full:
                self.protocol.pause_writing()
            else:
                self.protocol.resume_writing()


class _Outside(asyncio.Transport):
    """The transport as the protocol sees it."""

    _start_tls_compatible = True
    """What `loop.start_tls` looks for, which else takes none but asyncio's own."""

    def __init__(self, paced: Paced) -> None:
        super().__init__()
        self._paced = paced

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._paced.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._paced.protocol

    def pause_reading(self) -> None:
        self._paced.read(wanted=False)

    def resume_reading(self) -> None:
        self._paced.read(wanted=True)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._paced.write(data)

    def can_write_eof(self) -> bool:
        return self._paced.transport.can_write_eof()

    def write_eof(self) -> None:
        self._paced.transport.write_eof()

    def is_closing(self) -> bool:
        return self._paced.transport.is_closing()

    def close(self) -> None:
        self._paced.transport.close()

    def abort(self) -> None:
        self._paced.transport.abort()

    def _force_close(self, _: Exception | None) -> None:
        """How asyncio's TLS ends one at once."""
        self.abort()

    def get_write_buffer_size(self) -> int:
        return self._paced.transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._paced.transport.get_extra_info(name, default)
