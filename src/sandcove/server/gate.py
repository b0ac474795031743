"""What every request on a TCP listener passes before a route sees it: a valid `Host`, a known caller, JSON as JSON."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from starlette.types import Scope

from sandcove.errors import InvalidRequestError, ServiceUnavailableError, UnauthorizedError
from sandcove.server.caller import Caller

__all__ = ["OPEN", "Authenticate", "Gate", "refuse_all"]

Authenticate = Callable[[Scope], Caller]
"""Says who calls, by the headers in an ASGI scope; raises `UnauthorizedError` when that is nobody."""

OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that need no key. They tell nothing but that the server is there."""

_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
# What takes raw bytes by POST; all else that is posted is JSON.
_RAW = re.compile(r"/v1/sandboxes/[^/]+/(?:api/process/[^/]+/stdin|(?:api/)?proxy/.*)")


def refuse_all(_: Scope) -> Caller:
    """Lets nobody in."""
    raise UnauthorizedError("this server takes no keys yet: only callers on its Unix socket may use it")


class Gate:
    """Called with the scope of each request. Requests on the Unix socket have their caller already, and pass."""

    def __init__(self, authenticate: Authenticate, stop: asyncio.Event) -> None:
        self._authenticate = authenticate
        self._stop = stop

    def __call__(self, scope: Scope) -> None:
        """Sets ``scope["state"]["caller"]``.

        Raises:
            UnauthorizedError, InvalidRequestError.
            ServiceUnavailableError: the server is stopping, and takes no more calls.
        """
        if "caller" in scope["state"]:
            return
        _check_host(scope)
        if scope["path"] in OPEN:
            return
        scope["state"]["caller"] = self._authenticate(scope)
        _check_content_type(scope)
        if self._stop.is_set():
            raise ServiceUnavailableError("the server is stopping", begun=False, retryAfter=1)


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
