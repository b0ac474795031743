"""Which requests are for a preview or a proxy, and the way to the service that answers them."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from sandcove.errors import SandboxError
from sandcove.server.caller import Caller
from sandcove.server.keys import Keys
from sandcove.server.lifecycle import Sandbox, Sandboxes
from sandcove.server.ports import Exposure, Ports
from sandcove.server.preview.address import Place, in_path
from sandcove.server.preview.head import Refused, Request, is_host
from sandcove.server.preview.page import Page, gone, unknown, wrong
from sandcove.server.preview.rewrite import Origin
from sandcove.server.preview.upstream import Upstream
from sandcove.wire.keys import Limits
from sandcove.wire.preview import Label, in_host

if TYPE_CHECKING:
    from sandcove.server.preview.front import Front

__all__ = ["Authenticate", "Gate", "Target"]

Authenticate = Callable[[Request], tuple[Caller, str]]
"""Says who sent a request, and the path that its own stands for. Raises `UnauthorizedError`, `ForbiddenError`,
`RateLimitedError`."""

WAIT = 1.0
"""Seconds that a request waits for a service that does not listen yet."""


class Target:
    """Where a request goes.

    Attributes:
        key: requests of the same key can use each other's connections.
        origin: what the service is told of the request.
        by: the id of the key that asks, if one does: its limits hold.
        shown: the id of the key with whose end the request ends: the one that asks, or that of the proxy it came by.
    """

    def __init__(self, sandbox: Sandbox, origin: Origin, ports: Ports | None, by: str | None = None) -> None:
        self.sandbox = sandbox
        self.by = self.shown = by
        self.origin = origin
        self.key = (sandbox, origin.port)
        self._ports = ports

    def begin(self, front: Front) -> None:
        """The sandbox is in use; if the port is no more exposed, `front` is told."""
        self.sandbox.enter()
        if self._ports is not None:
            self._ports.watch(self.sandbox.record.uid, self.origin.port, front)

    def end(self, front: Front) -> None:
        self.sandbox.leave()
        if self._ports is not None:
            self._ports.forget(self.sandbox.record.uid, self.origin.port, front)


class Visitor(NamedTuple):
    """Who asks a proxy for a preview, as that one says.

    Attributes:
        tenant: the proxy's own.
        host: that the visitor has asked for, with the port.
        scheme: ``http`` or ``https``.
        address: the visitor's; empty when it is not known.
    """

    tenant: str
    host: str
    scheme: str
    address: str

    @classmethod
    def of(cls, request: Request, front: Front, caller: Caller) -> Visitor:
        """By the headers of a request.

        Raises:
            Refused: they are wrong.
        """
        host, scheme, address = (
            (request.get(name) or b"").decode("latin-1")
            for name in (b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-for")
        )
        if host and not is_host(host):
            raise Refused(400, "X-Forwarded-Host is no host")
        if scheme not in ("", "http", "https"):
            raise Refused(400, "X-Forwarded-Proto is neither http nor https")
        return cls(caller.tenant, host or request.host, scheme or front.scheme, address)


class Gate:
    """For all connections of a server.

    Args:
        domain: below which the hosts of previews are.
    """

    def __init__(self, sandboxes: Sandboxes, ports: Ports, keys: Keys, domain: str) -> None:
        self._sandboxes = sandboxes
        self._ports = ports
        self._keys = keys
        self._domain = domain
        self._tasks: set[asyncio.Task[None]] = set()
        self.fronts: set[Front] = set()

    def is_preview_host(self, host: str) -> bool:
        """The Host header's value names a preview, if one that does not exist."""
        return in_host(host, self._domain) is not None

    def find(self, request: Request, front: Front, authenticate: Authenticate | None) -> Target | Page | None:
        """Where the request goes, or the page that answers it; None if it is for the API.

        Args:
            authenticate: says who sent it; None where there are previews only.
        """
        label = in_host(request.host, self._domain)
        if label is not None:
            return self._preview(front, label, request.target)
        place = in_path(request.target)
        if place is None:
            return None
        path = "/" + place.path if not place.path.startswith("/") else place.path
        if place.relayed:
            return self._relayed(request, front, place, path, authenticate)
        if place.label is not None:
            found = self._preview(front, place.label, path, prefix=place.prefix)
            if isinstance(found, Target) and not place.path.startswith("/"):
                # Without the slash the page's own links would lead elsewhere.
                return Page(308, "NOT_FOUND", "Moved", place.prefix + path, location=place.prefix + path)
            return found
        assert place.proxy is not None
        if authenticate is None:
            return unknown()
        try:
            caller, stands_for = authenticate(request)
            name, port = place.proxy
            shown = place.prefix
            if name is None:
                name = stands_for.split("/")[3]
                shown = f"/v1/sandboxes/{name}/proxy/{port}"
            return self._proxied(front, caller, name, port, prefix=place.prefix, shown=shown, path=path)
        except SandboxError as error:
            return Page(error.status, error.code, "Not passed on", str(error))

    def _preview(
        self, front: Front, label: Label, path: str, *, prefix: str = "", visitor: Visitor | None = None
    ) -> Target | Page:
        exposure = self._exposure(label)
        if exposure is None:
            return unknown()
        sandbox = self._sandboxes.of_uid(exposure.uid)
        if visitor is not None and (sandbox is None or sandbox.record.tenant != visitor.tenant):
            return unknown()
        if exposure.ended:
            return gone()
        if sandbox is None:
            return unknown()
        seen = visitor or Visitor("", "", front.scheme, front.peer)
        origin = Origin(
            label.port, path, prefix, prefix, seen.scheme, seen.address, sandbox.record.id, False, seen.host
        )
        return Target(sandbox, origin, self._ports)

    def _relayed(
        self, request: Request, front: Front, place: Place, path: str, authenticate: Authenticate | None
    ) -> Target | Page:
        """A preview that a proxy asks for. It gets those of its own tenant: others have no business at its hosts."""
        if authenticate is None or place.label is None:
            return unknown()
        try:
            caller, _ = authenticate(request)
        except SandboxError as error:
            return Page(error.status, error.code, "Not passed on", str(error))
        try:
            visitor = Visitor.of(request, front, caller)
        except Refused as error:
            return wrong(error.status, str(error))
        found = self._preview(front, place.label, path, visitor=visitor)
        if isinstance(found, Target):
            found.shown = caller.key
        return found

    def _exposure(self, label: Label) -> Exposure | None:
        if (pair := label.with_token()) is not None:
            found = self._ports.find(pair[0], label.port)
            if found is not None and found.token is not None and hmac.compare_digest(found.token, pair[1]):
                return found
        found = self._ports.find(label.rest, label.port)
        return found if found is not None and found.token is None else None

    def _proxied(
        self, front: Front, caller: Caller, name: str, port: int, *, prefix: str, shown: str, path: str
    ) -> Target | Page:
        if not 0 < port < 65536:
            return wrong(400, f"port {port} is not between 1 and 65535")
        sandbox = self._sandboxes.get(name, caller)
        origin = Origin(port, path, prefix, shown, front.scheme, front.peer, sandbox.record.id, True)
        return Target(sandbox, origin, None, caller.key)

    async def connect(self, target: Target) -> Upstream:
        """Wakes the sandbox if it sleeps, and connects to the service.

        Raises:
            SandboxError: it can't be had, or nothing listens.
        """
        tenant = target.sandbox.record.tenant

        def limits() -> Limits:
            return self._keys.limits_of(tenant) if target.by is None else self._keys.still_good(target.by).limits

        return await Upstream.over(await self._sandboxes.connect(target.sandbox, target.origin.port, WAIT, limits))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs `work` beside; ended by `close` at the latest."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Ends every connection."""
        for front in list(self.fronts):
            front.cut()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
