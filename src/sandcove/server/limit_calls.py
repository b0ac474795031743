"""The routes of limits: what a sandbox may use, changed while it runs; and what it uses."""

from __future__ import annotations

from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from sandcove.asgi import body, json, route
from sandcove.server.auth import caller_of
from sandcove.server.caller import LOCAL
from sandcove.server.lifecycle import Sandbox, Sandboxes
from sandcove.server.quotas import Quotas
from sandcove.wire.limits import ResourceLimits

__all__ = ["limit_routes"]


class HasLimits(Protocol):
    """The server, as far as these calls need it."""

    sandboxes: Sandboxes
    quotas: Quotas

    def named(self, http: Request) -> Sandbox:
        """The sandbox that a request's path names."""


class _Calls:
    def __init__(self, server: HasLimits) -> None:
        self._server = server

    async def change(self, http: Request) -> Response:
        wanted = await body(http, ResourceLimits)
        sandbox, caller = self._server.named(http), caller_of(http.scope)
        self._server.sandboxes.set_limits(sandbox, wanted, self._server.quotas.of(caller))
        return json(self._server.sandboxes.info(sandbox, local=caller is LOCAL))

    async def usage(self, http: Request) -> Response:
        return json(self._server.sandboxes.usage(self._server.named(http)))


def limit_routes(server: HasLimits) -> list[BaseRoute]:
    """All of them."""
    calls = _Calls(server)
    return [
        route("PUT", "/v1/sandboxes/{id}/limits", calls.change),
        route("GET", "/v1/sandboxes/{id}/usage", calls.usage),
    ]
