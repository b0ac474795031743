"""The pipe to a program's standard input: written as the program reads, without holding anybody else up."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from sandcove.waiting import settle

__all__ = ["Stdin"]


class Stdin:
    """The write end `fd`, owned; -1 for none. One writer at a time; others wait for their turn.

    Args:
        ended: done when the program has ended: nobody will read then.
    """

    def __init__(self, fd: int, ended: asyncio.Future[Any]) -> None:
        if fd >= 0:
            os.set_blocking(fd, False)
        self._fd = fd
        self._ended = ended
        self._turn = asyncio.Lock()

    async def write(self, data: bytes) -> bool:
        """Writes all of it as the pipe takes it; False when the program takes no more: it has ended, or closed it."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            fd, view = self._fd, memoryview(data)
            while view:
                try:
                    view = view[os.write(fd, view) :]
                except BlockingIOError:
                    writable: asyncio.Future[None] = loop.create_future()
                    loop.add_writer(fd, settle, writable)
                    waiting: set[asyncio.Future[Any]] = {writable, self._ended}
                    try:
                        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        loop.remove_writer(fd)
                    if self._ended.done():
                        return False
                except OSError:
                    return False
        return True

    async def close(self) -> None:
        """The program reads the end of file, when it has read what was written before."""
        async with self._turn:
            self.discard()

    def discard(self) -> None:
        """Closes it at once; repeating it is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
