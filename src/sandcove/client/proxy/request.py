"""The head of a request that is passed on: made anew from what an ASGI server has parsed. No I/O."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any, Final
from urllib.parse import quote

from sandcove.client.endpoint import Endpoint
from sandcove.errors import InvalidRequestError
from sandcove.wire.http import request_head
from sandcove.wire.preview import KEY, RELAYED

__all__ = ["UNKNOWN", "Request"]

UNKNOWN: Final = -1
"""The length of a body of HTTP/2 whose first piece has not come yet."""

# RFC 9110, section 7.6.1; and what is written anew.
_LEFT_OUT = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# What only a proxy may say. A gateway interface reads `_` and `-` alike, so both are left out.
_PLATFORM = frozenset({"forwarded", "proxy", "x-real-ip", "x-original-url", "x-sandbox-name", KEY.decode()})
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_PATH = re.compile(r"/[!-~]*", re.ASCII)
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})


class Request:
    """One that a visitor has sent.

    Attributes:
        label: of the preview.
        method: GET for a WebSocket.
        length: of the body; None when it comes in pieces, `UNKNOWN` when that is not known yet.
        expects: the visitor waits for 100 before it sends the body.
        repeatable: doing it twice is the same as doing it once, and it has no body.
    """

    def __init__(self, scope: MutableMapping[str, Any], label: str) -> None:
        self.label = label
        self.method: str = scope.get("method", "GET")
        self._target = RELAYED + label + _target(scope)
        self._given = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        if sum(name == "host" for name, _ in self._given) != 1:
            raise InvalidRequestError("a request has one Host header")
        self.length = self._length(str(scope.get("http_version", "1.1"))) if scope["type"] == "http" else 0
        self.expects = self.length != 0 and self._first("expect").lower() == "100-continue"
        self.repeatable = self.method in _REPEATABLE and self.length == 0
        scheme = {"ws": "http", "wss": "https"}.get(str(scope.get("scheme")), scope.get("scheme"))
        client = scope.get("client")
        self._forwarded = [
            ("X-Forwarded-Host", self._first("host")),
            ("X-Forwarded-Proto", "https" if scheme == "https" else "http"),
        ]
        if client and client[0]:
            self._forwarded.append(("X-Forwarded-For", str(client[0])))

    @property
    def wants_html(self) -> bool:
        """A browser asks, for a page."""
        return "text/html" in self._first("accept").lower()

    def head(self, endpoint: Endpoint, upgrade: list[tuple[str, str]] | None = None) -> bytes:
        """As the server gets it.

        Args:
            upgrade: the headers of a WebSocket, which stand for the visitor's own.

        Raises:
            InvalidRequestError: the visitor's can't be passed on.
        """
        nominated = {
            option.strip().lower() for name, value in self._given if name == "connection" for option in value.split(",")
        }
        headers = [("Host", endpoint.name)]
        if endpoint.api_key is not None:
            headers.append((KEY.decode(), endpoint.api_key))
        for name, value in self._given:
            alike = name.replace("_", "-")
            if alike in _LEFT_OUT or alike in _PLATFORM or alike.startswith("x-forwarded-") or name in nominated:
                continue
            if upgrade is None or not name.startswith("sec-websocket-"):
                headers.append((name, value))
        headers += self._forwarded
        if upgrade is not None:
            headers += [("Connection", "upgrade"), ("Upgrade", "websocket"), *upgrade]
        elif self.length is None:
            headers.append(("Transfer-Encoding", "chunked"))
        elif self.length or self._first("content-length"):
            headers.append(("Content-Length", str(self.length)))
        if self.expects:
            headers.append(("Expect", "100-continue"))
        return request_head(self.method, self._target, headers)

    def _first(self, name: str) -> str:
        return next((value for key, value in self._given if key == name), "")

    def _length(self, version: str) -> int | None:
        lengths = [value for name, value in self._given if name == "content-length"]
        codings = [value.lower() for name, value in self._given if name == "transfer-encoding"]
        if len(lengths) + len(codings) > 1 or codings not in ([], ["chunked"]):
            raise InvalidRequestError("a body's end is told by one Content-Length, or by `Transfer-Encoding: chunked`")
        if lengths:
            if not _LENGTH.fullmatch(lengths[0]):
                raise InvalidRequestError("a request's Content-Length is a number")
            return int(lengths[0])
        if codings:
            return None
        return 0 if version.startswith("1") else UNKNOWN


def _target(scope: MutableMapping[str, Any]) -> str:
    """Path and query as the visitor has sent them, of a target in origin form."""
    raw = scope.get("raw_path")
    path = quote(scope["path"], safe="/~!$&'()*+,;=:@") if raw is None else raw.partition(b"?")[0].decode("latin-1")
    query = scope.get("query_string", b"").decode("latin-1")
    target = f"{path}?{query}" if query else path
    if not _PATH.fullmatch(target) or "#" in target:
        raise InvalidRequestError("the request target is no path")
    return target
