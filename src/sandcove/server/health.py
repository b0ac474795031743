"""Whether the server is there, and whether it takes calls: for load balancers and supervisors, without a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from sandcove.calls import Call, Json
from sandcove.errors import ServiceUnavailableError
from sandcove.wire.answers import Success

if TYPE_CHECKING:
    from sandcove.server.app import Server

__all__ = ["health_routes"]


def health_routes(server: Server) -> list[Call]:
    """The routes of both."""

    async def alive(_: Request) -> Json[Success]:
        """Whether the server is there."""
        return Json(Success())

    async def ready(_: Request) -> Json[Success]:
        """Whether the server takes calls."""
        if server.stop.is_set():
            raise ServiceUnavailableError("the server is stopping")
        return Json(Success())

    return [Call("GET", "/healthz", alive), Call("GET", "/readyz", ready, [ServiceUnavailableError])]
