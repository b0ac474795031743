# Written by scripts/unasync.py from _async/stdin.py. Change that file, not this one.
"""Sending a command's standard input: in the command's request, or ahead of it."""

from __future__ import annotations

import base64
from collections.abc import Generator

from sandcove.client._sync.agent import Agent
from sandcove.client._sync.client import answer
from sandcove.client._sync.io import Opened, open_input, read_input
from sandcove.client.endpoint import Broken
from sandcove.client.stdin import INLINE
from sandcove.wire.models import Execute, StdinAnswer

__all__ = ["Stdin"]


class Stdin:
    """A standard input, checked. `send` reads it, once.

    Raises:
        InvalidRequestError: it is nothing that can be read.
    """

    def __init__(self, value: object) -> None:
        self._source = open_input(value)

    def send(self, agent: Agent, request: Execute) -> None:
        """Puts it into the command's `request`, or sends it ahead and names it there: then memory stays flat.

        Raises:
            InvalidRequestError: it gives something that is no text or bytes.
            SandboxError: the sandbox could not take it.
        """
        first: list[bytes] = []
        size = 0
        while size <= INLINE:
            piece = read_input(self._source)
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
            response = agent.open("PUT", "/api/stdin", pieces)
            request.stdin_token = answer(response.read(), StdinAnswer).token
        except Broken as error:
            raise agent.ended(error) from None
        finally:
            pieces.close()


def _all(first: list[bytes], source: Opened) -> Generator[bytes, None, None]:
    for piece in first:
        yield piece
    first.clear()
    while piece := read_input(source):
        yield piece
