"""The agent wire of one sandbox: on the agent's own Unix socket where it can be had, else relayed by the server."""

from __future__ import annotations

import os
from typing import TypeVar

from sandcove.client._async.again import again
from sandcove.client._async.client import JSON, AsyncClient, answer, raise_for_error
from sandcove.client._async.connection import AsyncResponse, Body
from sandcove.client.endpoint import ANSWER, SILENCE, WAKE, Broken, Endpoint, Silent, Unreachable
from sandcove.client.results import log
from sandcove.errors import ContainerNotReadyError, SandboxError, SandboxNotFoundError, ServiceUnavailableError
from sandcove.wire.codec import encode
from sandcove.wire.models import CreateSandbox, Request, SandboxInfo

__all__ = ["AsyncAgent", "Route"]

T = TypeVar("T")

Route = tuple[Endpoint, str]
"""Where requests to an agent go, and what stands before their path."""


class AsyncAgent:
    """The way to one sandbox. The first request creates the sandbox, or wakes it.

    Attributes:
        id: the sandbox's id; None while an anonymous one is not created.
    """

    def __init__(self, request: CreateSandbox, url: str | None, api_key: str | None) -> None:
        self.id = request.id
        self._request = request
        self._url = url
        self._api_key = api_key
        self._server: Endpoint | None = None
        self._route: Route | None = None
        self._lease: AsyncResponse | None = None
        self._lease_pid = 0
        self._destroyed = False

    async def client(self) -> AsyncClient:
        """The client of the sandbox's server."""
        if self._server is None:
            self._server = Endpoint.server(self._url, self._api_key)
        return await AsyncClient.of(self._server)

    @property
    def created(self) -> bool:
        """A call of this object has made sure that the sandbox exists."""
        return self._route is not None

    async def ensure(self) -> Route:
        """Creates the sandbox, or wakes it, unless a call of this object did so before."""
        if self._route is not None:
            return self._route
        client = await self.client()
        async with client.lock(self):
            if self._route is None:
                if self._destroyed:
                    raise SandboxNotFoundError("the anonymous sandbox is destroyed; make a new Sandbox()")
                self._route = self._route_to(client, await self._create(client))
            return self._route

    async def known(self) -> AsyncClient:
        """The server's client, once there is the sandbox; one that sleeps is not woken."""
        client = await self.client()
        if self._route is None:
            try:
                if self.id is not None:
                    await client.info(self.id)
                    return client
            except SandboxNotFoundError:
                pass
            await self.ensure()
        return client

    async def _create(self, client: AsyncClient) -> SandboxInfo:
        if not self._request.lease:
            # The holder of a token may not create its sandbox, which is there; a call wakes it.
            token = client.endpoint.token
            info = await (client.info(self.id or "") if token else client.create(self._request))
            log.debug("sandbox %s is there and awake", info.id)
            return info
        info, self._lease = await client.lease(self._request)
        self._lease_pid = os.getpid()
        self.id = info.id
        log.debug("anonymous sandbox %s created", info.id)
        return info

    def _route_to(self, client: AsyncClient, info: SandboxInfo) -> Route:
        if info.agent_socket is not None and client.endpoint.unix is not None:
            return Endpoint(unix=info.agent_socket), ""
        return client.endpoint, f"/v1/sandboxes/{info.id}"

    async def _wake(self, client: AsyncClient, failed: Route) -> Route:
        """A route to the agent after `failed` led nowhere: the sandbox sleeps, or its server started anew."""
        async with client.lock(self):
            if self._route is None or self._route is failed:
                client.pool.forget(failed[0])
                log.debug("sandbox %s is not reached at %s: waking it", self.id, failed[0])
                waking = client.info if client.endpoint.token else client.wake
                self._route = self._route_to(client, await waking(self.id or ""))
            return self._route

    async def open(
        self,
        method: str,
        path: str,
        body: Body = b"",
        headers: str = "",
        *,
        repeatable: bool = False,
        within: float | None = ANSWER,
    ) -> AsyncResponse:
        """Sends a request to the agent and waits for the head of the response.

        Args:
            method, path: the path begins with ``/api/``.
            body: what to send.
            headers: further header lines, each with its line end.
            repeatable: doing it twice is the same as doing it once.
            within: seconds in which the answer of an agent that is awake begins; None: any number.

        Raises:
            ContainerNotReadyError: the sandbox ended during the call, or its agent says nothing.
            SandboxError: the answer is an error.
        """
        route = self._route or await self.ensure()
        client = await self.client()
        tries = 0
        while True:
            endpoint, prefix = route
            more = WAKE if prefix else 0.0
            answer_in = None if within is None else within + more
            try:
                response = await client.pool.request(
                    endpoint, method, prefix + path, body, headers, within=answer_in, silence=SILENCE + more
                )
                if response.status >= 400:
                    await raise_for_error(response)
                return response
            except (Unreachable, Broken, ServiceUnavailableError) as error:
                tries += 1
                if not await again(tries, error, repeatable=repeatable, body=body):
                    raise await self._failed(error, endpoint) from None
                # What answered that something else is not ready is awake.
                if not isinstance(error, ServiceUnavailableError) or isinstance(error, ContainerNotReadyError):
                    route = await self._wake(client, route)

    async def call(
        self,
        method: str,
        path: str,
        type: type[T],
        body: Request | None = None,
        *,
        repeatable: bool = False,
        within: float | None = ANSWER,
    ) -> T:
        """Sends a request with this JSON body and decodes the answer as `type`."""
        sent, headers = (b"", "") if body is None else (encode(body), JSON)
        response = await self.open(method, path, sent, headers, repeatable=repeatable, within=within)
        try:
            return answer(await response.read(), type)
        except Broken as error:
            raise await self.ended(error) from None

    async def send(self, method: str, path: str, body: bytes) -> None:
        """Sends raw bytes, for an answer that says nothing more than that they have been taken, whenever that is."""
        response = await self.open(method, path, body, within=None)
        try:
            await response.read()
        except Broken as error:
            raise await self.ended(error) from None

    async def _failed(self, error: Unreachable | Broken | ServiceUnavailableError, endpoint: Endpoint) -> SandboxError:
        match error:
            case Unreachable():
                return ContainerNotReadyError(f"sandbox {self.id} can't be reached at {endpoint}: {error}")
            case Broken():
                return await self.ended(error)
        return error

    async def ended(self, error: Broken) -> SandboxError:
        """The error for a connection that broke after the request had gone out; a server that runs is asked why."""
        if isinstance(error, Silent):
            return ContainerNotReadyError(
                f"sandbox {self.id} does not answer: its agent says nothing for longer than the call may take; it "
                "was given up, and whether it had its effect is not known. If other calls end so too, put the sandbox "
                "to sleep or destroy it; if commands wait for others of their session, give them sessions of their own"
            )
        client = await self.client()
        try:
            response = await client.pool.request(client.endpoint, "GET", f"/v1/sandboxes/{self.id}")
            await raise_for_error(response)
            info = answer(await response.read(), SandboxInfo)
            if info.state == "destroying":
                why = f": {info.note}" if info.note else ""
                return SandboxNotFoundError(f"sandbox {self.id!r} was destroyed{why}")
        except SandboxNotFoundError as gone:
            return gone
        except (Unreachable, Broken, SandboxError):
            pass
        return ContainerNotReadyError(
            f"sandbox {self.id} ended during the call ({error}); whether the call had its effect is not known"
        )

    async def sleep(self) -> SandboxInfo:
        """Puts the sandbox to sleep."""
        await self.ensure()
        return await (await self.client()).sleep(self.id or "")

    async def wake(self) -> SandboxInfo:
        """Wakes the sandbox."""
        await self.ensure()
        client = await self.client()
        async with client.lock(self):
            info = await client.wake(self.id or "")
            self._route = self._route_to(client, info)
            return info

    async def destroy(self) -> None:
        """Destroys the sandbox; an anonymous one that was never created needs nothing."""
        client = await self.client()
        if self.id is not None and not self._destroyed:
            await client.destroy(self.id)
            if self._route is not None and self._route[1] == "":
                client.pool.forget(self._route[0])
        self._route = None
        self._destroyed = self._request.lease
        self.release()

    @property
    def leased(self) -> bool:
        """This process holds the lease of an anonymous sandbox; a process that it forked does not."""
        return self._lease is not None and self._lease_pid == os.getpid()

    def release(self) -> None:
        """Ends the lease, on which the server destroys the sandbox."""
        if self._lease is not None:
            lease, self._lease = self._lease, None
            self._destroyed = True
            self._route = None
            lease.close()
