"""What every request on a TCP listener passes before a route sees it: a valid `Host`, and JSON as JSON."""

from __future__ import annotations

import asyncio
import re

from starlette.types import ASGIApp, Receive, Scope, Send

from sandcove.errors import InvalidRequestError, ServiceUnavailableError
from sandcove.server.auth import OPEN

__all__ = ["checked"]

_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
# What takes raw bytes by POST; all else that is posted is JSON.
_RAW = re.compile(r"/v1/(?:sandboxes|with)/[^/]+/(?:api/process/[^/]+/stdin|(?:api/)?proxy/.*)")


def checked(app: ASGIApp, stop: asyncio.Event) -> ASGIApp:
    """`app` behind these checks. Once `stop` is set it is called no more, but for what is open to everybody."""

    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        _check_host(scope)
        if scope["path"] not in OPEN:
            _check_content_type(scope)
            if stop.is_set():
                raise ServiceUnavailableError("the server is stopping", begun=False, retryAfter=1)
        await app(scope, receive, send)

    return gate


def _check_host(scope: Scope) -> None:
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) > 1 or (not hosts and scope["http_version"] != "1.0"):
        raise InvalidRequestError(f"a request has one Host header, this one has {len(hosts)}")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise InvalidRequestError(f"the Host header {hosts[0][:100]!r} is no host name or address")


def _check_content_type(scope: Scope) -> None:
    if scope["method"] != "POST" or _RAW.fullmatch(scope["path"]):
        return
    for name, value in scope["headers"]:
        if name == b"content-type" and value.split(b";")[0].strip().lower() != b"application/json":
            raise InvalidRequestError(f"Content-Type is {value.decode('latin-1')!r}; this route takes application/json")
