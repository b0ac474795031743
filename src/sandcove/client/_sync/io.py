"""All I/O of the blocking half. `_async/io.py` has the same names over asyncio; keep the two alike.

`import asyncio` takes longer than everything else here together, so that nothing in this half may import it.
"""

from __future__ import annotations

import atexit
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar, cast

from sandcove.client.check import wrong
from sandcove.client.endpoint import SILENCE, TLS_PART, Endpoint, timeval
from sandcove.client.results import log
from sandcove.client.stdin import Readable, Source

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
RECEIVE_BYTES = 64 * 1024
MOST_RECEIVE_BYTES = 1024 * 1024

Lock = threading.Lock


class Closable(Protocol):
    def close(self) -> None: ...

    def close_in_child(self) -> None: ...


_ClientT = TypeVar("_ClientT", bound=Closable)

# One client an endpoint, so that all sandboxes of a program share connections. They are closed when the program ends.
_clients: dict[object, Any] = {}
_clients_lock = threading.Lock()


def shared(key: object, make: Callable[[], _ClientT]) -> _ClientT:
    """The client for `key` of this process; made by `make` the first time and closed when the process ends."""
    client = _clients.get(key)
    if client is None:
        with _clients_lock:
            client = _clients.get(key)
            if client is None:
                client = _clients[key] = make()
    return cast(_ClientT, client)


def _close_all() -> None:
    for client in _clients.values():
        client.close()


def _forget_in_child() -> None:
    """After a fork the connections are the parent's: two processes that read one would steal each other's answers."""
    global _clients_lock  # noqa: PLW0603 - a thread of the parent may have held it at the fork, for ever
    _clients_lock = threading.Lock()
    for client in _clients.values():
        client.close_in_child()
    _clients.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_in_child)


def run_blocking(function: Callable[..., T], *arguments: object) -> T:
    """What the blocking `function` returns."""
    return function(*arguments)


class Aside:
    """`function` run beside its caller from now on, in a thread that the program's end does not wait for.

    An exception of it is logged.
    """

    def __init__(self, function: Callable[..., None], *arguments: object) -> None:
        self._thread = threading.Thread(target=self._run, args=(function, *arguments), daemon=True)
        self._thread.start()

    @staticmethod
    def _run(function: Callable[..., None], *arguments: object) -> None:
        try:
            function(*arguments)
        except Exception:  # noqa: BLE001 - whatever a user's function raises
            log.exception("a function that was called beside the program failed")

    def join(self) -> None:
        """Returns when it has returned; at once when it is the one that asks."""
        if threading.current_thread() is not self._thread:
            self._thread.join()


def call_back(function: Callable[..., object], *values: object) -> None:
    """Calls a user's function."""
    function(*values)


def pause(seconds: float) -> None:
    """Returns after this time."""
    time.sleep(seconds)


Input = str | bytes | Readable | Iterable[str] | Iterable[bytes]
"""What a command's standard input may be."""


Opened = Source


def open_input(value: object) -> Opened:
    """Checks a standard input; `read_input` reads it.

    Raises:
        InvalidRequestError: it is nothing that can be read.
    """
    if hasattr(value, "__aiter__"):
        raise wrong("stdin", "read by blocking calls here; an asynchronous iterable is for AsyncSandbox", value)
    return Source(value)


def read_input(source: Opened) -> bytes:
    """The next bytes of it, none at the end."""
    return source.read()


class Stream:
    """A connected socket.

    Attributes:
        sent: bytes that the kernel took since this was last set to 0.
        patience: seconds in which at least something must come, or go; then it is a `TimeoutError`. None: any number.
    """

    def __init__(self, sock: socket.socket, *, tls: bool = False) -> None:
        self.sent = 0
        self.patience: float | None = None
        self._patient: dict[int, float | None] = {socket.SO_RCVTIMEO: None, socket.SO_SNDTIMEO: None}
        self._socket = sock
        self._tls = tls
        self._peeked = b""
        self._want = RECEIVE_BYTES

    @classmethod
    def connect(cls, endpoint: Endpoint) -> Stream:
        """Connects; raises `OSError` (a `TimeoutError` among them) when that fails."""
        if endpoint.unix is None:
            sock = socket.create_connection((endpoint.host, endpoint.port), timeout=CONNECT_SECONDS)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                if endpoint.tls:
                    sock = endpoint.context().wrap_socket(sock, server_hostname=endpoint.host)
                sock.settimeout(None)
            except BaseException:
                sock.close()
                raise
            return cls(sock, tls=endpoint.tls)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # The listener's backlog may be full.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval(SILENCE))
            sock.connect(endpoint.unix)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval(None))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Sends all of `data`; raises `OSError` when the connection is broken."""
        self._be_patient(socket.SO_SNDTIMEO)
        done = self._send(data)
        if done == len(data):
            return
        rest = memoryview(data)[done:]
        while rest:
            rest = rest[self._send(rest) :]

    def _send(self, data: bytes | bytearray | memoryview) -> int:
        if self._tls and len(data) > TLS_PART:
            # All that it is given must have gone before its time is over.
            data = memoryview(data)[:TLS_PART]
        try:
            done = self._socket.send(data)
        except BlockingIOError:
            raise TimeoutError("timed out") from None
        self.sent += done
        return done

    def receive(self) -> bytes:
        """The next bytes, or none at the end; raises `OSError` when the connection is broken."""
        if self._peeked:
            data, self._peeked = self._peeked, b""
            return data
        self._be_patient(socket.SO_RCVTIMEO)
        try:
            data = self._socket.recv(self._want)
        except BlockingIOError:
            raise TimeoutError("timed out") from None
        # A big buffer costs a small answer a microsecond or more, so that it grows only while it is filled.
        self._want = min(self._want * 4, MOST_RECEIVE_BYTES) if len(data) == self._want else RECEIVE_BYTES
        return data

    def _be_patient(self, way: int) -> None:
        """For what comes next, SO_RCVTIMEO or SO_SNDTIMEO."""
        if self._tls:
            self._socket.settimeout(self.patience)
        elif self._patient[way] != self.patience:
            # The kernel's own: with Python's each call would be two, and none would look without waiting.
            self._patient[way] = self.patience
            self._socket.setsockopt(socket.SOL_SOCKET, way, timeval(self.patience))

    def readable(self) -> bool:
        """`receive` would return at once: with bytes, or because the connection ended."""
        if self._tls:
            return self._readable_tls()
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def _readable_tls(self) -> bool:
        """What the socket has may be TLS's own, and can't be looked at without taking it."""
        from ssl import SSLWantReadError

        if self._peeked:
            return True
        self._socket.setblocking(False)
        try:
            self._peeked = self._socket.recv(1)
        except SSLWantReadError:
            return False
        except OSError:
            return True
        finally:
            self._socket.settimeout(self.patience)
        return True

    def close(self) -> None:
        """Closes at once; what was not sent is dropped."""
        self._socket.close()
