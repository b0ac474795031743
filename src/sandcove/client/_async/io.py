"""All I/O of the asyncio half. `_sync/io.py` has the same names over blocking sockets; keep the two alike."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

from sandcove.client.endpoint import SILENCE, TLS_PART, Endpoint, timeval
from sandcove.client.results import log
from sandcove.client.stdin import PIECE, Readable, Source, encoded

__all__ = [
    "Aside",
    "Input",
    "Lock",
    "Opened",
    "Stream",
    "call_back",
    "open_input",
    "pause",
    "read_input",
    "run_blocking",
    "shared",
]

T = TypeVar("T")

CONNECT_SECONDS = 10.0
HIGH_WATER = 1024 * 1024
"""Bytes that were received and not asked for, at which reading pauses; it goes on below a quarter of it."""

Lock = asyncio.Lock


class Closable(Protocol):
    def close(self) -> None: ...


_ClientT = TypeVar("_ClientT", bound=Closable)

# One client a loop and endpoint, so that all sandboxes of a program share connections. Sockets belong to their loop,
# and each loop's clients are closed with it: its async generators are, and `_until_loop_ends` is one.
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[object, Any]] = WeakKeyDictionary()
_guards: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = WeakKeyDictionary()


async def shared(key: object, make: Callable[[], _ClientT]) -> _ClientT:
    """The client for `key` of the running loop; made by `make` the first time and closed when the loop ends."""
    loop = asyncio.get_running_loop()
    clients = _clients.get(loop)
    if clients is None:
        clients = _clients[loop] = {}
        guard = _guards[loop] = _until_loop_ends(clients)
        await anext(guard)
    client = clients.get(key)
    if client is None:
        client = clients[key] = make()
    return cast(_ClientT, client)


async def _until_loop_ends(clients: dict[object, Any]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        for client in clients.values():
            client.close()
        clients.clear()
        await asyncio.sleep(0)  # transports close their sockets one step of the loop later


async def run_blocking(function: Callable[..., T], *arguments: object) -> T:
    """What the blocking `function` returns, run where it blocks nobody else."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


class Aside:
    """`function`, an async one, run beside its caller from now on. An exception of it is logged."""

    def __init__(self, function: Callable[..., Awaitable[None]], *arguments: object) -> None:
        self._task = asyncio.ensure_future(self._run(function, *arguments))

    @staticmethod
    async def _run(function: Callable[..., Awaitable[None]], *arguments: object) -> None:
        try:
            await function(*arguments)
        except Exception:  # noqa: BLE001 - whatever a user's function raises
            log.exception("a function that was called beside the program failed")

    async def join(self) -> None:
        """Returns when it has returned; at once when it is the one that asks."""
        if asyncio.current_task() is not self._task:
            await asyncio.wait({self._task})


async def call_back(function: Callable[..., Awaitable[object] | object], *values: object) -> None:
    """Calls a user's function, and waits for it when it is async."""
    result = function(*values)
    if inspect.isawaitable(result):
        await result


async def pause(seconds: float) -> None:
    """Returns after this time."""
    await asyncio.sleep(seconds)


Input = str | bytes | Readable | Iterable[str] | Iterable[bytes] | AsyncIterable[str] | AsyncIterable[bytes]
"""What a command's standard input may be."""


Opened = Source | AsyncIterator[object]


def open_input(value: object) -> Opened:
    """Checks a standard input; `read_input` reads it.

    Raises:
        InvalidRequestError: it is nothing that can be read.
    """
    read = getattr(value, "read", None)
    if inspect.iscoroutinefunction(read):
        return _until_empty(read)
    return aiter(value) if isinstance(value, AsyncIterable) else Source(value)


async def read_input(source: Opened) -> bytes:
    """The next bytes of it, none at the end. A blocking source is read where it blocks nobody else."""
    if isinstance(source, Source):
        return await run_blocking(source.read) if source.blocks else source.read()
    found: list[bytes] = []
    size = 0
    async for piece in source:
        data = encoded(piece)
        found.append(data)
        size += len(data)
        if size >= PIECE:
            break
    return b"".join(found)


async def _until_empty(read: Callable[[int], Awaitable[object]]) -> AsyncIterator[object]:
    while piece := await read(PIECE):
        yield piece


