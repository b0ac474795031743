"""The side of a proxy's connection that faces whoever asks: what it sends ahead, how it reads, how long it may take.

It stands between the loop, which calls it as the connection's protocol, and an exchange, which calls it as its caller.
"""

from __future__ import annotations

import asyncio

from sandcove.server.preview.exchange import Caller, Exchange
from sandcove.server.preview.head import Beginning
from sandcove.server.preview.upstream import Upstream

__all__ = ["LINGER", "Downstream"]

LINGER = 2.0
"""Seconds in which an answer can be read that came before its request's end."""
MOST_AHEAD = 64 * 1024
"""Bytes of further requests that are read while one is being answered."""


class Downstream(Caller):
    """One connection, of whatever protocol comes beside this class.

    Attributes:
        kept: seconds that it is kept without a request.
    """

    kept: float

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._beginning = Beginning()
        self._exchange: Exchange | None = None
        self._opening: asyncio.Task[None] | None = None
        self._upstream: Upstream | None = None
        self._full = self._clogged = self._ended = False
        self._timer: asyncio.TimerHandle | None = None

    # --- what each kind of proxy does itself ---

    @property
    def _busy(self) -> bool:
        """What was asked for last is not over: what comes meanwhile is kept."""
        return self._exchange is not None

    def _next(self) -> None:
        """Takes what is asked for next out of the buffer, if it is whole."""
        raise NotImplementedError

    def _open(self) -> None:
        """Has a connection opened to where the exchange goes."""
        raise NotImplementedError

    def _leave(self) -> None:
        """What was asked for is over, however it ended."""
        self._exchange = None

    def _late(self) -> None:
        """The time is over that `_wait` was told last."""
        raise NotImplementedError

    def _sent(self, count: int) -> None:
        """So many bytes go to the other side."""

    def _received(self, count: int) -> None:
        """So many have come from there."""

    # --- asyncio calls these ---

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        exchange = self._exchange
        if exchange is not None and self._opening is None and exchange.wants:
            self._sent(len(data))
            data = exchange.feed(data)
            if not data:
                return
        self._buffer += data
        if not self._busy:
            self._next()
        elif len(self._buffer) > MOST_AHEAD:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        exchange = self._exchange
        if exchange is not None and self._opening is None and exchange.caller_ended():
            return self._transport.can_write_eof()
        # As other proxies do: who sends no more has left.
        self._transport.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._stop_waiting()
        self._leave()
        if self._opening is not None:
            self._opening.cancel()
        self._drop_upstream()

    def pause_writing(self) -> None:
        self._clogged = True
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        self._clogged = False
        if self._upstream is not None:
            self._upstream.transport.resume_reading()
        self._go_on()

    # --- the exchange calls these, see `Caller` ---

    def write(self, data: bytes) -> None:
        self._received(len(data))
        self._transport.write(data)
        exchange = self._exchange
        if exchange is not None and exchange.tunnel and self._buffer:
            # It was sent ahead, before the other side agreed to another protocol.
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
            # One that reads slowly may have paused it.
            self._upstream.transport.resume_reading()
        self._full = False
        if keep:
            self._await_next()
        else:
            self._end()

    def broken(self) -> None:
        self.cut()

    def again(self) -> None:
        self._open()

    # --- on the way ---

    def _begin(self, upstream: Upstream) -> None:
        """There is a connection to where the exchange goes."""
        self._upstream = upstream
        exchange = self._exchange
        assert exchange is not None
        exchange.begin(upstream)
        if self._buffer and exchange.wants:
            data = bytes(self._buffer)
            self._sent(len(data))
            self._buffer.clear()
            # An error in it ends the exchange, and its rest with it.
            self._buffer += exchange.feed(data)
        self._read()

    def _read(self) -> None:
        """Reads on, unless there is reason not to."""
        if self._transport.is_closing():
            return
        if self._full or self._opening is not None or len(self._buffer) > MOST_AHEAD:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _await_next(self) -> None:
        self._wait(self.kept)
        self._read()
        if self._buffer:
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if not self._ended and not self._busy and self._buffer:
            self._next()

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self._loop.call_later(seconds, self._on_time)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        self._late()

    # --- ends ---

    def cut(self) -> None:
        """Ends the connection at once."""
        self._transport.abort()

    def _end(self) -> None:
        """Closes when what was written has been read; until then what still comes is dropped."""
        self._ended = True
        self._leave()
        self._drop_upstream()
        if not self._transport.can_write_eof():
            self._transport.close()
            return
        try:
            self._transport.write_eof()
        except OSError:  # the other side had left, unseen while nothing was read, and what was written has reset it
            self._transport.abort()
            return
        self._transport.resume_reading()
        self._wait(LINGER)

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close()
