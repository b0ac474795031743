"""What a program asks an HTTP proxy for: a tunnel to a host, or a request that is to be sent to one. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from sandcove.server.preview.head import Headers, Refused, Request, fields, request_line
from sandcove.server.preview.rewrite import HOP_BY_HOP, framing
from sandcove.wire.egress import canonical_host, shown

__all__ = ["Asked", "Onward", "authority", "parse", "parse_within"]

_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,254})(?::([0-9]{1,5}))?")
_HTTPS = re.compile(rb"https://([^/?#@\\]+)([/?][!-~]*)?", re.IGNORECASE)
_HTTP = re.compile(rb"http://([^/?#@\\]+)([/?][!-~]*)?", re.IGNORECASE)


class Asked(NamedTuple):
    """Attributes:
    host: canonical.
    request: what is to be sent; None for a tunnel.
    """

    host: str
    port: int
    request: Request | None


def parse(head: bytes) -> Asked:
    """Of a request's head without the blank line at its end.

    Raises:
        Refused: it is wrong, ambiguous, or nothing for a proxy.
    """
    line, _, rest = head.partition(b"\r\n")
    method, target, minor = request_line(line)
    headers = fields(rest)
    if method == b"CONNECT":
        host, port = authority(target, None)
        if any(name in (b"content-length", b"transfer-encoding") for name, _ in headers):
            raise Refused(400, "CONNECT has no body")
        _agree(headers, host, port)
        return Asked(host, port, None)
    match = _HTTP.fullmatch(target)
    if match is None:
        if target[:8].lower() == b"https://":
            raise Refused(400, "https goes through a tunnel, by CONNECT")
        raise Refused(400, "this is a proxy: it is asked for http:// URLs and by CONNECT")
    host, port = authority(match[1], 80)
    _agree(headers, host, port)
    path = match[2] or b"/"
    request = Request(method, b"/" + path if path.startswith(b"?") else path, minor, headers)
    return Asked(host, port, request)


def parse_within(head: bytes, host: str, port: int) -> Asked:
    """Of the head of a request within TLS to this host: it is for this host, however it says so.

    Raises:
        Refused: it is wrong, ambiguous, or for another host.
    """
    line, _, rest = head.partition(b"\r\n")
    method, target, minor = request_line(line)
    headers = fields(rest)
    if method == b"CONNECT":
        raise Refused(400, "there is no tunnel within a tunnel")
    match = _HTTPS.fullmatch(target)
    if match is not None:
        if authority(match[1], 443) != (host, port):
            raise Refused(421, "the target is another host than the tunnel's")
        target = match[2] or b"/"
        target = b"/" + target if target.startswith(b"?") else target
    elif not target.startswith(b"/") and target != b"*":
        raise Refused(400, "the target is no path")
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) == 1 and authority(hosts[0], 443) != (host, port):
        raise Refused(421, "the Host header names another host than the tunnel's")
    return Asked(host, port, Request(method, target, minor, headers))


def authority(text: bytes, usual: int | None) -> tuple[str, int]:
    """Host and port of ``host:port``; `usual` is the port that may be left out.

    Raises:
        Refused: it is none.
    """
    match = _AUTHORITY.fullmatch(text)
    port = usual if match is None or match[2] is None else int(match[2])
    if match is None or port is None or not 0 < port < 65536:
        raise Refused(400, "the target is no host and port")
    try:
        return canonical_host(match[1].decode()), port
    except ValueError as error:
        raise Refused(400, f"the target's host is refused: {error}") from None


def _agree(headers: Headers, host: str, port: int) -> None:
    """The Host header says nothing else than the target."""
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1:
        raise Refused(400, "a request has one Host header")
    if hosts and authority(hosts[0], port) != (host, port):
        raise Refused(400, "the target and the Host header name different hosts")


class Onward:
    """The heads of a request to `host` and of its answer, as they go on; `usual` is the port that goes unsaid."""

    def __init__(self, host: str, port: int, usual: int = 80) -> None:
        self._host = shown(host, None if port == usual else port).encode()

    def request_head(self, request: Request) -> bytes:
        return self.head(request, request.target.encode(), request.headers)

    def head(
        self, request: Request, target: bytes, headers: Headers, added: Iterable[tuple[bytes, bytes]] = ()
    ) -> bytes:
        """The head with this target and these headers; `added` are there whatever the request says of them."""
        lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (request.method, target, self._host)]
        for name, value in headers:
            if name in HOP_BY_HOP or name in (b"content-length", b"host") or name in request.connection:
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        lines += [b"%b: %b\r\n" % field for field in added]
        lines += framing(request)
        return b"".join([*lines, b"\r\n"])

    def answer_value(self, name: bytes, value: bytes) -> bytes:
        return value
