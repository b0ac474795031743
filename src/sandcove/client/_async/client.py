"""The server wire: one client for all sandboxes of a server. It starts the local server when none runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar
from weakref import WeakKeyDictionary

import msgspec

from sandcove.client._async.again import again
from sandcove.client._async.connection import AsyncResponse, Body
from sandcove.client._async.io import Lock, run_blocking, shared
from sandcove.client._async.pool import AsyncPool
from sandcove.client.endpoint import Broken, Endpoint, Unreachable
from sandcove.client.results import log
from sandcove.errors import SandboxError, SandboxNetworkError, ServiceUnavailableError, error_from_wire
from sandcove.home import Home
from sandcove.wire import WIRE_VERSION
from sandcove.wire.codec import NOT_JSON, decoder_of, encode
from sandcove.wire.egress_log import EgressLog, SetEgress
from sandcove.wire.http import quote
from sandcove.wire.keys import CreateKey, CreateToken, KeyCreated, KeyInfo, KeyList, TokenCreated
from sandcove.wire.limits import ResourceLimits, ResourceUsage
from sandcove.wire.models import (
    CreateSandbox,
    ExposedPort,
    ExposePort,
    PortList,
    SandboxInfo,
    SandboxList,
    ServerInfo,
    SetTimeToLive,
)
from sandcove.wire.secret_calls import SecretList, SetSecrets

__all__ = ["JSON", "AsyncClient", "answer", "raise_for_error"]

T = TypeVar("T")

JSON = "Content-Type: application/json\r\n"
OWN = b"x-sandcove-error"
"""The header of an error that is the server's own, not that of a service behind it."""
MAX_LINE = 1024 * 1024
"""Bytes of what a server says of a sandbox."""


