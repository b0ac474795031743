"""Sockets whose last close waits, as an attacker passes them: TCP with SO_LINGER, and bytes that nobody takes."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

__all__ = ["LINGER", "lingering"]

LINGER = 3
"""Seconds."""


@contextlib.contextmanager
def lingering(*, within: bool) -> Iterator[int]:
    """The only descriptor of such a socket, or of a Unix socket that has one among its messages (`within`)."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        sock = socket.socket()
        sock.connect(listener.getsockname())
        with listener.accept()[0]:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.send(bytes(65536))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER))
            if within:
                theirs, ours = socket.socketpair()
                with sock, theirs:
                    socket.send_fds(theirs, [b"x"], [sock.fileno()])
                yield ours.detach()
            else:
                yield sock.detach()