class Stream(asyncio.Protocol):
    """A connected socket.

    Attributes:
        sent: bytes that the kernel took since this was last set to 0.
        patience: seconds in which at least something must come, or go; then it is a `TimeoutError`. None: any number.
    """

    def __init__(self, sock: socket.socket, *, tls: bool = False) -> None:
        self.sent = 0
        self.patience: float | None = None
        self._socket = sock
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._pieces: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._reading_paused = False
        self._writing_paused = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._ended = False
        self._lost = False
        self._error: OSError | None = None

    @classmethod
    async def connect(cls, endpoint: Endpoint) -> Stream:
        """Connects; raises `OSError` (a `TimeoutError` among them) when that fails."""
        if endpoint.unix is not None:
            sock = await cls._connect_unix(endpoint.unix)
        else:
            async with asyncio.timeout(CONNECT_SECONDS):
                sock = await cls._connect_tcp(endpoint.host, endpoint.port)
        stream = cls(sock, tls=endpoint.tls)
        try:
            if endpoint.tls:
                await stream._loop.create_connection(
                    lambda: stream,
                    sock=sock,
                    ssl=endpoint.context(),
                    server_hostname=endpoint.host,
                    ssl_handshake_timeout=CONNECT_SECONDS,
                )
            else:
                await stream._loop.create_connection(lambda: stream, sock=sock)
        except BaseException:
            sock.close()
            raise
        return stream

    @staticmethod
    async def _connect_unix(path: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            try:
                sock.connect(path)
            except BlockingIOError:
                # The listener's backlog is full. A Unix socket can't be polled for the end of that, only wait.
                sock.setblocking(True)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval(SILENCE))
                await run_blocking(sock.connect, path)
                sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock

    @staticmethod
    async def _connect_tcp(host: str, port: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        error: OSError = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                await loop.sock_connect(sock, address)
            except OSError as failed:
                sock.close()
                error = failed
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise error

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Sends all of `data`; raises `OSError` when the connection is broken."""
        self._raise_error()
        if self._ended:
            raise BrokenPipeError("the other end closed the connection")
        # The transport's buffer is empty here. Sending past it saves a step of the loop, and tells whether the
        # kernel took any byte: until then the request can be made again on another connection.
        try:
            done = 0 if self._tls else self._socket.send(data)
        except BlockingIOError:
            done = 0
        self.sent += done
        if done == len(data):
            return
        rest = memoryview(data)[done:]
        self.sent += len(rest)
        # TLS takes however much it is given, and tells of nothing that it holds how much of that has left.
        part = TLS_PART if self._tls else len(rest)
        for begin in range(0, len(rest), part):
            self._transport.write(rest[begin : begin + part])
            while self._writing_paused:
                left = self._transport.get_write_buffer_size()
                self._writer = self._loop.create_future()
                try:
                    await self._patiently(self._writer)
                except TimeoutError:
                    if self._transport.get_write_buffer_size() >= left:
                        raise
            self._raise_error()
            if self._lost:
                return

    async def receive(self) -> bytes:
        """The next bytes, or none at the end; raises `OSError` when the connection is broken."""
        while not self._pieces:
            self._raise_error()
            if self._ended:
                return b""
            self._reader = self._loop.create_future()
            await self._patiently(self._reader)
        piece = self._pieces.popleft()
        self._waiting_bytes -= len(piece)
        if self._reading_paused and self._waiting_bytes < HIGH_WATER // 4:
            self._reading_paused = False
            self._transport.resume_reading()
        return piece

    async def _patiently(self, future: asyncio.Future[None]) -> None:
        if self.patience is None:
            await future
            return
        timer = self._loop.call_later(self.patience, _too_late, future)
        try:
            await future
        finally:
            timer.cancel()

    def readable(self) -> bool:
        """`receive` would return at once: with bytes, or because the connection ended."""
        if self._pieces or self._ended:
            return True
        if self._tls:
            return False  # what the socket has may be TLS's own
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """Closes at once; what was not sent is dropped."""
        if self._lost or self._loop.is_closed():
            return
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._transport.abort()
        else:
            # The last reference to an anonymous sandbox can go in any thread.
            self._loop.call_soon_threadsafe(self._transport.abort)

    # --- asyncio calls these ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # Writing pauses until the buffer is empty, as `send` relies on; at 0, that of TLS would always.
        self._transport.set_write_buffer_limits(high=1 if self._tls else 0, low=0)

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= HIGH_WATER and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> None:
        self._ended = True
        self._wake_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = self._lost = True
        self._error = exc if isinstance(exc, OSError) else None
        self._writing_paused = False
        self._wake_reader()
        self._wake_writer()

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._wake_writer()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _wake_writer(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)


def _too_late(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(TimeoutError("timed out"))
