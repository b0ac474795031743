"""A server of its own for each test that kills things, and requests to it that no client would make."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.answers import Answer, exchange


class OnSocket(http.client.HTTPConnection):
    """The standard library's client, on a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


Ask = Callable[..., Answer]


def ask(path: Path, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    """One request; a `body` that is neither bytes nor None goes as JSON."""
    return exchange(OnSocket(path), method, target, body, headers)


def server_pid(home: Path) -> int:
    return int(ask(home / "server.sock", "GET", "/v1/server").json["pid"])


def wait_for_its_end(home: Path, sandbox_id: str) -> None:
    """Returns when the sandbox's agent has ended: it closes this connection then, at the latest."""
    with socket.socket(socket.AF_UNIX) as watching:
        watching.settimeout(20)
        try:
            watching.connect(str(home / "run" / f"{sandbox_id}.sock"))
            assert watching.recv(1) == b""
        except (FileNotFoundError, ConnectionError):
            pass  # it has ended already


@pytest.fixture
def served(fresh_home: Path) -> Path:
    """A Sandcove folder of its own with a server that runs."""
    from sandcove import list_sandboxes

    list_sandboxes()
    return fresh_home


@dataclass
class Serving:
    """A `sandcove serve` in the foreground."""

    process: subprocess.Popen[str]
    home: Path

    def wait_until_it_serves(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "serving on" in line:
                return
        raise AssertionError("it ended before it served")

    @property
    def address(self) -> str:
        """The URL of its TCP listener."""
        return str(ask(self.home / "server.sock", "GET", "/v1/server").json["addresses"][0])


@pytest.fixture
def serve(fresh_home: Path) -> Iterator[Callable[..., Serving]]:
    """Starts what `sandcove serve` becomes, with arguments; or another `program` that does the same."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, program: Path | None = None) -> Serving:
        process = subprocess.Popen(
            [sys.executable, "-P", *(["-m", "sandcove.server"] if program is None else [program]), *arguments],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "SANDCOVE_HOME": str(fresh_home)},
            start_new_session=True,
        )
        started.append(process)
        return Serving(process, fresh_home)

    yield start
    for process in started:
        process.kill()
        process.communicate()
