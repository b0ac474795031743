"""Hosts that speak TLS on loopback, vouched for by an authority of the test, and a program that asks by the proxy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

from sandcove.server.egress.authority import Authority

__all__ = ["SecureHost", "Tunnel", "until"]

Answer = Callable[[bytes], bytes]


async def until(true: Callable[[], object]) -> None:
    """Returns when it is, of what another thread or task does."""
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not come")


def hello(head: bytes) -> bytes:
    """Echoes the head in a header, line by line."""
    echo = b"".join(b"x-echo: %b\r\n" % line for line in head.split(b"\r\n"))
    return b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n" + echo + b"\r\nhello"


class SecureHost:
    """A service on loopback that answers each request's head; what it got within TLS is kept.

    Args:
        authority: vouches for it; None: it speaks in the clear.
        name: what its certificate is for.
        answer: gives the answer to a head.
    """

    def __init__(
        self,
        authority: Authority | None,
        name: str = "api.test",
        answer: Answer = hello,
        listener: socket.socket | None = None,
    ) -> None:
        self.seen: list[bytes] = []
        """What each connection has brought."""
        self._answer = answer
        self._context = None if authority is None else authority.context(name)
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def got(self) -> bytes:
        """All of it."""
        return b"".join(self.seen)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(10)
        with sock, suppress(OSError):
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            number = len(self.seen)
            self.seen.append(b"")
            held = b""
            with sock:
                while data := sock.recv(65536):
                    self.seen[number] += data
                    held += data
                    while b"\r\n\r\n" in held:
                        head, _, held = held.partition(b"\r\n\r\n")
                        sock.sendall(self._answer(head))

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


class Tunnel:
    """What a program has when it asked a proxy for a tunnel, and then for TLS in it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, host: str, to: int) -> Tunnel:
        """By CONNECT; the proxy agrees."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"CONNECT {host}:{to} HTTP/1.1\r\nHost: {host}:{to}\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 200"), head
        return cls(reader, writer)

    async def begin_tls(self, trusts: str, name: str) -> None:
        """Trusting this certificate alone.

        Raises:
            ssl.SSLError, ConnectionError: it can't be.
        """
        context = ssl.create_default_context(cadata=trusts)
        context.set_alpn_protocols(["h2", "http/1.1"])
        await self._writer.start_tls(context, server_hostname=name, ssl_handshake_timeout=10)

    @property
    def protocol(self) -> str | None:
        """What was agreed on."""
        found: ssl.SSLObject = self._writer.get_extra_info("ssl_object")
        return found.selected_alpn_protocol()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        with suppress(ConnectionError):
            await self._writer.drain()

    async def answer(self) -> bytes:
        """The next answer: its head, and a body that has a length."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                head += await asyncio.wait_for(self._reader.readexactly(int(line[15:])), 10)
        return head

    async def rest(self) -> bytes:
        """What comes until the proxy closes, or nothing more comes."""
        came = b""
        with suppress(ConnectionError, TimeoutError, ssl.SSLError):
            while data := await asyncio.wait_for(self._reader.read(65536), 0.4):
                came += data
        return came

    async def ask(self, request: bytes) -> bytes:
        """Sends, gives all that comes, and closes."""
        await self.send(request)
        came = await self.rest()
        self.close()
        return came

    def close(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.transport.abort()
