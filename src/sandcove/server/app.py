"""The server's routes: the server wire, all of it in one table at the end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sandcove._version import __version__
from sandcove.asgi import application, body, disconnected, json, route
from sandcove.errors import InvalidRequestError
from sandcove.home import Home
from sandcove.server.agents import Agents
from sandcove.server.config import Settings
from sandcove.server.lifecycle import Sandbox, Sandboxes
from sandcove.server.port_calls import port_routes
from sandcove.server.preview.api import without_previews
from sandcove.server.preview.previews import Previews
from sandcove.server.relay import Relay
from sandcove.wire import WIRE_VERSION
from sandcove.wire.clock import timestamp
from sandcove.wire.codec import encode
from sandcove.wire.http import quote
from sandcove.wire.models import CreateSandbox, SandboxList, ServerInfo

__all__ = ["Server"]

_ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Server:
    """The server wire over `sandboxes`. `stop` is set when a caller asks the server to end."""

    def __init__(
        self,
        sandboxes: Sandboxes,
        home: Home,
        settings: Settings,
        zygote_pid: Callable[[], int | None],
        previews: Previews,
    ) -> None:
        self._sandboxes = sandboxes
        self._home = home
        self._settings = settings
        self._zygote_pid = zygote_pid
        self.ports = previews.ports
        self.base = previews.base
        self._agents = Agents()
        self._started_at = timestamp()
        self.stop = asyncio.Event()
        self.app: ASGIApp = without_previews(application(self._routes()), previews.domain)

    async def info(self, _: Request) -> Response:
        running = len(self._sandboxes.running())
        return json(
            ServerInfo(
                version=__version__,
                wire=WIRE_VERSION,
                pid=os.getpid(),
                home=str(self._home.path),
                started_at=self._started_at,
                running=running,
                asleep=len(self._sandboxes) - running,
                zygote_pid=self._zygote_pid(),
                idle_stop_after=int(self._settings.idle_stop * 1000),
            )
        )

    async def stop_server(self, _: Request) -> Response:
        self.stop.set()
        return json({"success": True})

    async def create(self, http: Request) -> Response:
        spec = await body(http, CreateSandbox)
        sandbox, created = await self._sandboxes.get_or_create(spec)
        if spec.lease:
            return Lease(http, self._sandboxes, sandbox, _local(http), created)
        return self._answer(http, sandbox, 201 if created else 200)

    async def find(self, http: Request) -> Response:
        labels = {}
        for key, value in http.query_params.multi_items():
            name, equals, wanted = value.partition("=")
            if key != "label" or not equals:
                raise InvalidRequestError(f"query {key}={value!r} is not understood; filter by label=NAME=VALUE")
            labels[name] = wanted
        found = self._sandboxes.find(labels)
        infos = [self._sandboxes.info(sandbox, local=_local(http)) for sandbox in found]
        return json(SandboxList(sandboxes=infos, count=len(infos)))

    async def get(self, http: Request) -> Response:
        return self._answer(http, self.named(http))

    async def destroy(self, http: Request) -> Response:
        sandbox = self.named(http)
        await self._sandboxes.destroy(sandbox)
        return json({"success": True, "id": sandbox.record.id})

    async def wake(self, http: Request) -> Response:
        sandbox = self.named(http)
        await self._sandboxes.wake(sandbox)
        return self._answer(http, sandbox)

    async def sleep(self, http: Request) -> Response:
        sandbox = self.named(http)
        await self._sandboxes.sleep(sandbox)
        return self._answer(http, sandbox)

    async def relay(self, http: Request) -> Response:
        sandbox = self.named(http)
        if sandbox.room is None:
            await self._sandboxes.wake(sandbox)
        target = "/api/" + quote(http.path_params["rest"])
        if query := http.scope["query_string"]:
            target += "?" + query.decode("latin-1")
        return Relay(http, self._agents, sandbox.socket, target, lambda: self._sandboxes.wake(sandbox))

    def named(self, http: Request) -> Sandbox:
        return self._sandboxes.get(http.path_params["id"])

    def _answer(self, http: Request, sandbox: Sandbox, status: int = 200) -> Response:
        return json(self._sandboxes.info(sandbox, local=_local(http)), status)

    def _routes(self) -> list[BaseRoute]:
        return [
            *port_routes(self),
            # All that happens inside a sandbox goes this way.
            Route("/v1/sandboxes/{id}/api/{rest:path}", self.relay, methods=_ALL_METHODS),
            route("GET", "/v1/server", self.info),
            route("POST", "/v1/server/stop", self.stop_server),
            Route("/v1/sandboxes", self.sandboxes, methods=["GET", "POST"]),
            Route("/v1/sandboxes/{id}", self.sandbox, methods=["GET", "DELETE"]),
            route("POST", "/v1/sandboxes/{id}/wake", self.wake),
            route("POST", "/v1/sandboxes/{id}/sleep", self.sleep),
        ]

    async def sandboxes(self, http: Request) -> Response:
        return await (self.create(http) if http.method == "POST" else self.find(http))

    async def sandbox(self, http: Request) -> Response:
        return await (self.destroy(http) if http.method == "DELETE" else self.get(http))


class Lease(Response):
    """One line with the sandbox, then silence; the sandbox lives as long as the caller's connection."""

    def __init__(self, http: Request, sandboxes: Sandboxes, sandbox: Sandbox, local: bool, created: bool) -> None:
        super().__init__(status_code=201 if created else 200, media_type="application/x-ndjson")
        del self.headers["content-length"]
        self._http = http
        self._sandboxes = sandboxes
        self._sandbox = sandbox
        self._line = encode(sandboxes.info(sandbox, local=local)) + b"\n"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self._line, "more_body": True})
            gone = asyncio.ensure_future(disconnected(self._http))
            ended = asyncio.ensure_future(self._sandbox.destroyed.wait())
            try:
                await asyncio.wait({gone, ended}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
                ended.cancel()
        finally:
            await asyncio.shield(self._sandboxes.destroy(self._sandbox))
        await send({"type": "http.response.body", "body": b""})


def _local(http: Request) -> bool:
    """The caller is on this machine: a connection over a Unix socket has no peer address."""
    return http.client is None or not http.client.host
