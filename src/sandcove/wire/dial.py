"""What a runtime and an agent say, on the channel between them, of connections to ports of the sandbox.

The runtime sends a `Dial`. The agent connects, and answers with a `Dialled` and the connected socket, or with the
number of the error that it met (errno(3)); several may be on their way at once, told apart by `number`.
"""

from __future__ import annotations

import errno
import struct
from typing import NamedTuple

__all__ = ["RESTING", "Dial", "Dialled"]

RESTING = errno.ESHUTDOWN
"""The error of a sandbox that is falling asleep."""

_DIAL = struct.Struct("!4sQHI")
_DIALLED = struct.Struct("!4sQi")


class Dial(NamedTuple):
    """Connect to TCP `port` on the loopback inside; wait at most `wait` ms until something listens there."""

    number: int
    port: int
    wait: int

    def encode(self) -> bytes:
        return _DIAL.pack(b"dial", *self)

    @classmethod
    def decode(cls, data: bytes) -> Dial | None:
        """The message, or None if `data` is another."""
        if len(data) != _DIAL.size or not data.startswith(b"dial"):
            return None
        return cls(*_DIAL.unpack(data)[1:])


class Dialled(NamedTuple):
    """What came of it: `error` is 0 when a socket comes along."""

    number: int
    error: int

    def encode(self) -> bytes:
        return _DIALLED.pack(b"conn", *self)

    @classmethod
    def decode(cls, data: bytes) -> Dialled | None:
        """The message, or None if `data` is another."""
        if len(data) != _DIALLED.size or not data.startswith(b"conn"):
            return None
        return cls(*_DIALLED.unpack(data)[1:])
