"""Tests that run side by side, in processes of pytest-xdist: those marked `alone` get the machine for themselves."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Folder", "Turns"]


class Folder:
    """For the process that hands out the tests: tells the others where their locks are."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sc-turns-")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["turns"] = self._folder.name

    def pytest_unconfigure(self) -> None:
        self._folder.cleanup()


class Turns:
    """For each process that runs tests: the lock `running` is shared by all tests and not by those marked `alone`.

    Who wants it holds the lock `next` meanwhile, so that no test begins before one that waits to be alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        with self._turn(fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH):
            return (yield)

    @contextmanager
    def _turn(self, kind: int) -> Iterator[None]:
        with (self._folder / "running").open("w") as running:
            with (self._folder / "next").open("w") as following:
                fcntl.flock(following, fcntl.LOCK_EX)
                fcntl.flock(running, kind)
            yield
