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
from sandcove.server.auth import Authentication, as_local, caller_of
from sandcove.server.caller import LOCAL
from sandcove.server.config import Settings
from sandcove.server.gate import checked
from sandcove.server.health import health_routes
from sandcove.server.key_calls import key_routes
from sandcove.server.keys import Keys
from sandcove.server.lifecycle import Sandbox, Sandboxes
from sandcove.server.limit_calls import limit_routes
from sandcove.server.metrics import metrics_of
from sandcove.server.port_calls import ALL_METHODS, port_routes
from sandcove.server.preview.api import without_previews
from sandcove.server.preview.previews import Previews
from sandcove.server.quotas import EXECS, Counted, Quotas
from sandcove.server.relay import Relay
from sandcove.server.tokens import Tokens
from sandcove.wire import WIRE_VERSION
from sandcove.wire.clock import timestamp
from sandcove.wire.codec import encode
from sandcove.wire.http import quote
from sandcove.wire.keys import CreateToken
from sandcove.wire.models import CreateSandbox, SandboxList, ServerInfo

__all__ = ["Server"]


class Server:
    """The server wire over `sandboxes`.

    Attributes:
        app: for the Unix socket, whose callers may do everything.
        guarded_app: for every other listener: each request needs a key or a sandbox token.
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
        keys: Keys,
        tokens: Tokens,
        audit: Audit,
        previews: Previews,
    ) -> None:
        self.keys = keys
        self.tokens = tokens
        self.sandboxes = sandboxes
        self.quotas = Quotas(keys)
        self.authentication = Authentication(keys, tokens, self.quotas)
        self._home = home
        self._settings = settings
        self._zygote_pid = zygote_pid
        self.ports = previews.ports
        self.base = previews.base
        self._agents = Agents()
        self._started_at = timestamp()
        self.stop = asyncio.Event()
        self.addresses: list[str] = []
        self.ports = previews.ports
        self.base = previews.base
        self.leases: set[asyncio.Task[Any]] = set()
        self._traffic = Counter({"in": 0, "out": 0})
        # What nobody will ask for is not counted: a server without a TCP listener starts without the library.
        self.metrics = metrics_of(sandboxes, self._traffic) if settings.host else None

        def app(around: Callable[[ASGIApp], ASGIApp]) -> ASGIApp:
            return without_previews(application(self._routes(), around, audit.note, self._ended), previews.domain)

        self.app: ASGIApp = app(as_local)
        self.guarded_app: ASGIApp = app(self._guard)

    def _guard(self, app: ASGIApp) -> ASGIApp:
        return checked(self.authentication.guard(app), self.stop)

    async def info(self, http: Request) -> Response:
        caller = caller_of(http.scope)
        admin = "admin" in caller.scopes
        own = self.sandboxes.find({}, None if admin else caller.tenant)
        running = sum(sandbox.room is not None for sandbox in own)
        return json(
            ServerInfo(
                version=__version__,
                wire=WIRE_VERSION,
                pid=os.getpid() if admin else 0,
                home=str(self._home.path) if admin else "",
                started_at=self._started_at,
                running=running,
                asleep=len(own) - running,
                zygote_pid=self._zygote_pid() if admin else None,
                idle_stop_after=int(self._settings.idle_stop * 1000),
                addresses=self.addresses,
            )
        )

    async def stop_server(self, _: Request) -> Response:
        self.stop.set()
        return json({"success": True})

    async def create(self, http: Request) -> Response:
        spec = await body(http, CreateSandbox)
        caller = caller_of(http.scope)
        sandbox, created = await self.sandboxes.get_or_create(spec, caller, self.quotas.of(caller))
        http.state.sandbox = sandbox.record.id
        if spec.lease:
            task = asyncio.current_task()
            assert task is not None
            self.leases.add(task)
            task.add_done_callback(self.leases.discard)
            return Lease(http, self.sandboxes, sandbox, _local(http), created)
        return self._answer(http, sandbox, 201 if created else 200)

    async def find(self, http: Request) -> Response:
        labels = {}
        tenant: str | None = caller_of(http.scope).tenant
        for key, value in http.query_params.multi_items():
            name, equals, wanted = value.partition("=")
            if key == "tenants" and value == "all":
                if "admin" not in caller_of(http.scope).scopes:
                    raise ForbiddenError("the sandboxes of all tenants are for keys of scope admin")
                tenant = None
            elif key == "label" and equals:
                labels[name] = wanted
            else:
                raise InvalidRequestError(
                    f"query {key}={value!r} is not understood; filter by label=NAME=VALUE, ask for all by tenants=all"
                )
        found = self.sandboxes.find(labels, tenant)
        infos = [self.sandboxes.info(sandbox, local=_local(http)) for sandbox in found]
        return json(SandboxList(sandboxes=infos, count=len(infos)))

    async def get(self, http: Request) -> Response:
        return self._answer(http, self.named(http))

    async def destroy(self, http: Request) -> Response:
        sandbox = self.named(http)
        await self.sandboxes.destroy(sandbox)
        return json({"success": True, "id": sandbox.record.id})

    async def wake(self, http: Request) -> Response:
        sandbox = self.named(http)
        await self._wake(http, sandbox)
        return self._answer(http, sandbox)

    async def _wake(self, http: Request, sandbox: Sandbox) -> None:
        await self.sandboxes.wake(sandbox, self.quotas.of(caller_of(http.scope)))

    async def sleep(self, http: Request) -> Response:
        sandbox = self.named(http)
        await self.sandboxes.sleep(sandbox)
        return self._answer(http, sandbox)

    async def create_token(self, http: Request) -> Response:
        sandbox = self.named(http)
        return json(self.tokens.create(sandbox, caller_of(http.scope), await body(http, CreateToken)), 201)

    async def relay(self, http: Request) -> Response:
        sandbox = self.named(http)
        if sandbox.room is None:
            await self._wake(http, sandbox)
        rest = http.path_params["rest"]
        target = "/api/" + quote(rest)
        if query := http.scope["query_string"]:
            target += "?" + query.decode("latin-1")
        wake = lambda: self._wake(http, sandbox)  # noqa: E731
        answer = Relay(http, self._agents, sandbox.socket, target, wake=wake, traffic=self._traffic)
        return Counted(answer, self.quotas, caller_of(http.scope)) if rest in EXECS else answer

    async def show_metrics(self, http: Request) -> Response:
        if "admin" not in caller_of(http.scope).scopes:
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

    def named(self, http: Request) -> Sandbox:
        """The sandbox that a request's path names."""
        return self.sandboxes.get(http.path_params["id"], caller_of(http.scope))

    def _answer(self, http: Request, sandbox: Sandbox, status: int = 200) -> Response:
        return json(self.sandboxes.info(sandbox, local=_local(http)), status)

    def _routes(self) -> list[BaseRoute]:
        return [
            *port_routes(self),
            # All that happens inside a sandbox goes this way.
            Route("/v1/sandboxes/{id}/api/{rest:path}", self.relay, methods=ALL_METHODS),
            route("GET", "/v1/server", self.info),
            route("POST", "/v1/server/stop", self.stop_server),
            *key_routes(self),
            Route("/v1/sandboxes", self.all, methods=["GET", "POST"]),
            Route("/v1/sandboxes/{id}", self.sandbox, methods=["GET", "DELETE"]),
            route("POST", "/v1/sandboxes/{id}/wake", self.wake),
            route("POST", "/v1/sandboxes/{id}/sleep", self.sleep),
            route("POST", "/v1/sandboxes/{id}/tokens", self.create_token),
            *limit_routes(self),
            *health_routes(self),
            route("GET", "/metrics", self.show_metrics),
        ]

    async def all(self, http: Request) -> Response:
        return await (self.create(http) if http.method == "POST" else self.find(http))

    async def sandbox(self, http: Request) -> Response:
        return await (self.destroy(http) if http.method == "DELETE" else self.get(http))


class Lease(Response):
    """One line with the sandbox, then silence; the sandbox lives as long as the caller's connection."""

    def __init__(self, http: Request, sandboxes: Sandboxes, sandbox: Sandbox, local: bool, created: bool) -> None:
        super().__init__(status_code=201 if created else 200, media_type="application/x-ndjson")
        del self.headers["content-length"]
        self._http = http
        self.sandboxes = sandboxes
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
            await asyncio.shield(self.sandboxes.destroy(self._sandbox))
        await send({"type": "http.response.body", "body": b""})


def _local(http: Request) -> bool:
    """The caller came by the Unix socket, so that it is on this machine and may open the agents' sockets."""
    return caller_of(http.scope) is LOCAL
