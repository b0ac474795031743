"""A server of a test's own, which runs and is killed with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.world import World


@pytest.fixture
def world(fresh_home: Path) -> Iterator[World]:
    world = World(fresh_home)
    try:
        world.launch()
        assert world.wait_until_ready()
        yield world
    finally:
        world.kill()
