"""Who calls, and whether it may: a key or a sandbox token for each request of a listener that is not the Unix socket.

`Authentication.guard` is around all routes of such a listener. Which scope a call needs is said here and nowhere else;
what is not listed needs `admin`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from sandcove.errors import ForbiddenError, UnauthorizedError
from sandcove.server.caller import LOCAL, Caller
from sandcove.wire.preview import KEY, RELAYED

if TYPE_CHECKING:
    from sandcove.server.keys import Keys
    from sandcove.server.preview.head import Request as Head
    from sandcove.server.quotas import Quotas
    from sandcove.server.tokens import Tokens

__all__ = ["OPEN", "Authentication", "as_local", "caller_of", "needed_by_key", "needed_by_token"]

NOBODY = Caller("", frozenset())
"""Who asks whether the server is well."""
OPEN = frozenset({"/healthz", "/readyz"})
"""Paths for everybody; their answers have no details."""

_ABOUT = frozenset({"/v1/server", "/v1/openapi.json", "/v1/openapi/agent.json"})
_LOOKS = re.compile(r"/v1/(?:sandboxes|sandboxes/[^/]+|sandboxes/[^/]+/(?:ports|usage))", re.ASCII)
_WITH = "/v1/with/"
# RFC 6750, section 2.1: the scheme, spaces, and the characters of `b64token`.
_BEARER = re.compile(rb"[Bb]earer +([A-Za-z0-9._~+/-]{1,2048}=*)[ \t]*")


def caller_of(scope: Scope) -> Caller:
    """Whose request it is: each listener's application notes it before anything else."""
    caller: Caller = scope["state"]["caller"]
    return caller


