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
from sandcove.asgi import application, disconnected
from sandcove.calls import Call, Created, Json, Many, Text
from sandcove.errors import (
    ConflictError,
    ContainerNotReadyError,
    FileSystemError,
    ForbiddenError,
    HostUnsupportedError,
    InvalidRequestError,
    QuotaExceededError,
    RateLimitedError,
    SandboxError,
    SecurityError,
    ServiceUnavailableError,
    UnauthorizedError,
)
from sandcove.home import Home
from sandcove.server.agents import Agents
from sandcove.server.audit import Audit
from sandcove.server.auth import Authentication, as_local, caller_of
from sandcove.server.caller import LOCAL
from sandcove.server.checks import checked
from sandcove.server.config import Settings
from sandcove.server.crowd import Crowd
from sandcove.server.documents import document_routes
from sandcove.server.egress_calls import egress_routes
from sandcove.server.health import health_routes
from sandcove.server.key_calls import key_routes
from sandcove.server.keys import Keys
from sandcove.server.lifecycle import UNNAMED, Sandbox, Sandboxes
from sandcove.server.limit_calls import limit_routes
from sandcove.server.metrics import metrics_of
from sandcove.server.port_calls import ALL_METHODS, agent_port_routes, port_routes
from sandcove.server.preview.api import without_previews
from sandcove.server.preview.previews import Previews
from sandcove.server.quotas import EXECS, STARTS, Counted, Quotas, Started
from sandcove.server.relay import Relay
from sandcove.server.secret_calls import secret_routes
from sandcove.server.tokens import Tokens
from sandcove.wire import WIRE_VERSION
from sandcove.wire.answers import Destroyed, Success
from sandcove.wire.clock import timestamp
from sandcove.wire.codec import encode
from sandcove.wire.http import quote
from sandcove.wire.keys import CreateToken, TokenCreated
from sandcove.wire.models import CreateSandbox, SandboxInfo, SandboxList, ServerInfo, SetTimeToLive
from sandcove.wire.queries import WhichSandboxes

__all__ = ["Server"]

