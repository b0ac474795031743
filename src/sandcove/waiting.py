"""Waiting for a descriptor, or a task's end, in the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable

__all__ = ["cancelled", "lasting", "read", "readable", "settle", "writable"]


async def read(pipe: int) -> bytes:
    """What it has next; empty at its end."""
    await readable(pipe)
    return os.read(pipe, 65536)


async def readable(fd: int) -> None:
    """Returns when there is something to read, or the end."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def writable(fd: int) -> None:
    """Returns when it takes more, or nobody reads it any more."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


async def cancelled(task: asyncio.Task[None] | None) -> None:
    """Cancels it, if there is one, and returns when it has ended."""
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def lasting(watch: Callable[[], Awaitable[None]], log: logging.Logger, rest: float = 1.0) -> None:
    """Runs what never returns, and begins anew `rest` seconds after an error, which is logged, has ended it."""
    while True:
        try:
            await watch()
        except Exception:
            log.exception("a watch of the server failed; it goes on")
        await asyncio.sleep(rest)


def settle(future: asyncio.Future[None]) -> None:
    """Makes it done, if it is not yet."""
    if not future.done():
        future.set_result(None)
