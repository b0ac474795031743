"""A call that the server relays to an agent, over TCP with a key: how often a second, how much later than directly."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from bench.compare import Side, compare
from bench.harness import Options, Row
from bench.nginx import nginx_or_none
from bench.rooms import on_tcp

QUESTION = "GET /api/ping relayed over TCP with a key"


def ask(options: Options) -> Iterator[Row]:
    """nginx stands in front of the agent's Unix socket, which is also what is spoken to directly."""
    from sandcove import Sandbox
    from sandcove.home import Home

    with on_tcp() as remote, Sandbox() as sandbox:
        sandbox.ping()
        agent = Home(remote.home).agent_socket(sandbox.id)
        relay = f"/v1/sandboxes/{sandbox.id}/api/ping"
        with nginx_or_none(f"unix:{agent}") as port:
            for count in (1, 32, 256):
                with ExitStack() as stack:
                    sides = {
                        "ours": Side.of(
                            [stack.enter_context(_tcp(urlsplit(remote.url).port)) for _ in range(count)],
                            _get(relay, f"Authorization: Bearer {remote.key}"),
                        ),
                        "direct": Side.of([stack.enter_context(_unix(agent)) for _ in range(count)], _get("/api/ping")),
                    }
                    if port is not None:
                        connections = [stack.enter_context(_tcp(port)) for _ in range(count)]
                        sides["nginx"] = Side.of(connections, _get("/api/ping"))
                    title = f"{QUESTION}, {count} connection{'s' * (count > 1)}"
                    yield from compare(title, sides, options)


def _get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def _tcp(port: int | None) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _unix(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(str(path))
    return made
