"""The TCP address of a local server's previews: ``http://{label}.localhost:{port}/``, for browsers on this machine.

The port is chosen once and kept in the Sandcove folder, so that URLs hold over restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

from sandcove.asgi import PatientSocket
from sandcove.errors import ServiceUnavailableError

__all__ = ["Loopback"]


class Loopback:
    """A listener on 127.0.0.1, started when it is first wanted.

    Args:
        kept: the file with the port's number.
        protocol: of each connection.
    """

    def __init__(self, kept: Path, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        self._kept = kept
        self._protocol = protocol
        self._server: asyncio.Server | None = None
        self._port = 0
        self._starting = asyncio.Lock()

    async def start(self) -> int:
        """Listens, unless it does; gives the port.

        Raises:
            ServiceUnavailableError: no port is to be had.
        """
        async with self._starting:
            if self._server is None:
                try:
                    listener = self._bind()
                    self._port = listener.getsockname()[1]
                    self._keep()
                    self._server = await asyncio.get_running_loop().create_server(
                        self._protocol, sock=PatientSocket(listener), backlog=1024
                    )
                except OSError as error:
                    raise ServiceUnavailableError(f"no port of 127.0.0.1 can be had for previews: {error}") from None
            return self._port

    def _keep(self) -> None:
        """Whole or not at all, whatever ends the server meanwhile: URLs that were given out name this port."""
        new = self._kept.with_name(f"{self._kept.name}.new")
        new.write_text(f"{self._port}\n")
        new.replace(self._kept)

    def _bind(self) -> socket.socket:
        before = 0
        with contextlib.suppress(OSError, ValueError):
            before = int(self._kept.read_text())
        try:
            return _listen(before)
        except (OSError, OverflowError):
            return _listen(0)

    def stop(self) -> None:
        """Takes no more connections."""
        if self._server is not None:
            self._server.close()


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    try:
        # A server that ran on it just now leaves connections behind.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener
