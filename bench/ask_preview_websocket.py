"""Messages over WebSockets that a service in a sandbox sends back, by a preview: how many a second, how much later."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

from bench.compare import Side, compare
from bench.harness import Options, Row
from bench.ways import Way, ways

QUESTION = "64-byte echoes over WebSockets by a preview"
MESSAGE = 64
# RFC 6455, section 5.2: a final frame of binary data, masked as a client's are, by zeros; and the echo, which is not.
_FRAME = bytes([0x82, 0x80 | MESSAGE, 0, 0, 0, 0]) + b"x" * MESSAGE
_ECHO = 2 + MESSAGE
_UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def ask(options: Options) -> Iterator[Row]:
    with ways() as found:
        if found is None:
            return
        for count in (1, 32):
            with ExitStack() as stack:
                sides = {
                    name: Side([stack.enter_context(_opened(way)) for _ in range(count)], _FRAME, _ECHO)
                    for name, way in found.by_name.items()
                }
                yield from compare(f"{QUESTION}, {count} connection{'s' * (count > 1)}", sides, options)


def _opened(way: Way) -> socket.socket:
    """A WebSocket that has echoed once."""
    connection = way.connect()
    connection.settimeout(30)
    connection.sendall(way.request("GET", "/echo", *_UPGRADE))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        piece = connection.recv(65536)
        assert piece, f"the connection ended: {answer!r}"
        answer += piece
    assert answer.startswith(b"HTTP/1.1 101"), answer
    connection.sendall(_FRAME)
    assert len(connection.recv(_ECHO, socket.MSG_WAITALL)) == _ECHO
    return connection
