"""A large file that is moved: how fast, and what that takes of others' memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import processes

__all__ = ["Moves"]

BLOCK = 1 << 20


class Moves:
    """Files of one size, a number of whole MiB.

    Attributes:
        rises: by how many MB the processes that were watched rose over idle, each time.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.rises: list[float] = []

    def make(self, path: Path) -> None:
        """Writes such a file."""
        block = os.urandom(BLOCK)
        with open(path, "wb") as file:
            file.writelines(block for _ in range(self.size // BLOCK))

    def timed(
        self, watched: Sequence[int], action: Callable[[], object], result: Callable[[], int]
    ) -> Callable[[], float]:
        """A measure in MB/s of an action that moves one; `result` is the size of what came of it."""

        def measure() -> float:
            with processes.peak_memory(watched) as peak:
                begin = time.perf_counter()
                action()
                took = time.perf_counter() - begin
            self.rises.append(peak.over_idle)
            assert result() == self.size
            return self.size / 1e6 / took

        return measure
