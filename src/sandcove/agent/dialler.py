"""Connects to what listens in the sandbox, for the server: it gets the connected socket and talks to it itself."""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections import deque
from collections.abc import Callable

from sandcove.wire.confine import Confine
from sandcove.wire.dial import RESTING, Dial, Dialled

__all__ = ["Dialler"]

_ADDRESSES = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_PAUSES = (0.005, 0.25)
"""Seconds between two attempts: at first, and at most. The kernel tells nobody that a socket begins to listen."""
_PATIENCE = 3.0
"""Seconds in which a listener whose queue is full must take the connection."""


class Dialler:
    """Answers every `Dial` on the channel to the runtime.

    Args:
        channel: to the runtime.
        may: notes that the sandbox is in use; False when it is falling asleep.
        group: owns the attempts that take a while.
        confine: puts limits in force that the runtime has changed.
    """

    def __init__(
        self,
        channel: socket.socket,
        may: Callable[[], bool],
        group: asyncio.TaskGroup,
        confine: Callable[[Confine], None],
    ) -> None:
        self._channel = channel
        self._may = may
        self._group = group
        self._confine = confine
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[tuple[Dialled, socket.socket | None]] = deque()
        self._loop.add_reader(channel.fileno(), self._on_message)

    def _on_message(self) -> None:
        try:
            data = self._channel.recv(4096, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            # The runtime is gone, and the room is about to be.
            self._loop.remove_reader(self._channel.fileno())
            return
        dial = Dial.decode(data)
        if dial is None:
            if (confine := Confine.decode(data)) is not None:
                self._confine(confine)
            return
        if not self._may():
            self._answer(Dialled(dial.number, RESTING), None)
            return
        # Loopback connects at once, or refuses at once: what takes longer is worth a task.
        sock = _new(socket.AF_INET)
        if sock is None or sock.connect_ex(("127.0.0.1", dial.port)) not in (0, errno.EINPROGRESS):
            if sock is not None:
                sock.close()
            self._group.create_task(self._persist(dial))
        elif _connected(sock):
            self._answer(Dialled(dial.number, 0), sock)
        else:
            self._group.create_task(self._persist(dial, sock))

    async def _persist(self, dial: Dial, begun: socket.socket | None = None) -> None:
        """Tries until it is connected or the time is over; `begun`: a socket that is connecting already."""
        pause, longest = _PAUSES
        end = self._loop.time() + dial.wait / 1000
        while True:
            error = errno.ECONNREFUSED
            for family, host in _ADDRESSES:
                sock, begun = begun or _new(family), None
                if sock is None:
                    continue
                try:
                    async with asyncio.timeout(_PATIENCE):
                        # Of one that is connecting already this waits for the end.
                        await self._loop.sock_connect(sock, (host, dial.port))
                except TimeoutError:
                    sock.close()
                    error = errno.ETIMEDOUT
                except OSError as failed:
                    sock.close()
                    if failed.errno != errno.ECONNREFUSED:
                        error = failed.errno or errno.EIO
                else:
                    self._answer(Dialled(dial.number, 0), sock)
                    return
            if self._loop.time() + pause > end:
                self._answer(Dialled(dial.number, error), None)
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, longest)

    def _answer(self, dialled: Dialled, sock: socket.socket | None) -> None:
        self._unsent.append((dialled, sock))
        if len(self._unsent) == 1:
            self._send()

    def _send(self) -> None:
        while self._unsent:
            dialled, sock = self._unsent[0]
            fds = [] if sock is None else [sock.fileno()]
            try:
                socket.send_fds(self._channel, [dialled.encode()], fds, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._loop.add_writer(self._channel.fileno(), self._send)
                return
            except OSError:
                pass  # the runtime is gone
            self._unsent.popleft()
            if sock is not None:
                sock.close()
        self._loop.remove_writer(self._channel.fileno())


def _new(family: socket.AddressFamily) -> socket.socket | None:
    try:
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP)
    except OSError:
        return None  # no IPv6 here, or no descriptor is free


def _connected(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    return poll.poll(0) == [(sock.fileno(), select.POLLOUT)]
