"""A file as a stream of events: what it is, its content in pieces, the end. Memory stays flat at any size."""

from __future__ import annotations

import asyncio
import base64
import codecs
import os

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from sandcove.agent.event_stream import EventStream
from sandcove.agent.files import mime_type, open_file
from sandcove.errors import FileSystemError
from sandcove.wire.events import FileEvent

__all__ = ["FileEvents"]

PIECE = 192 * 1024
"""Bytes of an event. Divisible by 3: readers that join pieces of base64 before they decode get the file too."""


class FileEvents(EventStream[FileEvent]):
    """Text in pieces of whole characters; base64 when a byte of the file is NUL or no UTF-8.

    The file is as long as it was when it was opened. To know what to announce, text is read twice.
    """

    def __init__(self, http: Request, path: str, heartbeat: int) -> None:
        super().__init__(http, heartbeat)
        self._path = path
        self._fd, self._size = open_file(path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self._fd)

    async def run(self) -> bytes:
        try:
            await self._tell_all()
            return self.encoded(FileEvent(type="complete", bytes_read=self._size))
        except (OSError, FileSystemError, UnicodeDecodeError) as error:
            reason = FileSystemError(f"{self._path} changed while it was read, or can't be read: {error}")
            return self.encoded(FileEvent(type="error", error=reason.message, code=reason.code))

    async def _tell_all(self) -> None:
        binary = not await self._is_text()
        await self.tell(
            FileEvent(
                type="metadata",
                mime_type=mime_type(self._path, binary),
                size=self._size,
                is_binary=binary,
                encoding="base64" if binary else "utf-8",
            )
        )
        decoder = codecs.getincrementaldecoder("utf-8")()
        # An empty file has one empty piece: the published client takes a stream without any for a broken one.
        for offset in range(0, self._size or 1, PIECE):
            data = await self._piece(offset)
            if binary:
                await self.tell(FileEvent(type="chunk", data=base64.b64encode(data).decode()))
            else:
                await self.tell(FileEvent(type="chunk", data=decoder.decode(data, offset + len(data) == self._size)))

    async def _is_text(self) -> bool:
        decoder = codecs.getincrementaldecoder("utf-8")()
        for offset in range(0, self._size, PIECE):
            data = await self._piece(offset)
            try:
                decoder.decode(data, offset + len(data) == self._size)
            except UnicodeDecodeError:
                return False
            if b"\0" in data:
                return False
        return True

    async def _piece(self, offset: int) -> bytes:
        """Up to `PIECE` bytes of the file from `offset` on. Not by the file's own offset: a reader that left may still
        have a thread that reads."""
        wanted = min(PIECE, self._size - offset)
        if self._size <= PIECE:
            data = os.pread(self._fd, wanted, offset)
        else:
            data = await asyncio.to_thread(os.pread, self._fd, wanted, offset)
        if len(data) < wanted:
            raise FileSystemError("it became shorter")
        return data
