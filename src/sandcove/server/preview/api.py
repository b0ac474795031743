"""Connections of the API: a request for a preview on one of them is the previews' from there on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from sandcove.server.preview.page import misdirected
from sandcove.wire.preview import in_host

__all__ = ["ApiConnection", "without_previews"]

_OTHERS = re.compile(rb"[A-Z]{1,20} /(?:preview/|v1/previews/|v1/(?:sandboxes|with)/[A-Za-z0-9._-]{1,1100}/proxy/)")


class ApiConnection(HttpToolsProtocol):
    """uvicorn's connection, but that it gives itself up.

    Attributes:
        front: makes the protocol for previews; None where there are none.
        looked_at: what comes now the previews have left to the application.
    """

    front: Callable[[], Any] | None = None
    looked_at = False
    _begun = False

    def on_message_begin(self) -> None:
        # The parser tells it at a request's first byte, behind line breaks before it.
        self._begun = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._begun = False
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        # A request begins where the one before is whole and its answer has ended. Should its first line come in pieces
        # it is the application's, which says that it wants a new connection.
        cycle: RequestResponseCycle | None = self.cycle
        idle = not self._begun and (cycle is None or cycle.response_complete)
        if idle and self.front is not None and not self.looked_at and _OTHERS.match(data):
            self.give_up()
            front = self.front()
            self.transport.set_protocol(front)
            front.connection_made(self.transport)
            front.data_received(data)
            return
        self.take(data)

    def take(self, data: bytes) -> None:
        """These bytes are the application's."""
        super().data_received(data)

    def give_up(self) -> None:
        """Is no connection of the application's any more."""
        self._unset_keepalive_if_required()
        self.connections.discard(self)


def without_previews(app: ASGIApp, domain: str) -> ASGIApp:
    """`app`, but that a request whose Host is a preview's never reaches it."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        for name, value in scope.get("headers", ()):
            if name == b"host" and in_host(value.decode("latin-1"), domain) is not None:
                answer = misdirected().body()
                start = {
                    "type": "http.response.start",
                    "status": 421,
                    "headers": [(b"content-type", b"application/json")],
                }
                await send(start)
                await send({"type": "http.response.body", "body": answer})
                return
        await app(scope, receive, send)

    return guarded
