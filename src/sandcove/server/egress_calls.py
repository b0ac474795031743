"""The routes of egress: change what a sandbox may reach, and see what it asked for."""

from __future__ import annotations

from typing import Protocol

from starlette.requests import Request

from sandcove.calls import Call, Json
from sandcove.server.lifecycle import UNNAMED, Sandbox, Sandboxes
from sandcove.wire.egress_log import EgressLog, SetEgress
from sandcove.wire.models import SandboxInfo

__all__ = ["HasSandboxes", "egress_routes"]


class HasSandboxes(Protocol):
    """The server, as far as these calls need it."""

    sandboxes: Sandboxes

    def named(self, http: Request) -> Sandbox:
        """The sandbox that a request's path names."""

    def shown(self, http: Request, sandbox: Sandbox) -> SandboxInfo:
        """What the caller is told of a sandbox."""


class _Calls:
    def __init__(self, server: HasSandboxes) -> None:
        self._server = server

    async def change(self, http: Request, spec: SetEgress) -> Json[SandboxInfo]:
        """Changes what a sandbox may reach, at once."""
        sandbox = self._server.named(http)
        sandboxes = self._server.sandboxes
        await sandboxes.set_egress(sandbox, sandboxes.outlets.check(spec.egress))
        return Json(self._server.shown(http, sandbox))

    async def log(self, http: Request) -> Json[EgressLog]:
        """The connections that a sandbox has asked for, the newest last."""
        entries = self._server.sandboxes.outlets.entries(self._server.named(http).record.uid)
        return Json(EgressLog(entries=entries, count=len(entries)))


def egress_routes(server: HasSandboxes) -> list[Call]:
    """All of them."""
    calls = _Calls(server)
    return [
        Call("PUT", "/v1/sandboxes/{id}/egress", calls.change, UNNAMED),
        Call("GET", "/v1/sandboxes/{id}/egress/log", calls.log, UNNAMED),
    ]
