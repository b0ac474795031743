"""Connections from the server to agents, kept for the next request: a new one takes longer than a small call."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path

from sandcove import linux
from sandcove.errors import ContainerNotReadyError
from sandcove.wire.http import Event, ResponseParser

__all__ = ["AgentConnection", "AgentSocket", "Agents"]

MOST_IDLE = 32
"""Idle connections kept to one agent."""
ALL_IDLE = 1 / 32
"""Of the descriptors of this process, how many are idle connections to all agents; that idle longest goes."""
HIGH_WATER = 1024 * 1024
"""Bytes of an answer that nobody has taken yet, at which reading pauses."""


class AgentSocket(socket.socket):
    """A socket to an agent, which may pass descriptors on it that nobody asked for: no call waits for their close."""

    def __init__(self) -> None:
        super().__init__(socket.AF_UNIX)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        # Where there is no room for them the kernel closes them, in the call.
        data, fds = linux.receive_fds(self, bufsize, linux.MOST_PASSED, flags)
        if fds:
            linux.close_at_once(fds)
        return data

    def close(self) -> None:
        try:
            # From here on nothing more can come.
            self.shutdown(socket.SHUT_RD)
            unread = super().recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            unread = b""
        if unread:
            linux.close_at_once([self.detach()])
        super().close()


class AgentConnection(asyncio.Protocol):
    """One connection: a request out, its answer in, one at a time.

    Attributes:
        parser: of the answers; its `reusable` says whether another request can follow.
        on_lost: called when it has ended; there while it is idle.
    """

    def __init__(self) -> None:
        self.parser = ResponseParser()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._socket: socket.socket
        self._arrived: deque[bytes] = deque()
        self._held = 0
        self._paused = False
        self._full = False
        self._lost = False
        self.on_lost: Callable[[], None] | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._draining: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, path: Path) -> AgentConnection:
        """Connects.

        Raises:
            ContainerNotReadyError: nobody listens there.
        """
        sock = None
        try:
            sock = AgentSocket()
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, str(path))
        except OSError as error:
            if sock is not None:
                sock.close()
            raise ContainerNotReadyError(
                f"the sandbox's agent does not answer ({os.strerror(error.errno or 0)}); call again", begun=False
            ) from None
        connection = cls()
        connection._socket = sock
        await connection._loop.create_connection(lambda: connection, sock=sock)
        return connection

    @property
    def quiet(self) -> bool:
        """As far as is known here, without asking the kernel, it is `usable`."""
        return not self._lost and not self._arrived

    @property
    def usable(self) -> bool:
        """It is open still, and has nothing to say that nobody asked for."""
        if not self.quiet:
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def begin(self, method: str, data: bytes) -> None:
        """Sends a request's first bytes.

        Raises:
            OSError: none of them has left.
        """
        self.parser.expect(method)
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._transport.write(memoryview(data)[sent:])

    async def send(self, data: bytes) -> None:
        """Sends more of a request, as the agent takes it."""
        self._transport.write(data)
        while self._full and not self._lost:
            self._draining = self._loop.create_future()
            await self._draining

    async def receive(self) -> list[Event]:
        """What has come of the answer.

        Raises:
            SandboxNetworkError: the connection ended before the answer, or the answer is no HTTP.
        """
        while not self._arrived and not self._lost:
            self._waiting = self._loop.create_future()
            await self._waiting
        if not self._arrived:
            return self.parser.feed_eof()
        data = self._arrived.popleft()
        self._held -= len(data)
        if self._paused and self._held < HIGH_WATER // 4:
            self._paused = False
            self._transport.resume_reading()
        return self.parser.feed(data)

    def close(self) -> None:
        """Closes at once, which ends what the agent does for it."""
        self._transport.abort()

    # --- asyncio calls these ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self.on_lost is not None:
            # It is idle: nobody has asked for this.
            self.close()
            return
        self._arrived.append(data)
        self._held += len(data)
        if self._held >= HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        _wake(self._waiting)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self.on_lost is not None:
            self.on_lost()
        _wake(self._waiting)
        _wake(self._draining)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        _wake(self._draining)


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


class Agents:
    """The connections to all agents, by their sockets."""

    def __init__(self) -> None:
        self._idle: dict[Path, list[AgentConnection]] = {}
        self._since: dict[AgentConnection, Path] = {}
        """All of them, those that are idle longest first."""
        self._most = int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * ALL_IDLE)

    def __len__(self) -> int:
        """How many are idle."""
        return len(self._since)

    async def request(self, path: Path, method: str, data: bytes) -> AgentConnection:
        """Sends a request's first bytes to the agent at the socket `path`; gives the connection that they went over.

        Raises:
            ContainerNotReadyError: nobody listens there; nothing was sent.
        """
        while idle := self._idle.get(path):
            connection = idle[-1]
            self._forget(connection)
            try:
                if connection.usable:
                    connection.begin(method, data)
                    return connection
            except OSError:
                pass  # it was closed just now, before a byte left
            connection.close()
        connection = await AgentConnection.open(path)
        try:
            connection.begin(method, data)
        except OSError as error:
            connection.close()
            raise ContainerNotReadyError(f"the sandbox is ending ({error}); call again", begun=False) from None
        return connection

    def done(self, path: Path, connection: AgentConnection) -> None:
        """The answer is at its end: keeps the connection, or closes it."""
        count = len(self._idle.get(path, ()))
        if connection.parser.reusable and count < MOST_IDLE and connection.quiet:
            self._idle.setdefault(path, []).append(connection)
            self._since[connection] = path
            connection.on_lost = lambda: self._forget(connection)
            if len(self._since) > self._most:
                longest = next(iter(self._since))
                self._forget(longest)
                longest.close()
        else:
            connection.close()

    def _forget(self, connection: AgentConnection) -> None:
        connection.on_lost = None
        path = self._since.pop(connection)
        idle = self._idle[path]
        idle.remove(connection)
        if not idle:
            del self._idle[path]
