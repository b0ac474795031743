"""Sending a command's standard input: in the command's request, or ahead of it."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator

from sandcove.client._async.agent import AsyncAgent
from sandcove.client._async.client import answer
from sandcove.client._async.io import Opened, open_input, read_input
from sandcove.client.endpoint import Broken
from sandcove.client.stdin import INLINE
from sandcove.wire.models import Execute, StdinAnswer

__all__ = ["AsyncStdin"]


class AsyncStdin:
    """A standard input, checked. `send` reads it, once.

    Raises:
        InvalidRequestError: it is nothing that can be read.
    """

    def __init__(self, value: object) -> None:
        self._source = open_input(value)

    async def send(self, agent: AsyncAgent, request: Execute) -> None:
        """Puts it into the command's `request`, or sends it ahead and names it there: then memory stays flat.

        Raises:
            InvalidRequestError: it gives something that is no text or bytes.
            SandboxError: the sandbox could not take it.
        """
        first: list[bytes] = []
        size = 0
        while size <= INLINE:
            piece = await read_input(self._source)
            if not piece:
                data = b"".join(first)
                try:
                    request.stdin = data.decode()
                except UnicodeDecodeError:
                    request.stdin = base64.b64encode(data).decode("ascii")
                    request.stdin_encoding = "base64"
                return
            first.append(piece)
            size += len(piece)
        pieces = _all(first, self._source)
        try:
            response = await agent.open("PUT", "/api/stdin", pieces)
            request.stdin_token = answer(await response.read(), StdinAnswer).token
        except Broken as error:
            raise await agent.ended(error) from None
        finally:
            await pieces.aclose()


async def _all(first: list[bytes], source: Opened) -> AsyncGenerator[bytes, None]:
    for piece in first:
        yield piece
    first.clear()
    while piece := await read_input(source):
        yield piece
