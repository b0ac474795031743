"""The server's routes: the server wire, all of it in one table at the end."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sandcove._version import __version__
from sandcove.asgi import application, body, disconnected, json, route
from sandcove.errors import ForbiddenError, HostUnsupportedError, InvalidRequestError
from sandcove.home import Home
from sandcove.server.agents import Agents
from sandcove.server.audit import Audit
from sandcove.server.caller import LOCAL
from sandcove.server.config import Settings
from sandcove.server.gate import Authenticate, Gate
from sandcove.server.health import health_routes
from sandcove.server.lifecycle import Sandbox, Sandboxes
from sandcove.server.metrics import metrics_of
from sandcove.server.relay import Relay
from sandcove.wire import WIRE_VERSION
from sandcove.wire.clock import timestamp
from sandcove.wire.codec import encode
from sandcove.wire.http import quote
from sandcove.wire.models import CreateSandbox, SandboxList, ServerInfo

__all__ = ["Server"]

_ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Server:
    """The server wire over `sandboxes`.

    Attributes:
        stop: set when a caller asks the server to end.
        addresses: the URLs of its TCP listener.
        leases: the tasks of calls that only hold a sandbox.
    """

    def __init__(
        self,
        sandboxes: Sandboxes,
        home: Home,
        settings: Settings,
        *,
        zygote_pid: Callable[[], int | None],
        authenticate: Authenticate,
        audit: Audit,
    ) -> None:
        self._sandboxes = sandboxes
        self._home = home
        self._settings = settings
        self._zygote_pid = zygote_pid
        self._agents = Agents()
        self._started_at = timestamp()
        self.stop = asyncio.Event()
        self.addresses: list[str] = []
        self.leases: set[asyncio.Task[Any]] = set()
        self._traffic = Counter({"in": 0, "out": 0})
        # What nobody will ask for is not counted: a server without a TCP listener starts without the library.
        self.metrics = metrics_of(sandboxes, self._traffic) if settings.host else None
        self.app: ASGIApp = application(self._routes(), Gate(authenticate, self.stop), audit.note, self._ended)

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
                addresses=self.addresses,
            )
        )

    async def stop_server(self, _: Request) -> Response:
        self.stop.set()
        return json({"success": True})

    async def create(self, http: Request) -> Response:
        spec = await body(http, CreateSandbox)
        sandbox, created = await self._sandboxes.get_or_create(spec)
        http.state.sandbox = sandbox.record.id
        if spec.lease:
            task = asyncio.current_task()
            assert task is not None
            self.leases.add(task)
            task.add_done_callback(self.leases.discard)
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
        return self._answer(http, self._named(http))

    async def destroy(self, http: Request) -> Response:
        sandbox = self._named(http)
        await self._sandboxes.destroy(sandbox)
        return json({"success": True, "id": sandbox.record.id})

    async def wake(self, http: Request) -> Response:
        sandbox = self._named(http)
        await self._sandboxes.wake(sandbox)
        return self._answer(http, sandbox)

    async def sleep(self, http: Request) -> Response:
        sandbox = self._named(http)
        await self._sandboxes.sleep(sandbox)
        return self._answer(http, sandbox)

    async def relay(self, http: Request) -> Response:
        sandbox = self._named(http)
        if sandbox.room is None:
            await self._sandboxes.wake(sandbox)
        target = "/api/" + quote(http.path_params["rest"])
        if query := http.scope["query_string"]:
            target += "?" + query.decode("latin-1")
        return Relay(
            http,
            self._agents,
            sandbox.socket,
            target,
            wake=lambda: self._sandboxes.wake(sandbox),
            traffic=self._traffic,
        )

    async def show_metrics(self, http: Request) -> Response:
        if "admin" not in http.state.caller.scopes:
            raise ForbiddenError("metrics are for keys with the scope admin")
        if self.metrics is None:
            raise HostUnsupportedError(
                "this server keeps no metrics: it has no TCP listener, or prometheus-client is missing, "
                "which `pip install 'sandcove[server]'` brings"
            )
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    def _ended(self, scope: Scope, status: int, seconds: float) -> None:
        if self.metrics is not None:
            found = scope.get("route")
            self.metrics.count("none" if found is None else found.path, scope["method"], status, seconds)

    def _named(self, http: Request) -> Sandbox:
        return self._sandboxes.get(http.path_params["id"])

    def _answer(self, http: Request, sandbox: Sandbox, status: int = 200) -> Response:
        return json(self._sandboxes.info(sandbox, local=_local(http)), status)

    def _routes(self) -> list[BaseRoute]:
        return [
            # The first that is tried: all that happens inside a sandbox goes this way.
            Route("/v1/sandboxes/{id}/api/{rest:path}", self.relay, methods=_ALL_METHODS),
            route("GET", "/v1/server", self.info),
            route("POST", "/v1/server/stop", self.stop_server),
            Route("/v1/sandboxes", self.sandboxes, methods=["GET", "POST"]),
            Route("/v1/sandboxes/{id}", self.sandbox, methods=["GET", "DELETE"]),
            route("POST", "/v1/sandboxes/{id}/wake", self.wake),
            route("POST", "/v1/sandboxes/{id}/sleep", self.sleep),
            *health_routes(self),
            route("GET", "/metrics", self.show_metrics),
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
    """The caller is on this machine and may talk to agents directly: it has come by the server's Unix socket."""
    return http.state.caller is LOCAL
