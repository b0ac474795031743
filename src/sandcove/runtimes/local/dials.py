"""Connections to the ports of a room: asked of its agent, which is not trusted with what it hands over."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from itertools import count

from sandcove.errors import ContainerNotReadyError, PortNotListeningError
from sandcove.linux import close_at_once
from sandcove.wire.dial import RESTING, Dial, Dialled

__all__ = ["Dials"]

GRACE = 5.0
"""Seconds that an agent has for its answer beyond the time that it is asked to wait."""


class Passed(socket.socket):
    """A socket that an agent has passed and may hold still: whatever it does to it, no call here blocks.

    The flag O_NONBLOCK belongs to both, and so do the bytes: a plain `recv` could block after the loop has been told
    that there is something to read.
    """

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        return super().recv(bufsize, flags | socket.MSG_DONTWAIT)

    def recv_into(self, buffer, nbytes: int = 0, flags: int = 0) -> int:  # type: ignore[no-untyped-def]
        return super().recv_into(buffer, nbytes, flags | socket.MSG_DONTWAIT)

    def send(self, data, flags: int = 0) -> int:  # type: ignore[no-untyped-def]
        return super().send(data, flags | socket.MSG_DONTWAIT)

    def sendmsg(self, buffers, ancdata=(), flags: int = 0, address=None) -> int:  # type: ignore[no-untyped-def]
        return super().sendmsg(buffers, ancdata, flags | socket.MSG_DONTWAIT)

    def close(self) -> None:
        if self.fileno() >= 0:
            with contextlib.suppress(OSError):
                self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))
        super().close()


class Dials:
    """Those that an agent has not answered.

    Args:
        channel: to the agent.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Passed | int]] = {}
        self._writable: asyncio.Future[None] | None = None
        self._ended = False

    async def connect(self, port: int, wait: float) -> socket.socket:
        """See `sandcove.runtimes.base.Room.connect`."""
        if self._ended:
            raise _ending()
        number = next(self._numbers)
        answer = self._waiting[number] = self._loop.create_future()
        try:
            got: Passed | int
            async with asyncio.timeout(wait + GRACE):
                await self._send(Dial(number, port, int(wait * 1000)).encode())
                got = await answer
        except TimeoutError:
            _drop(answer)
            raise ContainerNotReadyError(
                f"the sandbox's agent did not connect to port {port} within {wait + GRACE:g} s", begun=False
            ) from None
        except asyncio.CancelledError:
            _drop(answer)
            raise
        finally:
            del self._waiting[number]
        if isinstance(got, int):
            raise _refusal(port, got, wait)
        return got

    async def _send(self, message: bytes) -> None:
        while True:
            try:
                self._channel.send(message, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if self._writable is None:
                    self._writable = self._loop.create_future()
                    self._loop.add_writer(self._channel.fileno(), self._on_writable)
                await asyncio.shield(self._writable)
            except OSError:
                raise _ending() from None
            else:
                return

    def _on_writable(self) -> None:
        self._loop.remove_writer(self._channel.fileno())
        writable, self._writable = self._writable, None
        if writable is not None:
            writable.set_result(None)

    def on_message(self, data: bytes, fds: list[int]) -> bool:
        """Takes an agent's answer with its descriptors; False if it is none."""
        dialled = Dialled.decode(data)
        if dialled is None:
            return False
        future = self._waiting.get(dialled.number)
        if future is None or future.done():
            # It comes too late, or was made up.
            close_at_once(fds)
        elif dialled.error:
            close_at_once(fds)
            future.set_result(dialled.error)
        else:
            future.set_result(_checked(fds) or errno.EBADF)
        return True

    def end(self) -> None:
        """The agent is gone, and the channel about to be closed."""
        self._ended = True
        if self._writable is not None:
            self._on_writable()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(_ending())


def _checked(fds: list[int]) -> Passed | None:
    """The one descriptor as socket, if it is a connected TCP socket; else all are closed."""
    if len(fds) == 1:
        try:
            sock = Passed(fileno=fds[0])
        except OSError:
            close_at_once(fds)
            return None
        tcp = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
        if tcp and sock.proto == socket.IPPROTO_TCP:
            try:
                sock.getpeername()
                sock.setblocking(False)
                return sock
            except OSError:
                pass  # it is not connected
        sock.detach()
    if fds:
        close_at_once(fds)
    return None


def _drop(answer: asyncio.Future[Passed | int]) -> None:
    """Nobody wants the answer any more; it may have come just now."""
    if answer.done() and not answer.cancelled() and answer.exception() is None:
        got = answer.result()
        if not isinstance(got, int):
            got.close()


def _ending() -> ContainerNotReadyError:
    return ContainerNotReadyError("the sandbox is ending; call again", begun=False)


def _refusal(port: int, number: int, wait: float) -> Exception:
    if number == RESTING:
        return ContainerNotReadyError("the sandbox is falling asleep; call again", begun=False)
    if number == errno.ECONNREFUSED:
        after = f" after {wait:g} s" if wait else ""
        return PortNotListeningError(
            f"nothing listens on port {port} of the sandbox{after}; start the service, on 127.0.0.1 or 0.0.0.0",
            port=port,
        )
    reason = os.strerror(number) if 0 < number < 200 else f"error {number}"
    return PortNotListeningError(f"port {port} of the sandbox takes no connection: {reason}", port=port)
