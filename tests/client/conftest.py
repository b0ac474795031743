"""A sandbox of a server that answers what a test wants, by the sync or the async half of the SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sandcove import AsyncSandbox, Sandbox
from tests.both import Blocking, blocking
from tests.client.peers import Peer, Script

Scripted = Callable[..., tuple[Any, Script]]


@pytest.fixture(params=["sync", "async"])
def scripted(request: pytest.FixtureRequest) -> Iterator[Scripted]:
    """Makes a sandbox of a server whose answers are those given."""
    made: list[Any] = []
    peers: list[Peer] = []
    with blocking() as portal:

        def make(*answers: bytes | None) -> tuple[Any, Script]:
            script = Script(*answers)
            peers.append(Peer(None, script.play).__enter__())
            url = peers[-1].url
            box = Sandbox("x", url=url) if request.param == "sync" else Blocking(portal, AsyncSandbox("x", url=url))
            made.append(box)
            return box, script

        yield make
        for box in made:
            client = box._agent.client()
            client.close()
        for peer in peers:
            peer.__exit__(None, None, None)
