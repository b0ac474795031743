"""A process's log: what is read is what was written, however it was cut, wherever the ring turns."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandcove.agent import log as module
from sandcove.agent.log import Log, Piece
from sandcove.agent.output import Stream

STREAMS: st.SearchStrategy[Stream] = st.sampled_from(["stdout", "stderr"])
WRITES = st.lists(st.tuples(STREAMS, st.binary(min_size=1, max_size=40)), max_size=30)
LIMIT = 64


def everything(log: Log, at: int, most: int) -> tuple[list[tuple[Stream, bytes]], int]:
    """What a reader gets from `at` on, pieces of one stream joined, and how much it missed."""
    found: list[tuple[Stream, bytes]] = []
    skipped = 0
    while piece := log.read(at, most):
        assert 0 < len(piece.data) <= most and piece.next > at
        skipped += piece.skipped
        if found and found[-1][0] == piece.stream:
            found[-1] = (piece.stream, found[-1][1] + piece.data)
        else:
            found.append((piece.stream, piece.data))
        at = piece.next
    return found, skipped


def joined(writes: list[tuple[Stream, bytes]], drop: int) -> list[tuple[Stream, bytes]]:
    """The writes without the first `drop` bytes, those of one stream joined."""
    found: list[tuple[Stream, bytes]] = []
    for stream, data in writes:
        data, drop = data[drop:], max(0, drop - len(data))
        if not data:
            continue
        if found and found[-1][0] == stream:
            found[-1] = (stream, found[-1][1] + data)
        else:
            found.append((stream, data))
    return found


@given(writes=WRITES, at=st.integers(0, 200), most=st.integers(1, 50))
def test_a_reader_gets_what_is_there(writes: list[tuple[Stream, bytes]], at: int, most: int) -> None:
    log = Log(LIMIT, "/tmp")
    for stream, data in writes:
        log.append(stream, data)
    total = sum(len(data) for _, data in writes)
    assert log.end == total and log.start == max(0, total - LIMIT)
    at = min(at, total)
    begin = max(at, log.start)
    found, skipped = everything(log, at, most)
    assert found == joined(writes, begin)
    assert skipped == (begin - at if begin < total else 0)
    log.delete()


@given(writes=WRITES, most=st.integers(0, 80))
def test_the_newest_of_each_stream(writes: list[tuple[Stream, bytes]], most: int) -> None:
    log = Log(LIMIT, "/tmp")
    for stream, data in writes:
        log.append(stream, data)
    kept = joined(writes, log.start)
    whole = {name: b"".join(data for stream, data in kept if stream == name) for name in ("stdout", "stderr")}
    stdout, stderr, more = log.newest(most)
    assert stdout == whole["stdout"][len(whole["stdout"]) - min(most, len(whole["stdout"])) :]
    assert stderr == whole["stderr"][len(whole["stderr"]) - min(most, len(whole["stderr"])) :]
    assert more == (log.start > 0 or max(map(len, whole.values())) > most)
    log.delete()


def test_streams_that_alternate_for_ever_take_bounded_memory(tmp_path: Path) -> None:
    log = Log(16 * 1024 * 1024, str(tmp_path))
    for _ in range(module.MOST_MARKS):
        log.append("stdout", b"a")
        log.append("stderr", b"b")
    assert log.end - log.start <= module.MOST_MARKS
    assert len(log._marks) <= module.MOST_MARKS + 1
    found, _ = everything(log, log.end - 3, 10)
    assert found == [("stderr", b"b"), ("stdout", b"a"), ("stderr", b"b")]
    log.delete()


def test_what_a_full_disk_did_not_take_is_counted_and_the_rest_is_whole(tmp_path: Path) -> None:
    log = Log(100, str(tmp_path / "missing"))
    log.append("stdout", b"lost")
    assert (log.end, log.lost, log.read(0)) == (0, 4, None)
    (tmp_path / "missing").mkdir()
    log.append("stderr", b"kept")
    assert everything(log, 0, 10) == ([("stderr", b"kept")], 4)
    assert log.newest(10) == (b"", b"kept", True)
    log.delete()


def test_what_is_missing_is_told_where_it_is_missing(tmp_path: Path) -> None:
    log = Log(1000, str(tmp_path))
    log.append("stdout", b"before")
    fd, log._fd = log._fd, os.open("/dev/full", os.O_RDWR)
    for _ in range(3):
        log.append("stderr", b"12345")
    full, log._fd = log._fd, fd
    log.append("stdout", b"after")
    assert log.read(0) == Piece("stdout", b"before", 6, 0)
    assert log.read(6) == Piece("stdout", b"after", 11, 15)
    assert log.missing(11) == 0
    os.close(full)
    log.delete()


@pytest.mark.anyio
async def test_readers_wait_for_more_and_for_the_end(tmp_path: Path) -> None:
    log = Log(100, str(tmp_path))
    seen: list[bytes] = []

    async def read() -> None:
        at = 0
        while True:
            await log.grown(at)
            piece = log.read(at)
            if piece is None:
                return
            seen.append(piece.data)
            at = piece.next

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(read())
        await asyncio.sleep(0)
        log.append("stdout", b"x")
        for _ in range(3):
            await asyncio.sleep(0)
        log.close()
    assert seen == [b"x"] * 3
    log.delete()
