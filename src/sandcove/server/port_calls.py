"""The routes of ports: expose one, take it back, list them."""

from __future__ import annotations

from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sandcove.calls import Call, Json
from sandcove.errors import (
    InvalidRequestError,
    NotFoundError,
    PortAlreadyExposedError,
    PortNotExposedError,
)
from sandcove.server.lifecycle import UNNAMED, Sandbox
from sandcove.server.ports import Exposure, Ports
from sandcove.server.preview.address import make_label, new_token
from sandcove.wire.answers import PortDone, PortExposed
from sandcove.wire.clock import timestamp
from sandcove.wire.models import ExposedPort, ExposePort, PortList, UnexposePort
from sandcove.wire.names import check_port, check_port_name, check_port_token
from sandcove.wire.preview import Base

__all__ = ["ALL_METHODS", "agent_port_routes", "port_routes"]

ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class HasPorts(Protocol):
    """The server, as far as these calls need it."""

    ports: Ports

    async def base(self) -> Base:
        """What the URLs of previews have in common; their listener runs when it returns."""

    def named(self, http: Request) -> Sandbox:
        """The sandbox that a request's path names."""


class _Calls:
    def __init__(self, server: HasPorts) -> None:
        self._server = server

    async def expose(self, http: Request, spec: ExposePort) -> Json[PortExposed]:
        """Gives a port of a sandbox a URL."""
        uid = self._server.named(http).record.uid
        check_port(spec.port)
        if spec.name is not None:
            check_port_name(spec.name)
        if spec.public and spec.token is not None:
            raise InvalidRequestError("a public port has no token; give public or token")
        token = None if spec.public else spec.token or new_token()
        if spec.token is not None:
            check_port_token(spec.token)
        make_label(spec.port, uid, token)
        base = await self._server.base()
        # It may have been destroyed meanwhile.
        self._server.named(http)
        answer = _shown(self._server.ports.expose(uid, spec.port, spec.name, token), base)
        return Json(PortExposed(**msgspec.structs.asdict(answer), success=True, timestamp=timestamp()))

    async def end(self, http: Request) -> Json[PortDone]:
        """Takes a port's URL away."""
        return self._end(http, http.path_params["port"])

    async def end_named(self, http: Request, spec: UnexposePort) -> Json[PortDone]:
        """Takes a port's URL away."""
        return self._end(http, str(spec.port))

    def _end(self, http: Request, text: str) -> Json[PortDone]:
        uid = self._server.named(http).record.uid
        if not text.isascii() or not text.isdigit() or len(text) > 5:
            raise InvalidRequestError(f"port {text[:40]!r} is no number from 1 to 65535")
        port = check_port(int(text))
        self._server.ports.end(uid, port)
        return Json(PortDone(port=port, timestamp=timestamp()))

    async def find(self, http: Request) -> Json[PortList]:
        """The ports of a sandbox that have URLs."""
        found = self._server.ports.of(self._server.named(http).record.uid)
        base = await self._server.base() if found else Base("http", "localhost", 80)
        ports = [_shown(exposure, base) for exposure in found]
        return Json(PortList(ports=ports, count=len(ports), timestamp=timestamp()))

    async def elsewhere(self, _: Request) -> Response:
        """A request for a service that came where it can't be passed on: its first line came in pieces."""
        raise NotFoundError("this request can't be passed on over this connection; open a new one")


def _shown(exposure: Exposure, base: Base) -> ExposedPort:
    return ExposedPort(
        port=exposure.port,
        url=base.url(make_label(exposure.port, exposure.uid, exposure.token)),
        exposed_at=exposure.exposed_at,
        name=exposure.name,
        public=exposure.token is None,
    )


EXPOSING = (*UNNAMED, PortAlreadyExposedError)
ENDING = (*UNNAMED, PortNotExposedError)


def agent_port_routes(server: HasPorts) -> list[Call | BaseRoute]:
    """Those of the agent wire, which are answered here, not by the agent: they stand before the relay's."""
    calls = _Calls(server)
    return [
        Call("POST", "/v1/sandboxes/{id}/api/expose-port", calls.expose, EXPOSING),
        Call("DELETE", "/v1/sandboxes/{id}/api/unexpose-port", calls.end_named, ENDING),
        Call("GET", "/v1/sandboxes/{id}/api/exposed-ports", calls.find, UNNAMED),
    ]


def port_routes(server: HasPorts) -> list[Call | BaseRoute]:
    """Those of the server wire."""
    calls = _Calls(server)
    return [
        Call("GET", "/v1/sandboxes/{id}/ports", calls.find, UNNAMED),
        Call("POST", "/v1/sandboxes/{id}/ports", calls.expose, EXPOSING),
        Call("DELETE", "/v1/sandboxes/{id}/ports/{port}", calls.end, ENDING),
        Route("/v1/sandboxes/{id}/proxy/{port}/{rest:path}", calls.elsewhere, methods=ALL_METHODS),
        Route("/v1/previews/{label}/{rest:path}", calls.elsewhere, methods=ALL_METHODS),
    ]
