# Written by scripts/unasync.py from _async/ports.py. Change that file, not this one.
"""Ports of a sandbox: URLs for what listens in it."""

from __future__ import annotations

from sandcove.client._sync.agent import Agent
from sandcove.client._sync.client import Client
from sandcove.client._sync.fetch import FetchResponse, fetch
from sandcove.client._sync.io import Input
from sandcove.client.check import check_flag, check_hostname, check_port, check_port_name, check_port_token
from sandcove.client.fetch import Headers
from sandcove.client.results import ExposedPort
from sandcove.errors import InvalidRequestError
from sandcove.wire import models

__all__ = ["Ports"]


class Ports:
    """What a sandbox and a session can both do with ports: those of the sandbox."""

    _agent: Agent

    def expose_port(
        self,
        port: int,
        *,
        name: str | None = None,
        public: bool = False,
        token: str | None = None,
        hostname: str | None = None,
    ) -> ExposedPort:
        """Gives a port of the sandbox a URL, until `unexpose_port` or the sandbox's end: it outlasts sleep.

        Whoever has the URL can reach what listens there, now or later, by HTTP and WebSocket; a request wakes a
        sandbox that sleeps.

        Args:
            port: 1 to 65535.
            name: what it is called, for people.
            public: the URL has no token: whoever guesses the sandbox's id can come in.
            token: 16 to 40 characters of ``a-z 0-9`` for the URL, for one that stays the same; else a random one.
            hostname: what the URL's host is below, where an application of yours with `proxy_to_sandbox` answers:
                ``previews.example.com``, ``localhost:8000``; else it is the server's own.

        Raises:
            PortAlreadyExposedError: it is.
            InvalidRequestError: the sandbox's id is too long for a part of a host's name.
        """
        if check_flag("public", public) and token is not None:
            raise InvalidRequestError("a public port has no token; give public or token")
        base = None if hostname is None else check_hostname(hostname)
        request = models.ExposePort(
            port=check_port(port),
            name=None if name is None else check_port_name(name),
            public=public,
            token=None if token is None else check_port_token(token),
        )
        client, sandbox_id = self._server()
        return ExposedPort.of(client.expose(sandbox_id, request), base)

    def unexpose_port(self, port: int) -> None:
        """Takes the URL of a port away, and ends the connections through it.

        Raises:
            PortNotExposedError: it has none.
        """
        check_port(port)
        client, sandbox_id = self._server()
        client.unexpose(sandbox_id, port)

    def get_exposed_ports(self, *, hostname: str | None = None) -> list[ExposedPort]:
        """Those that are exposed, by number; `hostname` as for `expose_port`."""
        base = None if hostname is None else check_hostname(hostname)
        client, sandbox_id = self._server()
        return [ExposedPort.of(port, base) for port in (client.ports(sandbox_id)).ports]

    def fetch(
        self,
        url: str,
        port: int,
        *,
        method: str = "GET",
        headers: Headers | None = None,
        body: Input | None = None,
    ) -> FetchResponse:
        """Sends a request to what listens on a port of the sandbox, exposed or not, through the server.

        Args:
            url: a path with its query, or ``http://localhost:{port}/...``.
            port: 1 to 65535.
            method: an HTTP method.
            headers: names and values.
            body: text, bytes, a file object or an iterable of them, which is streamed.

        Raises:
            PortNotListeningError: nothing listens there; `wait_for_port` waits for it.
            SandboxNetworkError: the service's answer is no HTTP, or broke off.
        """
        check_port(port)
        client, sandbox_id = self._server()
        return fetch(client, sandbox_id, port, url=url, method=method, headers=headers, body=body)

    def _server(self) -> tuple[Client, str]:
        """The server's client and the sandbox's id; the sandbox exists."""
        self._agent.ensure()
        return self._agent.client(), self._agent.id or ""
