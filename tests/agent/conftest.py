"""A sandbox that the tests of a module share, and a session of its own for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandcove import Sandbox, Session

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def shared(home: Path) -> Iterator[Sandbox]:
    """An anonymous sandbox for all tests of a module."""
    with Sandbox() as made:
        yield made


@pytest.fixture
def session(shared: Sandbox) -> Iterator[Session]:
    """A session of its own, with nothing but its own processes to see."""
    name = f"test-{next(_numbers)}"
    yield shared.create_session(name)
    shared.delete_session(name)
