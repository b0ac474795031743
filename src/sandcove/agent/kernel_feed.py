"""What comes from a kernel: lines on its channel and text from its two pipes, brought into one order.

See `sandcove.kernels.messages` for the contract. Nothing that a kernel sends is trusted: it runs code of the user's.
"""

from __future__ import annotations

import codecs
import json
import os
import select
from typing import Any, Literal

import msgspec

from sandcove.agent.output import bytes_waiting, widen
from sandcove.kernels.messages import LONGEST_MESSAGE, Message, messages
from sandcove.waiting import readable
from sandcove.wire.code import CodeEvent
from sandcove.wire.codec import decoder_of

__all__ = ["BrokenKernelError", "Feed"]

_READ_SIZE = 256 * 1024
_FULL = 60 * 1024
"""Bytes in a pipe of the usual size that say that its writer is fast."""
_ANSWERED = ("result", "clear_output", "sync")

_OF_ANY_FORM = {"json", "chart", "plotly", "vega", "vega_lite", "geojson", "data", "metadata"}
"""Of a result. It is checked to be JSON, and goes on as it is: as objects it would take 25 times as much memory."""


def _lean(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The same, with those fields as bytes."""
    fields: list[tuple[str, Any, Any]] = []
    for each in msgspec.structs.fields(kind):
        said: dict[str, Any] = {"default": each.default, "default_factory": each.default_factory}
        type_ = each.type
        if each.name in _OF_ANY_FORM:
            said, type_ = {"default": msgspec.Raw()}, msgspec.Raw
        fields.append((each.name, type_, msgspec.field(name=each.encode_name, **said)))
    return msgspec.defstruct(kind.__name__, fields, kw_only=True)


_Result = _lean(CodeEvent)
_events = decoder_of(_Result)
_new_decoder = codecs.getincrementaldecoder("utf-8")


def _check(result: Any) -> None:
    for name in ("data", "metadata"):
        if bytes(memoryview(getattr(result, name))[:1]) not in (b"", b"{", b"n"):
            raise msgspec.ValidationError(f"its {name} is no object")


class BrokenKernelError(Exception):
    """The kernel said what none says: the user's code has written on its channel."""


class Feed:
    """The descriptors on which a kernel tells; owned.

    Args:
        channel: a stream socket, non-blocking.
        acks: the pipe that acknowledgements go into, non-blocking.
        stdout, stderr: the pipes' read ends, non-blocking.

    Attributes:
        ended: the channel has come to its end, and so the kernel.
    """

    def __init__(self, channel: int, acks: int, stdout: int, stderr: int) -> None:
        self._channel = channel
        self._acks = acks
        self._pipes: dict[Literal["stdout", "stderr"], int] = {"stdout": stdout, "stderr": stderr}
        self._decoders = {name: _new_decoder("replace") for name in self._pipes}
        self._buffer = bytearray()
        self._searched = 0
        self.ended = False
        # One descriptor that is readable when any of the three is.
        self._poll = select.epoll()
        for fd in (channel, stdout, stderr):
            self._poll.register(fd, select.EPOLLIN)

    def fileno(self) -> int:
        """Readable when there is something to `take`."""
        return self._poll.fileno()

    async def readable(self) -> None:
        """Returns when there is something to `take`."""
        await readable(self._poll.fileno())

    def take(self) -> tuple[list[bytes], list[Message]]:
        """What is there now: lines of the wire in their order, and the messages that are for the agent itself.

        Raises:
            BrokenKernelError.
        """
        lines: list[bytes] = []
        found: list[Message] = []
        ready = dict(self._poll.poll(0))
        for name, fd in list(self._pipes.items()):
            if ready.get(fd, 0) & (select.EPOLLHUP | select.EPOLLIN) == select.EPOLLHUP:
                # All that could write to it is gone or has closed it: readable for ever, with nothing in it.
                self._poll.unregister(fd)
                os.close(self._pipes.pop(name))
        if self._channel in ready:
            self._receive()
        while (line := self._next_line()) is not None:
            self._read_pipes(lines)
            try:
                message = messages.decode(line)
                if message.type == "result":
                    _check(_events.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise BrokenKernelError(f"the kernel's channel was written to by the cell: {error}") from None
            if message.type in _ANSWERED:
                if message.type != "sync":
                    lines.append(_ascii(line) + b"\n")
                self._acknowledge()
            else:
                found.append(message)
        if not found and not lines:
            self._read_pipes(lines)
        return lines, found

    def rest(self) -> list[bytes]:
        """The text that is in the pipes still, and the beginning of a character that never ended."""
        lines: list[bytes] = []
        self._read_pipes(lines)
        for name, decoder in self._decoders.items():
            if text := decoder.decode(b"", final=True):
                lines.append(_output(name, text))
            decoder.reset()
        return lines

    def close(self) -> None:
        self._poll.close()
        for fd in (self._acks, *self._pipes.values()):
            os.close(fd)

    def _receive(self) -> None:
        try:
            data = os.read(self._channel, _READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.ended = True
        self._buffer += data
        if len(self._buffer) > LONGEST_MESSAGE:
            raise BrokenKernelError(f"the kernel sent a message of more than {LONGEST_MESSAGE:,} bytes")

    def _next_line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    def _read_pipes(self, lines: list[bytes]) -> None:
        """Reads what is in the pipes at this moment, and no more: what comes meanwhile is for later."""
        for name, fd in self._pipes.items():
            count = bytes_waiting(fd)
            if count and (text := self._decoders[name].decode(os.read(fd, count))):
                lines.append(_output(name, text))
            if count >= _FULL:
                widen(fd)

    def _acknowledge(self) -> None:
        try:
            os.write(self._acks, b".")
        except OSError:
            pass  # full, as none but a cell that plays with it makes it, or closed: the kernel ends


def _output(name: str, text: str) -> bytes:
    # ASCII: the seed's client decodes each piece of the network's by itself.
    return b'{"type":"%b","text":%b}\n' % (name.encode(), json.dumps(text).encode("ascii"))


def _ascii(line: bytes) -> bytes:
    return line if line.isascii() else json.dumps(json.loads(line)).encode("ascii")
