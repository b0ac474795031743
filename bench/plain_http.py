"""A plain HTTP/1.1 client on one kept connection: the same for every peer, so that only their answers differ."""

from __future__ import annotations

import json
import socket
from types import TracebackType
from typing import Any, Self

__all__ = ["Connection", "on_unix"]

READ = 256 * 1024


class Connection:
    """Sends a request when the answer to the one before is whole.

    Args:
        prefix: what every path begins with.
    """

    def __init__(self, sock: socket.socket, prefix: str = "") -> None:
        self._sock = sock
        self._prefix = prefix
        self._held = b""
        sock.settimeout(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sock.close()

    def send(self, method: str, path: str, content: Any = None) -> None:
        """Sends a request, with `content` as its JSON body."""
        body = b"" if content is None else json.dumps(content).encode()
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self._sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def receive(self) -> bytes:
        """The body of an answer, when all of it is there.

        Raises:
            RuntimeError: its status is not 200.
        """
        head = self._until(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
        if fields.get(b"transfer-encoding") == b"chunked":
            body = self._chunks()
        else:
            body = self._exactly(int(fields[b"content-length"]))
        if lines[0].split(b" ")[1] != b"200":
            raise RuntimeError(f"{lines[0].decode()}: {body[:300].decode(errors='replace')}")
        return body

    def call(self, method: str, path: str, content: Any = None) -> bytes:
        """Sends a request and gives the body of its answer."""
        self.send(method, path, content)
        return self.receive()

    def _more(self) -> None:
        piece = self._sock.recv(READ)
        if not piece:
            raise RuntimeError("the peer closed the connection in the middle of an answer")
        self._held += piece

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._held:
            self._more()
        found, _, self._held = self._held.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            self._more()
        found, self._held = self._held[:size], self._held[size:]
        return found

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n"), 16):
            body += self._exactly(size + 2)[:-2]
        self._exactly(2)
        return body


def on_unix(path: str, prefix: str = "") -> Connection:
    """A connection to a Unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return Connection(sock, prefix)
