"""The previews of one server: put together, started when the first is wanted, ended with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sandcove.asgi import Listener
from sandcove.home import Home
from sandcove.server.keys import Keys
from sandcove.server.lifecycle import Sandboxes
from sandcove.server.ports import Ports
from sandcove.server.preview.api import ApiConnection
from sandcove.server.preview.front import Front
from sandcove.server.preview.gate import Authenticate, Gate
from sandcove.server.preview.loopback import Loopback
from sandcove.wire.preview import Base

__all__ = ["Previews"]


class Previews:
    """All of a server's.

    Args:
        fixed: where they are, on a server that others reach; else on a port of 127.0.0.1 that is opened when needed.

    Attributes:
        ports: the exposed ones.
        domain: below which the hosts of previews are.
    """

    def __init__(self, sandboxes: Sandboxes, ports: Ports, keys: Keys, home: Home, fixed: Base | None = None) -> None:
        self.ports = ports
        self.domain = fixed.domain if fixed is not None else "localhost"
        self._fixed = fixed
        self._gate = Gate(sandboxes, ports, keys, self.domain)
        self._loopback = Loopback(home.previews_port, lambda: Front(self._gate, None, None))

    def serve_with(self, listener: Listener, authenticate: Authenticate) -> Callable[[], asyncio.BaseProtocol]:
        """The protocol of new connections to a socket of `listener`.

        Args:
            authenticate: says who sent a request there.
        """

        def front() -> Front:
            return Front(self._gate, authenticate, api)

        def api() -> asyncio.Protocol:
            connection: Any = listener.protocol()
            assert isinstance(connection, ApiConnection)
            connection.front = front
            return connection

        return front

    async def start(self) -> None:
        """After a start of the server: URLs that were given out lead here again."""
        if self._fixed is None and self.ports.any:
            await self._loopback.start()

    async def base(self) -> Base:
        """What the URLs have in common; there is a listener for them when it returns.

        Raises:
            ServiceUnavailableError: no port is to be had.
        """
        return self._fixed or Base("http", self.domain, await self._loopback.start())

    def end_proxied(self, key_id: str) -> None:
        """Cuts the connections on which a request of this key, or of its tokens, is passed on to a service."""
        for front in list(self._gate.fronts):
            if front.key == key_id:
                front.cut()

    async def close(self) -> None:
        """Ends every connection."""
        self._loopback.stop()
        await self._gate.close()