class AsyncClient:
    """The server at one endpoint, and the connections to it and to its agents.

    Attributes:
        pool: those connections.
        endpoint: where the server listens.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.pool = AsyncPool()
        self.endpoint = endpoint
        self._launching = Lock()
        self._checked = False
        self._locks: WeakKeyDictionary[object, Lock] = WeakKeyDictionary()

    @classmethod
    async def of(cls, endpoint: Endpoint) -> AsyncClient:
        """The one client of the server at `endpoint`."""
        return await shared(endpoint.key, lambda: cls(endpoint))

    def lock(self, of: object) -> Lock:
        """A lock that belongs to `of` and to the loop of this client."""
        return self._locks.setdefault(of, Lock())

    def close(self) -> None:
        """Closes every connection; leases end."""
        self.pool.close()

    def close_in_child(self) -> None:
        """As `close`, right after a fork."""
        self.pool.close_in_child()

    # --- the calls of the server wire ---

    async def server(self) -> ServerInfo:
        """What the server says of itself."""
        return await self.call("GET", "/v1/server", ServerInfo, repeatable=True)

    async def stop(self) -> None:
        """Stops the server gracefully; does not start one for it.

        Raises:
            ServiceUnavailableError: none runs.
        """
        try:
            response = await self.pool.request(self.endpoint, "POST", "/v1/server/stop")
            await raise_for_error(response)
            await response.read()
        except (Unreachable, Broken) as error:
            raise ServiceUnavailableError(f"no server runs at {self.endpoint}: {error}") from None
        self.pool.forget(self.endpoint)
        self._checked = False

    async def create(self, request: CreateSandbox) -> SandboxInfo:
        """Gets or creates a sandbox, and wakes it."""
        return await self.call("POST", "/v1/sandboxes", SandboxInfo, encode(request), repeatable=request.id is not None)

    async def lease(self, request: CreateSandbox) -> tuple[SandboxInfo, AsyncResponse]:
        """Creates a sandbox that lives until the response that is returned with it is closed."""
        await self.check()
        response = await self.request("POST", "/v1/sandboxes", encode(request), JSON)
        line = b""
        try:
            while not line.endswith(b"\n"):
                line += await response.next_piece()
                if len(line) > MAX_LINE:
                    raise SandboxNetworkError(f"the answer is longer than {MAX_LINE:,} bytes")
            return answer(line, SandboxInfo), response
        except Broken as error:
            raise SandboxNetworkError(
                f"the server at {self.endpoint} ended while it made the sandbox: {error}"
            ) from None
        except SandboxError:
            response.close()
            raise

    async def info(self, sandbox_id: str) -> SandboxInfo:
        """What the server knows of a sandbox; does not wake it."""
        return await self.call("GET", f"/v1/sandboxes/{sandbox_id}", SandboxInfo, repeatable=True)

    async def list(self, labels: Mapping[str, str] | None) -> SandboxList:
        """The sandboxes that have all these labels."""
        query = "&".join("label=" + quote(f"{name}={value}") for name, value in (labels or {}).items())
        return await self.call("GET", "/v1/sandboxes" + (f"?{query}" if query else ""), SandboxList, repeatable=True)

    async def wake(self, sandbox_id: str) -> SandboxInfo:
        """Wakes a sandbox; one that is awake is left as it is."""
        return await self.call("POST", f"/v1/sandboxes/{sandbox_id}/wake", SandboxInfo, repeatable=True)

    async def sleep(self, sandbox_id: str) -> SandboxInfo:
        """Puts a sandbox to sleep."""
        return await self.call("POST", f"/v1/sandboxes/{sandbox_id}/sleep", SandboxInfo, repeatable=True)

    async def set_time_to_live(self, sandbox_id: str, request: SetTimeToLive) -> SandboxInfo:
        """Has a sandbox live so long from now."""
        target = f"/v1/sandboxes/{sandbox_id}/time-to-live"
        return await self.call("POST", target, SandboxInfo, encode(request), repeatable=True)

    async def destroy(self, sandbox_id: str) -> None:
        """Destroys a sandbox and its files."""
        await self.call("DELETE", f"/v1/sandboxes/{sandbox_id}", dict)

    async def create_key(self, request: CreateKey) -> KeyCreated:
        """Makes a key for callers over TCP."""
        return await self.call("POST", "/v1/keys", KeyCreated, encode(request))

    async def keys(self) -> KeyList:
        """The server's keys, revoked ones too."""
        return await self.call("GET", "/v1/keys", KeyList, repeatable=True)

    async def revoke_key(self, key_id: str) -> KeyInfo:
        """Revokes a key."""
        return await self.call("DELETE", f"/v1/keys/{quote(key_id).replace('/', '%2F')}", KeyInfo, repeatable=True)

    async def create_token(self, sandbox_id: str, request: CreateToken) -> TokenCreated:
        """Makes a token for one sandbox."""
        return await self.call("POST", f"/v1/sandboxes/{sandbox_id}/tokens", TokenCreated, encode(request))

    async def set_limits(self, sandbox_id: str, limits: ResourceLimits) -> SandboxInfo:
        """Changes what a sandbox may use."""
        target = f"/v1/sandboxes/{sandbox_id}/limits"
        return await self.call("PUT", target, SandboxInfo, encode(limits), repeatable=True)

    async def usage(self, sandbox_id: str) -> ResourceUsage:
        """What a sandbox uses."""
        return await self.call("GET", f"/v1/sandboxes/{sandbox_id}/usage", ResourceUsage, repeatable=True)

    async def expose(self, sandbox_id: str, request: ExposePort) -> ExposedPort:
        """Exposes a port of a sandbox."""
        return await self.call("POST", f"/v1/sandboxes/{sandbox_id}/ports", ExposedPort, encode(request))

    async def unexpose(self, sandbox_id: str, port: int) -> None:
        """Takes that back."""
        await self.call("DELETE", f"/v1/sandboxes/{sandbox_id}/ports/{port}", dict)

    async def ports(self, sandbox_id: str) -> PortList:
        """The exposed ports of a sandbox."""
        return await self.call("GET", f"/v1/sandboxes/{sandbox_id}/ports", PortList, repeatable=True)

    async def set_egress(self, sandbox_id: str, request: SetEgress) -> SandboxInfo:
        """Changes what a sandbox may reach."""
        target = f"/v1/sandboxes/{sandbox_id}/egress"
        return await self.call("PUT", target, SandboxInfo, encode(request), repeatable=True)

    async def egress_log(self, sandbox_id: str) -> EgressLog:
        """What a sandbox asked for."""
        return await self.call("GET", f"/v1/sandboxes/{sandbox_id}/egress/log", EgressLog, repeatable=True)

    async def set_secrets(self, sandbox_id: str, request: SetSecrets) -> SecretList:
        """Changes the secrets of a sandbox."""
        target = f"/v1/sandboxes/{sandbox_id}/secrets"
        return await self.call("PUT", target, SecretList, encode(request), repeatable=True)

    async def secrets(self, sandbox_id: str) -> SecretList:
        """The secrets of a sandbox, without their values."""
        return await self.call("GET", f"/v1/sandboxes/{sandbox_id}/secrets", SecretList, repeatable=True)

    # --- how they reach it ---

    async def check(self) -> None:
        """The server speaks this client's wire version.

        Raises:
            ServiceUnavailableError: it does not.
        """
        if self._checked:
            return
        info = await self.server()
        if info.wire != WIRE_VERSION:
            raise ServiceUnavailableError(
                f"the server at {self.endpoint} is Sandcove {info.version} and speaks wire version {info.wire}, this "
                f"client {WIRE_VERSION}; stop the server with the `sandcove stop` of its own version and try again"
                if self.endpoint.home
                else f"the server at {self.endpoint} is Sandcove {info.version} and speaks wire version {info.wire}, "
                f"this client {WIRE_VERSION}; install a client of the server's version"
            )
        self._checked = True

    async def call(self, method: str, target: str, type: type[T], body: bytes = b"", *, repeatable: bool = False) -> T:
        """Sends a request with this JSON body and decodes the answer as `type`."""
        if not self._checked and type is not ServerInfo:
            await self.check()
        response = await self.request(method, target, body, JSON if body else "", repeatable=repeatable)
        try:
            return answer(await response.read(), type)
        except Broken as error:
            raise SandboxNetworkError(f"the server at {self.endpoint} ended during the call: {error}") from None

    async def request(
        self,
        method: str,
        target: str,
        body: Body = b"",
        headers: str = "",
        *,
        repeatable: bool = False,
        others: bool = False,
    ) -> AsyncResponse:
        """Sends a request to the server; starts the local one when it does not run.

        Args:
            method, target, body, headers: what to send.
            repeatable: doing it twice is the same as doing it once.
            others: it is passed on, and whatever status comes back from there is an answer.

        Raises:
            SandboxNetworkError: the server can't be reached, or ended during the call.
            SandboxError: the server's answer is an error.
        """
        tries = 0
        while True:
            try:
                response = await self.pool.request(self.endpoint, method, target, body, headers)
                if not others or response.head.get(OWN) is not None:
                    await raise_for_error(response)
                return response
            except (Unreachable, Broken, ServiceUnavailableError) as error:
                tries += 1
                if not await again(tries, error, repeatable=repeatable, body=body):
                    raise self._failed(error) from None
                if isinstance(error, Unreachable) and self.endpoint.home is not None:
                    await self._launch(self.endpoint.home)

    def _failed(self, error: Unreachable | Broken | ServiceUnavailableError) -> SandboxError:
        match error:
            case Unreachable():
                home = self.endpoint.home
                return SandboxNetworkError(
                    f"the server at {self.endpoint} can't be reached: {error}; "
                    + (f"its log is {home.server_log}" if home else "check that it runs, and SANDCOVE_URL")
                )
            case Broken():
                return SandboxNetworkError(f"the server at {self.endpoint} ended during the call: {error}")
        return error

    async def _launch(self, home: Home) -> None:
        from sandcove.client.launch import ensure_server

        self._checked = False
        async with self._launching:
            log.debug("no server at %s: starting it", self.endpoint)
            await run_blocking(ensure_server, home)


def answer(body: bytes, type: type[T]) -> T:
    """Decodes the JSON of an answer.

    Raises:
        SandboxNetworkError: it is none that this client understands.
    """
    try:
        return decoder_of(type).decode(body)
    except NOT_JSON as error:
        raise SandboxNetworkError(f"the other end's answer is not what this client understands: {error}") from None


async def raise_for_error(response: AsyncResponse) -> None:
    """Raises the error that a response of status 400 or more stands for."""
    if response.status < 400:
        return
    body = await response.read()
    try:
        fields = msgspec.json.decode(body)
    except NOT_JSON:
        fields = None
    if not isinstance(fields, dict):
        fields = {"error": f"HTTP status {response.status}: {body[:200].decode('utf-8', 'replace')}"}
    after = response.head.get(b"retry-after")
    if after is not None and after.isdigit() and len(after) < 10:
        fields.setdefault("retryAfter", int(after))
    raise error_from_wire(response.status, fields)