def as_local(app: ASGIApp) -> ASGIApp:
    """`app` for the Unix socket, which only the machine's user can open."""

    async def local(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["caller"] = LOCAL
        await app(scope, receive, send)

    return local


def needed_by_key(method: str, path: str) -> str:
    """The scope that a key needs for a call; `read` is part of every other scope."""
    looks = method in ("GET", "HEAD") and (path in _ABOUT or _LOOKS.fullmatch(path))
    if looks or path.startswith(RELAYED):
        return "read"
    return "sandboxes" if path == "/v1/sandboxes" or path.startswith("/v1/sandboxes/") else "admin"


def needed_by_token(method: str, path: str, sandbox_id: str) -> str | None:
    """The scope that a token of this sandbox needs for a call; None: no token has it."""
    looks = method in ("GET", "HEAD")
    if looks and path in _ABOUT:
        return "api"
    own, rest = path.partition(f"/v1/sandboxes/{sandbox_id}")[::2]
    if own or not path.startswith("/v1/sandboxes/") or (rest and not rest.startswith("/")):
        return None
    if (looks and rest in ("", "/usage")) or rest == "/ports" or rest.startswith(("/ports/", "/proxy/")):
        return "api"
    if rest.startswith("/api/"):
        # The agent's part of falling asleep.
        return "life" if rest in ("/api/quiet", "/api/rest", "/api/refuse") else "api"
    return "life" if (method == "DELETE" and not rest) or rest in ("/wake", "/sleep", "/time-to-live") else None


class Authentication:
    """Checks every request, and ends those of a key that is revoked."""

    def __init__(self, keys: Keys, tokens: Tokens, quotas: Quotas) -> None:
        self._keys = keys
        self._tokens = tokens
        self._quotas = quotas
        self._running: dict[str, set[asyncio.Task[None]]] = {}

    def guard(self, app: ASGIApp) -> ASGIApp:
        """`app` for those alone who may."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            caller = self.check(scope)
            if caller.key is None:
                await app(scope, receive, send)
            else:
                await self._run(caller.key, app(scope, receive, send))

        return guarded

    def check(self, scope: Scope) -> Caller:
        """Whose request it is, noted in its state; of the path the prefix ``/v1/with/<token>`` is taken away.

        Raises:
            UnauthorizedError: no key or token, more than one, or none that is good.
            ForbiddenError: its scopes don't have this call.
            RateLimitedError: the key's requests come too fast.
        """
        if scope["path"] in OPEN:
            caller = NOBODY
        else:
            caller = self._authenticated(scope)
            if caller.key is not None:
                self._quotas.take(caller.key)
        scope.setdefault("state", {})["caller"] = caller
        return caller

    def check_head(self, request: Head) -> tuple[Caller, str]:
        """The same for a request that no application sees, before it is passed on to a service; and the path
        without that prefix.

        One that a proxy sends for a visitor has its key in a header of its own.
        """
        path, _, query = request.target.partition("?")
        relayed = path.startswith(RELAYED)
        if relayed:
            headers = [(b"authorization", b"Bearer " + value) for name, value in request.headers if name == KEY]
        else:
            headers = [(name.lower(), value) for name, value in request.headers]
        scope: Scope = {
            "method": request.method.decode("latin-1"),
            "path": unquote(path),
            "query_string": query.encode("latin-1"),
            "headers": headers,
        }
        # The pace of visitors is none of the key's.
        caller = self._authenticated(scope) if relayed else self.check(scope)
        return caller, scope["path"]

    def end(self, key_id: str) -> None:
        """Ends the requests that run of this key and of its tokens; but for the one that asks."""
        own = asyncio.current_task()
        running = self._running.pop(key_id, set())
        for task in running - {own}:
            running.discard(task)
            task.cancel()

    def _authenticated(self, scope: Scope) -> Caller:
        credential, in_path = _credential(scope)
        if credential.startswith("scs_"):
            caller, sandbox_id = self._tokens.caller(credential)
            if in_path:
                _rewrite(scope, f"{_WITH}{credential}/", f"/v1/sandboxes/{sandbox_id}/")
            call = f"{scope['method']} {scope['path']}"
            needed = needed_by_token(scope["method"], scope["path"], sandbox_id)
            if needed not in caller.scopes:
                raise ForbiddenError(
                    f"this token is for sandbox {sandbox_id!r} and has the scopes {_listed(caller.scopes)}; "
                    f"{call[:200]} needs " + ("a key" if needed is None else needed)
                )
            return caller
        if in_path:
            raise UnauthorizedError("a URL can have a sandbox token, never a key: send the key as header Authorization")
        caller = self._keys.caller(credential)
        needed = needed_by_key(scope["method"], scope["path"])
        if needed != "read" and needed not in caller.scopes:
            raise ForbiddenError(
                f"key {caller.key} has the scopes {_listed(caller.scopes)}; "
                f"{scope['method']} {scope['path'][:200]} needs {needed}"
            )
        return caller

    async def _run(self, key_id: str, answering: Awaitable[None]) -> None:
        task = asyncio.current_task()
        assert task is not None
        running = self._running.setdefault(key_id, set())
        running.add(task)
        try:
            await answering
        except asyncio.CancelledError:
            if task in running:
                raise
            task.uncancel()
            raise UnauthorizedError(f"key {key_id} was revoked during the call") from None
        finally:
            running.discard(task)
            if not running and self._running.get(key_id) is running:
                del self._running[key_id]


def _credential(scope: Scope) -> tuple[str, bool]:
    """The one key or token of a request, and whether it came in its path. Never repeated in an error."""
    headers = [value for name, value in scope["headers"] if name == b"authorization"]
    path: str = scope["path"]
    in_path = path.startswith(_WITH)
    if len(headers) + in_path > 1:
        raise UnauthorizedError("the request has more than one key or token; send one")
    if in_path:
        return path[len(_WITH) :].partition("/")[0], True
    if not headers:
        raise UnauthorizedError(
            "this server wants a key: set SANDCOVE_API_KEY or api_key=, or send it as `Authorization: Bearer ...`; "
            "`sandcove keys create` on the server's machine makes one"
        )
    match = _BEARER.fullmatch(headers[0])
    if match is None:
        raise UnauthorizedError("the header Authorization is not of the form `Bearer KEY`")
    return match[1].decode("ascii"), False


def _rewrite(scope: Scope, before: str, after: str) -> None:
    rest = scope["path"][len(before) :]
    scope["path"] = after + rest
    raw = scope.get("raw_path")
    if raw is not None:
        scope["raw_path"] = after.encode() + b"/".join(raw.split(b"/")[4:])


def _listed(scopes: frozenset[str]) -> str:
    return " and ".join(sorted(scopes))
