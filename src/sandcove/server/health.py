"""Whether the server is there, and whether it takes calls: for load balancers and supervisors, without a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from sandcove.asgi import json, route
from sandcove.errors import ServiceUnavailableError

if TYPE_CHECKING:
    from sandcove.server.app import Server

__all__ = ["health_routes"]


def health_routes(server: Server) -> list[BaseRoute]:
    """The routes of both."""

    async def alive(_: Request) -> Response:
        return json({"success": True})

    async def ready(_: Request) -> Response:
        if server.stop.is_set():
            raise ServiceUnavailableError("the server is stopping")
        return json({"success": True})

    return [route("GET", "/healthz", alive), route("GET", "/readyz", ready)]
