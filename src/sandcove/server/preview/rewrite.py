"""The headers of both directions: what belongs to one connection, to the platform or to a key stays here. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from sandcove.server.preview.head import Headers, Request, Response
from sandcove.wire.preview import KEY

__all__ = ["HOP_BY_HOP", "Heads", "Origin", "answer_head", "framing", "interim_head", "trailers"]

# RFC 9110, section 7.6.1, and what goes with it.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)
_FRAMING = frozenset({b"content-length", b"host"})
# What only a proxy may say. A gateway interface reads `_` and `-` alike, so both are taken away.
_PLATFORM = frozenset({b"forwarded", b"proxy", b"x-real-ip", b"x-original-url", b"x-sandbox-name", KEY})
_KEY = re.compile(rb"bearer[ \t]+(?:sck|scs)_", re.IGNORECASE)
_NEVER_TRAILERS = frozenset(
    {
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"location",
        b"max-forwards",
        b"range",
        b"set-cookie",
        b"trailer",
        b"vary",
        b"www-authenticate",
    }
)
_ATTRIBUTE = re.compile(rb";[ \t]*(domain|path)[ \t]*(?:=[ \t]*([^;]*))?", re.IGNORECASE)


class Heads(Protocol):
    """How heads are changed between a caller and a service."""

    def request_head(self, request: Request) -> bytes:
        """The head that the service gets. The body follows as the caller framed it, by length or in chunks."""

    def answer_value(self, name: bytes, value: bytes) -> bytes:
        """The value of an answer's header, as the caller gets it; `name` is empty for the text behind the status."""


def framing(request: Request) -> list[bytes]:
    """What a head that is passed on says of the connection and of its body's end: made anew, never copied."""
    lines = []
    if b"te" in request.connection and b"trailers" in (request.get(b"te") or b"").lower():
        lines.append(b"te: trailers\r\nconnection: te\r\n")
    if request.upgrade is not None:
        lines.append(b"connection: upgrade\r\nupgrade: %b\r\n" % request.upgrade)
    if request.length is None:
        lines.append(b"transfer-encoding: chunked\r\n")
    elif request.length or request.get(b"content-length") is not None:
        lines.append(b"content-length: %d\r\n" % request.length)
    return lines


@dataclass(frozen=True)
class Origin:
    """Where a request came from and goes to.

    Attributes:
        port: of the service.
        path: that the service sees, with the query.
        prefix: that was taken off the path; empty for a preview host.
        shown_prefix: the same as the service may know it, without a token.
        scheme: ``http`` or ``https``, as the caller sees it.
        peer: the caller's address; empty when it is not known.
        sandbox: the sandbox's id.
        trusted: the caller has a key: what it says of those behind it stands.
        host: that the caller sees; empty for the request's own.
    """

    port: int
    path: str
    prefix: str
    shown_prefix: str
    scheme: str
    peer: str
    sandbox: str
    trusted: bool
    host: str = ""

    def request_head(self, request: Request) -> bytes:
        lines = [b"%b %b HTTP/1.1\r\nhost: localhost:%d\r\n" % (request.method, self.path.encode(), self.port)]
        forwarded: list[bytes] = []
        for name, value in request.headers:
            alike = name.replace(b"_", b"-")
            if alike in HOP_BY_HOP or alike in _FRAMING or name in request.connection:
                continue
            if name == b"authorization" and _KEY.match(value):
                continue
            if alike in _PLATFORM or alike.startswith(b"x-forwarded-"):
                if self.trusted and name.startswith(b"x-forwarded-"):
                    forwarded.append(name)
                else:
                    continue
            lines.append(b"%b: %b\r\n" % (name, value))
        lines += framing(request)
        host = self.host or request.host or f"localhost:{self.port}"
        ours = {
            "x-forwarded-for": self.peer,
            "x-forwarded-host": host,
            "x-forwarded-proto": self.scheme,
            "x-forwarded-prefix": self.shown_prefix,
            "x-original-url": f"{self.scheme}://{host}{self.shown_prefix}{self.path}",
            "x-sandbox-name": self.sandbox,
        }
        lines += [
            f"{name}: {value}\r\n".encode() for name, value in ours.items() if value and name.encode() not in forwarded
        ]
        lines.append(b"\r\n")
        return b"".join(lines)

    def answer_value(self, name: bytes, value: bytes) -> bytes:
        if name == b"set-cookie":
            return _own_cookie(value, self.prefix)
        return _own_location(value, self) if name == b"location" else value


