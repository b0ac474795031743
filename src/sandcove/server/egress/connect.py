"""A connection to one of a host's addresses, which were checked before: no name is looked up here."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from itertools import chain, zip_longest

__all__ = ["connect"]

AFTER = 0.25
"""Seconds after which the next address is tried beside one that has not answered (RFC 8305)."""
MOST = 8
"""Addresses that are tried."""
PATIENCE = 20.0
"""Seconds in which one must answer."""
_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)


async def connect(
    addresses: Sequence[str], port: int, make: Callable[[int], socket.socket] = socket.socket
) -> socket.socket:
    """A connected socket to the first that answers; the two families take turns.

    Args:
        make: makes a socket of a family, or raises `OSError`: then the address is not tried.

    Raises:
        OSError: none does.
    """
    tries = _in_turns(addresses)[:MOST]
    try:
        async with asyncio.timeout(PATIENCE):
            return await (_one(tries[0], port, make) if len(tries) == 1 else _race(tries, port, make))
    except TimeoutError:
        raise OSError(f"it did not answer within {PATIENCE:g} s") from None


async def _race(tries: list[str], port: int, make: Callable[[int], socket.socket]) -> socket.socket:
    running: set[asyncio.Task[socket.socket]] = set()
    failed = OSError("it has no address")
    try:
        for address in tries:
            running.add(asyncio.ensure_future(_one(address, port, make)))
            last = address is tries[-1]
            while running:
                done, _ = await asyncio.wait(
                    running, timeout=None if last else AFTER, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    error = task.exception()
                    if error is None:
                        running.discard(task)
                        return task.result()
                    running.discard(task)
                    failed = error if isinstance(error, OSError) else OSError(str(error))
                if not last:
                    break
        raise failed
    finally:
        for task in running:
            task.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                (await task).close()


async def _one(address: str, port: int, make: Callable[[int], socket.socket]) -> socket.socket:
    sock = make(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        sock.setblocking(False)
        for level, option, value in _OPTIONS:
            sock.setsockopt(level, option, value)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
        if ip_address(sock.getpeername()[0]) != ip_address(address):
            raise OSError("it is connected to another address")
    except BaseException:
        sock.close()
        raise
    return sock


def _in_turns(addresses: Sequence[str]) -> list[str]:
    first = [address for address in addresses if (":" in address) == (":" in addresses[0])]
    other = [address for address in addresses if address not in first]
    return [address for address in chain.from_iterable(zip_longest(first, other)) if address is not None]
