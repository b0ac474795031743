"""What a visitor is told: the service's answer without what belongs to one connection, or a page of Sandcove's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sandcove.client.proxy.request import Request
from sandcove.client.results import log
from sandcove.wire.http import Head
from sandcove.wire.page import Page

__all__ = [
    "Gone",
    "Headers",
    "Receive",
    "Scope",
    "Send",
    "Told",
    "away",
    "broken",
    "headers_of",
    "refused",
    "told_to_us",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_LEFT_OUT = frozenset(
    {
        b"connection",
        b"date",  # an ASGI server writes its own, as the next one
        b"server",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_FOR_VISITORS = frozenset(
    {
        b"CONTAINER_NOT_READY",
        b"INVALID_REQUEST",
        b"NETWORK_ERROR",
        b"NOT_FOUND",
        b"PORT_NOT_EXPOSED",
        b"PORT_NOT_LISTENING",
    }
)


class Gone(Exception):  # noqa: N818 - it says what the visitor is; no user sees it
    """The visitor has left."""


def headers_of(head: Head) -> Headers:
    """As an ASGI server takes them."""
    fields = [(name.lower(), value) for name, value in head.headers]
    nominated = {
        option.strip().lower() for name, value in fields if name == b"connection" for option in value.split(b",")
    }
    return [field for field in fields if field[0] not in _LEFT_OUT and field[0] not in nominated]


def told_to_us(head: Head) -> bool:
    """The server refuses this application, not its visitor: the key is wrong, or it speaks another version."""
    code = head.get(b"x-sandcove-error")
    if code is None or code in _FOR_VISITORS:
        return False
    log.warning("the server passes no previews on to this application: %s", code.decode("latin-1"))
    return True


def away() -> Page:
    """The server can't be had now."""
    return Page(
        503,
        "SERVICE_UNAVAILABLE",
        "Previews can't be had now",
        "They are not answered at the moment; try again.",
        again=5,
    )


def broken() -> Page:
    """The server's connection ended before the answer was there."""
    return Page(502, "NETWORK_ERROR", "No answer came", "The connection ended before the answer was there; try again.")


def refused(text: str) -> Page:
    """The request is not passed on."""
    return Page(400, "INVALID_REQUEST", "This request is refused", text)


class Told:
    """What a visitor of HTTP, or one whose WebSocket is refused, is told.

    Args:
        send: of the ASGI server.
        kind: ``http.response`` or ``websocket.http.response``.

    Attributes:
        started: an answer has begun.
        gone: the visitor has left.
    """

    def __init__(self, send: Send, kind: str = "http.response") -> None:
        self.started = self.gone = False
        self._send = send
        self._kind = kind

    async def message(self, message: Message) -> None:
        """Raises `Gone` when nobody is there to hear it."""
        try:
            await self._send(message)
        except OSError:
            self.gone = True
            raise Gone from None

    async def begin(self, status: int, headers: Headers) -> None:
        """The head of the answer."""
        self.started = True
        await self.message({"type": f"{self._kind}.start", "status": status, "headers": headers})

    async def body(self, data: bytes, *, more: bool) -> None:
        """The next bytes."""
        await self.message({"type": f"{self._kind}.body", "body": data, "more_body": more})

    async def page(self, page: Page, request: Request | None) -> None:
        """All of an answer of our own."""
        headers, body = page.shown(as_html=request is not None and request.wants_html)
        try:
            await self.begin(page.status, [(name.encode(), value.encode()) for name, value in headers])
            await self.body(b"" if request is not None and request.method == "HEAD" else body, more=False)
        except Gone:
            pass
