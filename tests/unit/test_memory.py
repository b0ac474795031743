"""A sandbox's memory is whole whenever its agent is killed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest

from sandcove.agent.memory import Memory


@pytest.fixture
def fd() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def save(fd: int, value: str) -> int:
    """Writes down one variable; gives the size of the file."""
    memory = Memory(fd)
    memory.env = {"VALUE": value}
    memory.save()
    return os.fstat(fd).st_size


def test_it_is_compacted_only_where_the_line_at_the_end_stays_whole_meanwhile(fd: int) -> None:
    first = save(fd, "a" * 300_000)
    # This line at the beginning would reach into itself at the end.
    size = save(fd, "b" * 500_000)
    assert size > first + 500_000
    before = os.pread(fd, size, 0)
    assert save(fd, "c" * 500_000) == size - first
    line = os.pread(fd, size, 0)
    for cut in (0, 1, first, len(line) - 1):
        os.pwrite(fd, line[:cut] + (before + line)[cut:], 0)
        assert Memory(fd).env == {"VALUE": "c" * 500_000}


def test_it_forgets_unfinished_files_that_are_finished(fd: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(fd)
        finished, unfinished = (os.path.join(folder, f"\udcff{name}") for name in ("finished", "unfinished"))
        for path in (finished, unfinished):
            memory.begin(path)
            open(path, "x").close()
        memory.end(finished)
        memory.save()
        Memory(fd).clear_unfinished()
        assert os.path.exists(finished)
        assert not os.path.exists(unfinished)
