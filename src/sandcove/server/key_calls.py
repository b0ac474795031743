"""The routes of keys; whoever has the scope `admin` may use them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandcove.asgi import body, json, route
from sandcove.wire.keys import CreateKey, KeyCreated, KeyList

if TYPE_CHECKING:
    from sandcove.server.app import Server

__all__ = ["key_routes"]

_log = logging.getLogger("sandcove.server")


class _Calls:
    def __init__(self, server: Server) -> None:
        self._server = server

    async def all(self, http: Request) -> Response:
        if http.method == "POST":
            key, text = self._server.keys.create(await body(http, CreateKey))
            _log.info("key %s of tenant %s was made", key.id, key.tenant)
            return json(KeyCreated(**msgspec.structs.asdict(key.info()), key=text), 201)
        found = [key.info() for key in self._server.keys.all()]
        return json(KeyList(keys=found, count=len(found)))

    async def revoke(self, http: Request) -> Response:
        key = self._server.keys.revoke(http.path_params["id"])
        self._server.authentication.end(key.id)
        self._server.end_proxied(key.id)
        _log.info("key %s of tenant %s was revoked", key.id, key.tenant)
        return json(key.info())


def key_routes(server: Server) -> list[Route]:
    """All of them."""
    calls = _Calls(server)
    return [
        Route("/v1/keys", calls.all, methods=["GET", "POST"]),
        route("DELETE", "/v1/keys/{id}", calls.revoke),
    ]