LONGEST = 16 * 1024 * 1024
"""Bytes of a body that the server reads itself."""
EVERY = (
    InvalidRequestError,
    UnauthorizedError,
    ForbiddenError,
    RateLimitedError,
    SandboxError,
    ServiceUnavailableError,
)
"""What every call may end in."""
WAKING = (HostUnsupportedError, QuotaExceededError, ContainerNotReadyError, ConflictError)
"""What waking a sandbox may end in."""
RELAYED = (*UNNAMED, *WAKING)
"""What a call to an agent may end in, beside what the agent answers."""


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
        crowd: Crowd,
    ) -> None:
        self.keys = keys
        self.tokens = tokens
        self.sandboxes = sandboxes
        self.quotas = Quotas(keys)
        self.authentication = Authentication(keys, tokens, self.quotas)
        self._home = home
        self._settings = settings
        self._zygote_pid = zygote_pid
        self._agents = Agents()
        self._started_at = timestamp()
        self.stop = asyncio.Event()
        self.addresses: list[str] = []
        self.ports = previews.ports
        self.base = previews.base
        self.end_proxied = previews.end_proxied
        self.leases: set[asyncio.Task[Any]] = set()
        self._traffic = Counter({"in": 0, "out": 0})
        # What nobody will ask for is not counted: a server without a TCP listener starts without the library.
        self.metrics = metrics_of(sandboxes, self._traffic, crowd) if settings.host else None

        def app(around: Callable[[ASGIApp], ASGIApp]) -> ASGIApp:
            return without_previews(
                application(self.routes(), around, audit.note, self._ended, LONGEST), previews.domain
            )

        self.app: ASGIApp = app(as_local)
        self.guarded_app: ASGIApp = app(self._guard)

    def _guard(self, app: ASGIApp) -> ASGIApp:
        return checked(self.authentication.guard(app), self.stop)

    async def info(self, http: Request) -> Json[ServerInfo]:
        """What the server is, and how many sandboxes it has."""
        caller = caller_of(http.scope)
        admin = "admin" in caller.scopes
        own = self.sandboxes.find({}, None if admin else caller.tenant)
        running = sum(sandbox.room is not None for sandbox in own)
        return Json(
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

    async def stop_server(self, _: Request) -> Json[Success]:
        """Stops the server."""
        self.stop.set()
        return Json(Success())

    async def create(self, http: Request, spec: CreateSandbox) -> Json[SandboxInfo] | Created[SandboxInfo] | Lease:
        """Makes a sandbox, or finds it; it is awake then. With `lease` it lives as long as the connection."""
        caller = caller_of(http.scope)
        sandbox, created = await self.sandboxes.get_or_create(spec, caller, self.quotas.of(caller))
        http.state.sandbox = sandbox.record.id
        if spec.lease:
            task = asyncio.current_task()
            assert task is not None
            self.leases.add(task)
            task.add_done_callback(self.leases.discard)
            return Lease(http, self.sandboxes, sandbox, _local(http), created)
        return Created(self.shown(http, sandbox)) if created else Json(self.shown(http, sandbox))

    async def find(self, http: Request, query: WhichSandboxes) -> Json[SandboxList]:
        """The sandboxes."""
        caller = caller_of(http.scope)
        if query.tenants == "all" and "admin" not in caller.scopes:
            raise ForbiddenError("the sandboxes of all tenants are for keys of scope admin")
        tenant = None if query.tenants == "all" else caller.tenant
        labels = {}
        for text in query.label:
            name, equals, value = text.partition("=")
            if not equals:
                raise InvalidRequestError(f"label={text[:80]!r} is not understood; filter by label=NAME=VALUE")
            labels[name] = value
        found = self.sandboxes.find(labels, tenant)
        infos = [self.shown(http, sandbox) for sandbox in found]
        return Json(SandboxList(sandboxes=infos, count=len(infos)))

    async def get(self, http: Request) -> Json[SandboxInfo]:
        """A sandbox, as it is."""
        return Json(self.shown(http, self.named(http)))

    async def destroy(self, http: Request) -> Json[Destroyed]:
        """Destroys a sandbox with its files."""
        sandbox = self.named(http)
        await self.sandboxes.destroy(sandbox)
        return Json(Destroyed(id=sandbox.record.id))

    async def wake(self, http: Request) -> Json[SandboxInfo]:
        """Wakes a sandbox, if it sleeps."""
        sandbox = self.named(http)
        await self._wake(http, sandbox)
        return Json(self.shown(http, sandbox))

    async def _wake(self, http: Request, sandbox: Sandbox) -> None:
        await self.sandboxes.wake(sandbox, self.quotas.of(caller_of(http.scope)))

    async def sleep(self, http: Request) -> Json[SandboxInfo]:
        """Puts a sandbox to sleep: its processes end, its files stay."""
        sandbox = self.named(http)
        await self.sandboxes.sleep(sandbox)
        return Json(self.shown(http, sandbox))

    async def set_time_to_live(self, http: Request, spec: SetTimeToLive) -> Json[SandboxInfo]:
        """Moves the end of a sandbox: it is destroyed when this time from now is over."""
        sandbox = self.named(http)
        self.sandboxes.set_time_to_live(sandbox, spec.time_to_live)
        return Json(self.shown(http, sandbox))

    async def create_token(self, http: Request, spec: CreateToken) -> Created[TokenCreated]:
        """Makes a token that is good for this sandbox alone."""
        return Created(self.tokens.create(self.named(http), caller_of(http.scope), spec))

    async def relay(self, http: Request) -> Response:
        sandbox = self.named(http)
        if sandbox.room is None:
            await self._wake(http, sandbox)
        rest = http.path_params["rest"]
        target = "/api/" + quote(rest)
        if query := http.scope["query_string"]:
            target += "?" + query.decode("latin-1")
        wake = lambda: self._wake(http, sandbox)  # noqa: E731
        answer = Relay(
            http, self._agents, sandbox.socket, target, wake=wake, traffic=self._traffic, broken=sandbox.broken
        )
        caller = caller_of(http.scope)
        if rest == STARTS:
            return Started(answer, self.quotas, caller, lambda: self.sandboxes.processes(caller.tenant))
        return Counted(answer, self.quotas, caller) if rest in EXECS else answer

    async def show_metrics(self, http: Request) -> Text:
        """What the server has counted, as Prometheus reads it; of scope `admin`."""
        if "admin" not in caller_of(http.scope).scopes:
            raise ForbiddenError("metrics are for keys with the scope admin")
        if self.metrics is None:
            raise HostUnsupportedError(
                "this server keeps no metrics: it has no TCP listener, or prometheus-client is missing, "
                "which `pip install 'sandcove[server]'` brings"
            )
        return Text(self.metrics.text())

    def _ended(self, scope: Scope, status: int, seconds: float) -> None:
        if self.metrics is not None:
            found = scope.get("route")
            self.metrics.count("none" if found is None else found.path, scope["method"], status, seconds)

    def named(self, http: Request) -> Sandbox:
        """The sandbox that a request's path names."""
        return self.sandboxes.get(http.path_params["id"], caller_of(http.scope))

    def shown(self, http: Request, sandbox: Sandbox) -> SandboxInfo:
        """What the caller is told of a sandbox."""
        return self.sandboxes.info(sandbox, local=_local(http))

    def routes(self) -> list[Call | BaseRoute]:
        """All of them; made without anything that a call would need."""
        return [
            *agent_port_routes(self),
            # All that happens inside a sandbox goes this way.
            Route("/v1/sandboxes/{id}/api/{rest:path}", self.relay, methods=ALL_METHODS),
            Call("GET", "/v1/server", self.info),
            Call("POST", "/v1/server/stop", self.stop_server),
            *key_routes(self),
            Call("GET", "/v1/sandboxes", self.find),
            Call("POST", "/v1/sandboxes", self.create, [SecurityError, *WAKING, FileSystemError]),
            Call("GET", "/v1/sandboxes/{id}", self.get, UNNAMED),
            Call("DELETE", "/v1/sandboxes/{id}", self.destroy, UNNAMED),
            Call("POST", "/v1/sandboxes/{id}/wake", self.wake, [*UNNAMED, *WAKING]),
            Call("POST", "/v1/sandboxes/{id}/sleep", self.sleep, [*UNNAMED, *WAKING]),
            Call("POST", "/v1/sandboxes/{id}/tokens", self.create_token, UNNAMED),
            Call("POST", "/v1/sandboxes/{id}/time-to-live", self.set_time_to_live, UNNAMED),
            *egress_routes(self),
            *limit_routes(self),
            *secret_routes(self),
            *port_routes(self),
            *document_routes(),
            *health_routes(self),
            Call("GET", "/metrics", self.show_metrics, [HostUnsupportedError]),
        ]


class Lease(Many[SandboxInfo]):
    """One line with the sandbox, then silence; the sandbox lives as long as the caller's connection."""

    media_type = "application/x-ndjson"
    statuses = (200, 201)

    def __init__(self, http: Request, sandboxes: Sandboxes, sandbox: Sandbox, local: bool, created: bool) -> None:
        super().__init__(status_code=201 if created else 200)
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