def answer_head(
    response: Response, heads: Heads, *, chunked: bool, length: bool, close: bool, old: bool, upgrade: bool = False
) -> bytes:
    """The head that the caller gets.

    Args:
        chunked: the body follows in chunks.
        length: the answer's own Content-Length holds.
        close: the connection ends with this answer.
        old: the caller speaks HTTP/1.0.
        upgrade: the connection is a tunnel from here on.
    """
    lines = [_status_line(response, heads)]
    told_length = False
    for name, value in response.headers:
        if name in HOP_BY_HOP or name == b"x-sandcove-error" or (name in response.connection and name not in _FRAMING):
            continue
        if name == b"content-length":
            if told_length or not length:
                continue
            told_length = True
        lines.append(b"%b: %b\r\n" % (name, heads.answer_value(name, value)))
    if upgrade:
        protocol = next((value for name, value in response.headers if name == b"upgrade"), b"websocket")
        lines.append(b"connection: upgrade\r\nupgrade: %b\r\n" % heads.answer_value(b"upgrade", protocol))
    elif close:
        lines.append(b"connection: close\r\n")
    elif old:
        lines.append(b"connection: keep-alive\r\n")
    if chunked:
        lines.append(b"transfer-encoding: chunked\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)


def interim_head(response: Response, heads: Heads) -> bytes:
    """The head of an answer that comes before the answer (100, 103)."""
    lines = [_status_line(response, heads)]
    for name, value in response.headers:
        if name not in HOP_BY_HOP and name not in _FRAMING and name not in response.connection:
            lines.append(b"%b: %b\r\n" % (name, heads.answer_value(name, value)))
    return b"".join(lines) + b"\r\n"


def _status_line(response: Response, heads: Heads) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (response.status, heads.answer_value(b"", response.reason))


def trailers(fields: Headers) -> Headers:
    """Those that may follow a body: none that says how it is framed, routed or allowed."""
    kept = []
    for name, value in fields:
        alike = name.replace(b"_", b"-")
        if name in HOP_BY_HOP or name in _FRAMING or name in _NEVER_TRAILERS:
            continue
        if alike not in _PLATFORM and not alike.startswith(b"x-forwarded-"):
            kept.append((name, value))
    return kept


def _own_cookie(value: bytes, prefix: str) -> bytes:
    """A Set-Cookie that holds for this host alone, and below `prefix`."""

    def attribute(match: re.Match[bytes]) -> bytes:
        if match[1].lower() == b"domain":
            return b""
        path = (match[2] or b"").strip()
        if not prefix:
            return match[0]
        return b"; Path=" + prefix.encode() + (path if path.startswith(b"/") else b"/")

    return _ATTRIBUTE.sub(attribute, value)


def _own_location(value: bytes, origin: Origin) -> bytes:
    """A redirect to the service itself, as the caller can follow it."""
    match = re.match(rb"https?://(?:localhost|127\.0\.0\.1|\[::1\]):%d(?=[/?#]|\Z)" % origin.port, value)
    if match is not None:
        value = value[match.end() :] or b"/"
        if not value.startswith(b"/"):
            value = b"/" + value
    elif not origin.prefix:
        return value
    if origin.prefix and value.startswith(b"/") and not value.startswith(b"//"):
        value = origin.prefix.encode() + value
    return value
