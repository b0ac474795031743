"""The host that a TLS client names in its first message (RFC 8446, section 4.1.2; RFC 6066, section 3). No I/O."""

from __future__ import annotations

__all__ = ["MOST", "WAIT", "server_name"]

WAIT = None
"""More bytes are needed."""
MOST = 20 * 1024
"""Bytes of a first message, with what its records add; clients take one or two kilobytes."""

_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME = 22, 1, 0


def server_name(data: bytes | bytearray) -> bytes | None:
    """The name; empty when it is no TLS or names none; `WAIT` while the message is not whole.

    Raises:
        ValueError: it is so long that it hides something.
    """
    if not data:
        return WAIT
    if data[0] != _HANDSHAKE:
        return b""
    message = bytearray()
    at = 0
    while at + 5 <= len(data):
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        if data[at] != _HANDSHAKE or not 0 < length <= 16640:
            return b""
        message += data[at + 5 : at + 5 + length]
        at += 5 + length
        if message and message[0] != _CLIENT_HELLO:
            return b""
        if len(message) >= 4:
            whole = 4 + int.from_bytes(message[1:4], "big")
            if len(message) >= whole:
                try:
                    return _name(_Reader(bytes(message[4:whole])))
                except IndexError:
                    return b""
    if len(data) > MOST:
        raise ValueError("its first message is too long")
    return WAIT


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise IndexError
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def block(self, size: int) -> _Reader:
        """What follows a length of `size` bytes."""
        return _Reader(self.take(self.number(size)))

    @property
    def left(self) -> bool:
        return self.at < len(self.data)


def _name(hello: _Reader) -> bytes:
    hello.take(2 + 32)
    hello.block(1)
    hello.block(2)
    hello.block(1)
    extensions = hello.block(2)
    while extensions.left:
        kind, content = extensions.number(2), extensions.block(2)
        if kind == _SERVER_NAME:
            names = content.block(2)
            while names.left:
                form, name = names.number(1), names.block(2)
                if form == 0:
                    return name.data
    return b""
