"""The npm package, a server that it reaches over TCP, a sandbox, and the client that speaks to that."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bench.harness import UnavailableError
from bench.npm import installed
from sandcove import Sandbox
from tests.e2e.npm.client import NpmClient
from tests.forwarder import Forwarder

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def package() -> Path:
    """The folder of the package as npm has it, with nothing changed."""
    try:
        return installed(Path(__file__).parent) / "node_modules" / "@cloudflare" / "sandbox"
    except UnavailableError as error:
        reason = f"the npm package @cloudflare/sandbox can't be had here: {error}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="module")
def box(home: Path) -> Iterator[Sandbox]:
    """An anonymous sandbox for all tests of a module."""
    with Sandbox() as made:
        yield made


@pytest.fixture(scope="module")
def npm(package: Path, home: Path, box: Sandbox) -> Iterator[NpmClient]:
    """The client for `box`, through the server's relay."""
    url = f"/v1/sandboxes/{box.info().id}"
    with closing(Forwarder(home / "server.sock")) as forwarder, NpmClient(package, forwarder.url + url) as client:
        yield client


@pytest.fixture
def session(npm: NpmClient) -> str:
    """The name of a session that the client made, isolated as it asks for by default."""
    name = f"test-{next(_numbers)}"
    npm.createSession({"id": name})
    return name
