"""Connections to the server for what visitors ask: kept for the next request to the same preview."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from sandcove.client._async.io import Stream, run_blocking
from sandcove.client.endpoint import Endpoint
from sandcove.errors import SandboxError, SandboxNetworkError, ServiceUnavailableError
from sandcove.home import Home
from sandcove.wire.http import ResponseParser

__all__ = ["STALLED", "Way", "Ways"]

MOST_IDLE = 128
"""Idle connections kept; the one that was used longest ago goes first."""
STALLED = 300.0
"""Seconds in which a service takes a piece that is sent to it: while it does not, nobody sees a visitor leave."""
PATIENCE = 5.0
"""Seconds after a start of the local server that failed in which none is tried again: any visitor can ask for one."""


class Way:
    """One connection.

    Attributes:
        stream: its bytes.
        parser: of its answers.
        used: a request has gone over it before.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.parser = ResponseParser()
        self.used = False

    def close(self) -> None:
        self.stream.close()


class Ways:
    """All of one event loop to one server."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        # The server keeps a connection to the service behind each: one for another preview would cost it a new one.
        self._idle: OrderedDict[Way, str] = OrderedDict()
        self._launching = asyncio.Lock()
        self._not_before = 0.0

    async def to(self, label: str) -> Way:
        """A connection for a request to this preview, an idle one if there is any.

        Raises:
            SandboxError: the server can't be reached.
        """
        for way in reversed([way for way, of in self._idle.items() if of == label]):
            del self._idle[way]
            if not way.stream.readable():
                way.used = True
                return way
            way.close()
        return await self.new()

    def keep(self, way: Way, label: str) -> None:
        """It can be used for the next request."""
        self._idle[way] = label
        if len(self._idle) > MOST_IDLE:
            self._idle.popitem(last=False)[0].close()

    async def new(self) -> Way:
        """A new connection; the local server is started when none runs.

        Raises:
            SandboxError: the server can't be reached.
        """
        try:
            return Way(await Stream.connect(self.endpoint))
        except OSError as error:
            if self.endpoint.home is None:
                raise self._unreachable(error) from None
        await self._launch(self.endpoint.home)
        try:
            return Way(await Stream.connect(self.endpoint))
        except OSError as error:
            raise self._unreachable(error) from None

    async def _launch(self, home: Home) -> None:
        from sandcove.client.launch import ensure_server

        loop = asyncio.get_running_loop()
        async with self._launching:
            if loop.time() < self._not_before:
                raise ServiceUnavailableError("the local server did not start a moment ago")
            try:
                await run_blocking(ensure_server, home)
            except (SandboxError, OSError) as error:
                self._not_before = loop.time() + PATIENCE
                raise ServiceUnavailableError(f"the local server can't be started: {error}") from None

    def _unreachable(self, error: OSError) -> SandboxError:
        return SandboxNetworkError(f"the server at {self.endpoint} can't be reached: {error}")

    def close(self) -> None:
        """Closes the idle ones; the others end with their requests."""
        for way in self._idle:
            way.close()
        self._idle.clear()
