"""What a program asks an HTTP proxy for: a tunnel to a host, or a request that is to be sent to one. No I/O."""

from __future__ import annotations

import re
from typing import NamedTuple

from sandcove.server.preview.head import Headers, Refused, Request, fields, request_line
from sandcove.server.preview.rewrite import HOP_BY_HOP, framing
from sandcove.wire.egress import canonical_host

__all__ = ["Asked", "Onward", "authority", "parse"]

_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,254})(?::([0-9]{1,5}))?")
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
    """The heads of a request to `host` and of its answer, as they are passed on."""

    def __init__(self, host: str, port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        self._host = (shown if port == 80 else f"{shown}:{port}").encode()

    def request_head(self, request: Request) -> bytes:
        lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (request.method, request.target.encode(), self._host)]
        for name, value in request.headers:
            if name in HOP_BY_HOP or name in (b"content-length", b"host") or name in request.connection:
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        lines += framing(request)
        return b"".join([*lines, b"\r\n"])

    def answer_value(self, name: bytes, value: bytes) -> bytes:
        return value
