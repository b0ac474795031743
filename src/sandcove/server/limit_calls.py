"""The routes of limits: what a sandbox may use, changed while it runs; and what it uses."""

from __future__ import annotations

from typing import Protocol

from starlette.requests import Request

from sandcove.calls import Call, Json
from sandcove.errors import ConflictError, QuotaExceededError
from sandcove.server.auth import caller_of
from sandcove.server.egress_calls import HasSandboxes
from sandcove.server.lifecycle import UNNAMED
from sandcove.server.quotas import Quotas
from sandcove.wire.limits import ResourceLimits, ResourceUsage
from sandcove.wire.models import SandboxInfo

__all__ = ["HasQuotas", "limit_routes"]


class HasQuotas(HasSandboxes, Protocol):
    """The server, as far as calls need it that keep to the limits of the caller's key."""

    quotas: Quotas


class _Calls:
    def __init__(self, server: HasQuotas) -> None:
        self._server = server

    async def change(self, http: Request, wanted: ResourceLimits) -> Json[SandboxInfo]:
        """Changes what a sandbox may use, at once; what is left out stays as it is."""
        sandbox = self._server.named(http)
        self._server.sandboxes.set_limits(sandbox, wanted, self._server.quotas.of(caller_of(http.scope)))
        return Json(self._server.shown(http, sandbox))

    async def usage(self, http: Request) -> Json[ResourceUsage]:
        """What a sandbox uses now."""
        return Json(self._server.sandboxes.usage(self._server.named(http)))


def limit_routes(server: HasQuotas) -> list[Call]:
    """All of them."""
    calls = _Calls(server)
    return [
        Call("PUT", "/v1/sandboxes/{id}/limits", calls.change, [*UNNAMED, ConflictError, QuotaExceededError]),
        Call("GET", "/v1/sandboxes/{id}/usage", calls.usage, UNNAMED),
    ]
