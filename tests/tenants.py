"""A server of its own on TCP, and keys to it."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandcove.client._sync.client import Client
from sandcove.client.endpoint import Endpoint
from sandcove.home import Home
from sandcove.wire.keys import CreateKey, KeyCreated
from tests.answers import Answer, exchange
from tests.conftest import sandcove_home

__all__ = ["Tcp", "serving", "serving_in"]


@dataclass
class Tcp:
    """A server that runs."""

    home: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def local(self) -> Client:
        """The client of its Unix socket."""
        return Client.of(Endpoint(unix=str(self.home / "server.sock"), home=Home(self.home)))

    def key(self, tenant: str | None = None, **options: Any) -> KeyCreated:
        return self.local().create_key(CreateKey(tenant=tenant, **options))

    def ask(self, method: str, target: str, key: str | None = None, body: Any = None) -> Answer:
        """One request; a `body` that is neither bytes nor None goes as JSON."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        return exchange(connection, method, target, body, headers)

    def send(self, data: bytes) -> bytes:
        """What is answered to these bytes, until the server closes or is silent for a while; at least a status line."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while piece := sock.recv(65536):
                    answer += piece
            except ConnectionResetError:
                pass  # it refused what it had not read
            return answer


@contextmanager
def serving() -> Iterator[Tcp]:
    """Runs one in a new folder."""
    with sandcove_home() as home, serving_in(home) as server:
        yield server


@contextmanager
def serving_in(home: Path, *arguments: str) -> Iterator[Tcp]:
    """Runs one in this folder."""
    ours, theirs = os.pipe()
    with (
        (home / "server.log").open("ab") as log,
        open(ours, encoding="utf-8") as told,
        subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "sandcove.server",
                "--host=127.0.0.1",
                "--port=0",
                f"--ready-fd={theirs}",
                *arguments,
            ],
            stdin=subprocess.DEVNULL,
            stderr=log,
            env=os.environ | {"SANDCOVE_HOME": str(home)},
            pass_fds=[theirs],
        ) as process,
    ):
        os.close(theirs)
        try:
            (address,) = json.loads(told.readline())["addresses"]
            yield Tcp(home, int(address.rpartition(":")[2]), process)
        finally:
            process.terminate()
