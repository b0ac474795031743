"""What a caller sees where no service answers: a page for browsers, JSON for programs."""

from __future__ import annotations

import html
from dataclasses import dataclass
from http import HTTPStatus

from sandcove.server.preview.head import Request
from sandcove.wire.codec import encode

__all__ = ["Page", "crowded", "gone", "misdirected", "silent", "starting", "unknown", "wrong"]

_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">{refresh}
<title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 34em; margin: 18vh auto; padding: 0 1.5em; color: #223;
background: #fafbfc }} h1 {{ font-size: 1.4em }} p {{ color: #556 }}
@media (prefers-color-scheme: dark) {{ body {{ background: #15181c; color: #dde }} p {{ color: #99a }} }}
</style></head><body><h1>{title}</h1><p>{text}</p></body></html>
"""


@dataclass(frozen=True)
class Page:
    """An answer of the server's own.

    Attributes:
        code: as in the error tree.
        again: seconds after which a browser tries again by itself, or 0.
        location: of a redirect.
    """

    status: int
    code: str
    title: str
    text: str
    again: int = 0
    location: str = ""

    def body(self) -> bytes:
        """As JSON."""
        return encode({"error": f"{self.title}: {self.text}", "code": self.code})

    def answer(self, request: Request | None, *, close: bool) -> bytes:
        """Head and body, in the form that the request asks for."""
        if request is not None and request.accepts_html():
            refresh = f'<meta http-equiv="refresh" content="{self.again}">' if self.again else ""
            title, text = html.escape(self.title), html.escape(self.text)
            kind, body = "text/html; charset=utf-8", _HTML.format(refresh=refresh, title=title, text=text).encode()
        else:
            kind, body = "application/json", self.body()
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"content-type: {kind}",
            f"content-length: {len(body)}",
            "cache-control: no-store",
            f"x-sandcove-error: {self.code}",
            "content-security-policy: default-src 'none'; style-src 'unsafe-inline'",
            "x-content-type-options: nosniff",
        ]
        if self.again:
            lines.append(f"retry-after: {self.again}")
        if self.location:
            lines.append(f"location: {self.location}")
        lines.append("connection: close" if close else "connection: keep-alive")
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
