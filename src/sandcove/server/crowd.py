"""How many TCP connections there are at once, counted from accept to close, whatever is spoken on them."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from typing import Any

from sandcove.asgi import PatientSocket
from sandcove.errors import ServiceUnavailableError, error_to_wire
from sandcove.wire.codec import encode

__all__ = ["Crowd"]

FILES_EACH = 4
"""Descriptors for each connection that the process may have: a preview's takes two, and there is all the rest."""
AT_ONCE = 64
"""Connections that are turned away in one turn of the loop; also those that may still read why, at any time."""
LINGER = 2.0
"""Seconds in which one that is turned away can read why."""


class Crowd:
    """The connections of some listening sockets.

    Args:
        most: as many as there may be, if the process may have as many files open.
        in_clear: one more is told that it is too many; else it is only closed.

    Attributes:
        refused: how many were too many.
    """

    def __init__(self, most: int, *, in_clear: bool) -> None:
        self._most = min(most, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // FILES_EACH)
        self._in_clear = in_clear
        self._there: set[socket.socket] = set()
        self._leaving: set[socket.socket] = set()
        self.refused = 0

    def __len__(self) -> int:
        return len(self._there)

    def door(self, listening: socket.socket) -> socket.socket:
        """The same listening socket, which counts whom it lets in from here on."""
        return _Door(self, listening)

    def admit(self, sock: socket.socket) -> socket.socket | None:
        """The connection, counted until it is closed; None: there are too many, it was turned away."""
        if len(self._there) < self._most:
            guest = _Guest(self._there, sock)
            self._there.add(guest)
            return guest
        self.refused += 1
        if not self._in_clear or len(self._leaving) >= AT_ONCE:
            sock.close()
            return None
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # it has gone
            sock.send(self._too_many())
            sock.shutdown(socket.SHUT_WR)
        self._leaving.add(sock)
        # Closed now, with its request unread, it might lose the answer.
        asyncio.get_running_loop().call_later(LINGER, self._close, sock)
        return None

    def _too_many(self) -> bytes:
        error = ServiceUnavailableError(
            f"the server has {self._most} connections, which is the most that it takes (max_connections); call again",
            begun=False,
            retryAfter=1,
        )
        content = encode(error_to_wire(error))
        return (
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(content), content)
        )

    def _close(self, sock: socket.socket) -> None:
        self._leaving.discard(sock)
        sock.close()


class _Guest(socket.socket):
    """A connection that is counted."""

    def __init__(self, there: set[socket.socket], sock: socket.socket) -> None:
        super().__init__(fileno=sock.detach())
        self._there = there

    def close(self) -> None:
        self._there.discard(self)
        super().close()


class _Door(PatientSocket):
    """A listening socket that asks before it lets in."""

    def __init__(self, crowd: Crowd, listening: socket.socket) -> None:
        super().__init__(listening)
        self._crowd = crowd

    def accept(self) -> tuple[socket.socket, Any]:
        for _ in range(AT_ONCE):
            sock, address = super().accept()
            if (guest := self._crowd.admit(sock)) is not None:
                return guest, address
        raise BlockingIOError  # those that still wait have their turn in the loop's next
