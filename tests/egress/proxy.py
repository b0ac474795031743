"""The proxy alone, in this process, on a port of loopback that plays the one in a room; real sockets on both sides."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from sandcove.server.egress.addresses import Addresses, parse_exempt
from sandcove.server.egress.outlet import MOST, Common, Outlet
from sandcove.server.egress.purse import NO_SECRETS, Purse
from sandcove.server.egress.resolve import Resolver
from sandcove.server.egress.share import Descriptors
from sandcove.server.egress.trail import Trail
from sandcove.wire.egress import parse_egress
from sandcove.wire.egress_log import EgressEntry

__all__ = ["LOOPBACK", "Host", "Proxy", "ask", "run", "socks"]

LOOPBACK = "127.0.0.0/8"
"""Where a proxy of these tests may lead to, as `egress_private` has it."""

T = TypeVar("T")
_open: list[Outlet] = []
"""Of the loop that runs."""


class Host:
    """A service on loopback that answers HTTP, and whose callers are counted."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self.seen: list[bytes] = []
        self._listener = socket.create_server(
            (address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET
        )
        self.port: int = self._listener.getsockname()[1]
        self.address = address
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.seen.append(b"")
                threading.Thread(target=self._answer, args=(sock, len(self.seen) - 1), daemon=True).start()

    def _answer(self, sock: socket.socket, number: int) -> None:
        with sock, suppress(OSError):
            sock.settimeout(5)
            while data := sock.recv(65536):
                self.seen[number] += data
                for _ in range(data.count(b"HTTP/1.")):
                    sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nreached")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Proxy:
    """An outlet with a listener of its own."""

    def __init__(
        self,
        egress: str | Sequence[str],
        exempt: str = "",
        names: Callable[[str], list[str]] | None = None,
        ceiling: str = "public",
        secrets: Purse = NO_SECRETS,
        *,
        rate: int = 0,
        most: int = MOST,
        descriptors: Descriptors | None = None,
        tenant: str = "local",
    ) -> None:
        def nothing(name: str) -> list[str]:
            raise OSError(f"{name} is not known to this test")

        listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        resolver = Resolver(names or nothing)
        addresses = Addresses(parse_exempt(exempt))
        common = Common(parse_egress(ceiling), addresses, resolver, rate=rate, most=most, descriptors=descriptors)
        self.trail = Trail(None, {}, Counter())
        self.outlet = Outlet(common, parse_egress(egress), self.trail, listener, secrets, tenant=tenant)
        _open.append(self.outlet)

    @property
    def entries(self) -> list[EgressEntry]:
        return list(self.trail.entries)


async def ask(port: int, *pieces: bytes, wait: float = 1.0) -> bytes:
    """Sends pieces, each after an answer to the one before; gives all that came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    came = b""
    try:
        for piece in pieces:
            writer.write(piece)
            with suppress(ConnectionError, TimeoutError):
                await writer.drain()
                came += await asyncio.wait_for(reader.read(65536), wait)
        with suppress(ConnectionError, TimeoutError):
            while data := await asyncio.wait_for(reader.read(65536), 0.05):
                came += data
    finally:
        writer.close()
    return came


def socks(kind: int, host: bytes, port: int, command: int = 1) -> bytes:
    """A SOCKS5 request: kind 1 or 4 with a packed address, 3 with a name."""
    return (
        b"\x05%c\x00%c" % (command, kind) + (bytes([len(host)]) if kind == 3 else b"") + host + port.to_bytes(2, "big")
    )


def run(work: Callable[[], Awaitable[T]]) -> T:
    async def whole() -> T:
        try:
            return await work()
        finally:
            for outlet in _open:
                outlet.close()
            _open.clear()
            while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(tasks)
            await asyncio.sleep(0.01)  # transports close in the loop's next rounds

    return asyncio.run(whole())
