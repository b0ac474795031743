"""What the attacks share: one sandbox for those that leave no trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandcove import Sandbox
from tests.security.probes import check_apart


@pytest.fixture(scope="module")
def cell(home: Path) -> Iterator[Sandbox]:
    """A sandbox for all tests of a file; they may not break it."""
    with Sandbox() as made:
        check_apart(made)
        yield made
