"""What a caller sees where no service answers: a page for browsers, JSON for programs."""

from __future__ import annotations

from http import HTTPStatus

from sandcove.server.preview.head import Request
from sandcove.wire import page as wire

__all__ = ["Page", "crowded", "gone", "misdirected", "silent", "starting", "unknown", "wrong"]


class Page(wire.Page):
    """An answer of the server's own."""

    def answer(self, request: Request | None, *, close: bool) -> bytes:
        """Head and body, in the form that the request asks for."""
        headers, body = self.shown(as_html=request is not None and request.accepts_html())
        headers.append(("connection", "close" if close else "keep-alive"))
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}", *map(": ".join, headers)]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        return head if request is not None and request.method == b"HEAD" else head + body


def unknown() -> Page:
    """No such preview, or its token is wrong: which of the two is not told."""
    return Page(
        404, "NOT_FOUND", "No preview here", "This address leads to no preview. Check it, or ask for a new one."
    )


def gone() -> Page:
    """The address, token and all, was right once."""
    return Page(410, "PORT_NOT_EXPOSED", "This preview has ended", "Whoever shared it has taken it back.")


def silent(port: int) -> Page:
    """The sandbox is awake, and nothing listens."""
    text = f"Nothing in the sandbox listens on port {port} yet. In a browser this page tries again by itself."
    return Page(502, "PORT_NOT_LISTENING", "Waiting for the service", text, again=2)


def starting() -> Page:
    """The sandbox can't be had now."""
    return Page(503, "CONTAINER_NOT_READY", "The sandbox is not ready", "It is starting or ending; try again.", again=2)


def crowded() -> Page:
    """As many of its tenant's sandboxes are awake as may be."""
    text = "As many sandboxes are awake as may be at once. In a browser this page tries again by itself."
    return Page(503, "QUOTA_EXCEEDED", "No room for this sandbox now", text, again=5)


def misdirected() -> Page:
    """A connection for one host was used for another."""
    return Page(421, "INVALID_REQUEST", "Wrong connection", "This host is not answered here; open a new connection.")


def wrong(status: int, text: str) -> Page:
    """The request, or the service's answer, is not passed on."""
    if status == 502:
        return Page(502, "NETWORK_ERROR", "The service's answer is broken", text)
    return Page(status, "INVALID_REQUEST", "This request is refused", text)
