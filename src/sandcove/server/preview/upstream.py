"""The connection to a service in a sandbox: bytes go out and come in, and whoever listens is told."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Protocol, Self

from sandcove.server.preview.incoming import Incoming

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["Listens", "Upstream"]

HANDSHAKE_TIMEOUT = 20.0
"""Seconds that TLS may take to begin."""
SHUTDOWN_TIMEOUT = 1.0


class Listens(Protocol):
    """Whoever a connection's bytes are for."""

    def on_data(self, data: bytes) -> None: ...

    def on_end(self, *, whole: bool) -> None:
        """No more bytes come; `whole`: the service said so itself."""

    def on_full(self, *, full: bool) -> None:
        """The service takes no more for now, or again."""


class Upstream(Incoming):
    """One connection.

    Attributes:
        listens: whoever the bytes are for; None while the connection is idle.
        used: an answer has come over it already.
        idle_since: the loop's time when its last answer was at its end.
        open: it can be used.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.listens: Listens | None = None
        self.used = False
        self.idle_since = 0.0
        self.open = True
        self._ended = False

    @classmethod
    async def over(cls, sock: socket.socket, *, ssl: SSLContext | None = None, name: str | None = None) -> Self:
        """Over this connected socket, which it owns; with `ssl` by TLS, with a host that is `name`.

        Raises:
            OSError: TLS can't be begun.
        """
        try:
            _, upstream = await asyncio.get_running_loop().create_connection(
                cls,
                sock=sock,
                ssl=ssl,
                server_hostname=name,
                ssl_handshake_timeout=None if ssl is None else HANDSHAKE_TIMEOUT,
                ssl_shutdown_timeout=None if ssl is None else SHUTDOWN_TIMEOUT,
            )
        except BaseException:
            sock.close()
            raise
        return upstream

    def close(self) -> None:
        """Closes at once."""
        self.open = False
        self.listens = None
        self.transport.abort()

    # --- asyncio calls these ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.listens is not None:
            self.listens.on_data(data)
        else:
            self.close()  # it speaks without being asked

    def eof_received(self) -> bool:
        self.open = False
        self._tell(whole=True)
        return self.listens is not None

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._tell(whole=exc is None)

    def _tell(self, *, whole: bool) -> None:
        if not self._ended:
            self._ended = True
            if self.listens is not None:
                self.listens.on_end(whole=whole)

    def pause_writing(self) -> None:
        if self.listens is not None:
            self.listens.on_full(full=True)

    def resume_writing(self) -> None:
        if self.listens is not None:
            self.listens.on_full(full=False)
