"""The routes of keys; whoever has the scope `admin` may use them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request

from sandcove.calls import Call, Created, Json
from sandcove.errors import ConflictError, NotFoundError
from sandcove.wire.keys import CreateKey, KeyCreated, KeyInfo, KeyList

if TYPE_CHECKING:
    from sandcove.server.app import Server

__all__ = ["key_routes"]

_log = logging.getLogger("sandcove.server")


class _Calls:
    def __init__(self, server: Server) -> None:
        self._server = server

    async def create(self, _: Request, spec: CreateKey) -> Created[KeyCreated]:
        """Makes a key."""
        key, text = self._server.keys.create(spec)
        _log.info("key %s of tenant %s was made", key.id, key.tenant)
        return Created(KeyCreated(**msgspec.structs.asdict(key.info()), key=text))

    async def find(self, _: Request) -> Json[KeyList]:
        """All keys, those that are revoked too."""
        found = [key.info() for key in self._server.keys.all()]
        return Json(KeyList(keys=found, count=len(found)))

    async def revoke(self, http: Request) -> Json[KeyInfo]:
        """Revokes a key: it is good for nothing from now on."""
        key = self._server.keys.revoke(http.path_params["id"])
        self._server.authentication.end(key.id)
        self._server.end_proxied(key.id)
        _log.info("key %s of tenant %s was revoked", key.id, key.tenant)
        return Json(key.info())


def key_routes(server: Server) -> list[Call]:
    """All of them."""
    calls = _Calls(server)
    return [
        Call("GET", "/v1/keys", calls.find),
        Call("POST", "/v1/keys", calls.create, [ConflictError]),
        Call("DELETE", "/v1/keys/{id}", calls.revoke, [NotFoundError]),
    ]
