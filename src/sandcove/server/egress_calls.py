"""The routes of egress: change what a sandbox may reach, and see what it asked for."""

from __future__ import annotations

from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from sandcove.asgi import body, json, route
from sandcove.server.lifecycle import Sandbox, Sandboxes
from sandcove.wire.models import EgressLog, SetEgress

__all__ = ["egress_routes"]


class HasSandboxes(Protocol):
    """The server, as far as these calls need it."""

    sandboxes: Sandboxes

    def named(self, http: Request) -> Sandbox:
        """The sandbox that a request's path names."""

    def answer(self, http: Request, sandbox: Sandbox, status: int = 200) -> Response:
        """What is known of a sandbox."""


def egress_routes(server: HasSandboxes) -> list[BaseRoute]:
    """All of them."""

    async def change(http: Request) -> Response:
        spec = await body(http, SetEgress)
        sandbox = server.named(http)
        sandboxes = server.sandboxes
        sandboxes.set_egress(sandbox, sandboxes.outlets.check(spec.egress))
        return server.answer(http, sandbox)

    async def log(http: Request) -> Response:
        entries = server.sandboxes.outlets.entries(server.named(http).record.uid)
        return json(EgressLog(entries=entries, count=len(entries)))

    return [
        route("PUT", "/v1/sandboxes/{id}/egress", change),
        route("GET", "/v1/sandboxes/{id}/egress/log", log),
    ]
