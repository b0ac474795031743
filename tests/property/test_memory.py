"""The agent's memory file: after any tear the last whole state is there, and writing goes on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from sandcove.agent.memory import Memory, SessionMemory
from sandcove.wire.models import SessionInfo

names = st.text("abcXYZ_", min_size=1, max_size=6)
values = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
envs = st.dictionaries(names, values, max_size=4)


@contextmanager
def file() -> Iterator[int]:
    with tempfile.TemporaryFile() as opened:
        yield opened.fileno()


def put(memory: Memory, env: dict[str, str]) -> None:
    memory.env = dict(env)
    info = SessionInfo(id="s", cwd="/", isolation=True, created_at="now")
    memory.sessions = {name: SessionMemory(info, {name: value}) for name, value in env.items()}
    memory.save()


@given(st.lists(envs, max_size=8))
def test_the_last_save_is_what_is_loaded(saves: list[dict[str, str]]) -> None:
    with file() as fd:
        memory = Memory(fd)
        assert (memory.env, memory.sessions) == ({}, {})
        for env in saves:
            put(memory, env)
            again = Memory(fd)
            assert again.env == env
            assert {name: session.env for name, session in again.sessions.items()} == {
                n: {n: v} for n, v in env.items()
            }


@given(st.lists(envs, min_size=1, max_size=6), st.data())
def test_a_file_torn_anywhere_has_the_last_whole_state(saves: list[dict[str, str]], data: st.DataObject) -> None:
    with file() as fd:
        memory = Memory(fd)
        ends = [0]
        for env in saves:
            put(memory, env)
            ends.append(os.fstat(fd).st_size)
        length = data.draw(st.integers(0, ends[-1]), label="length after the tear")
        os.ftruncate(fd, length)
        whole = max(number for number, end in enumerate(ends) if end <= length)
        torn = Memory(fd)
        assert torn.env == ([{}, *saves][whole])
        # What is saved after a tear is not lost to what the tear has left.
        put(torn, {"a": "after"})
        assert Memory(fd).env == {"a": "after"}


@given(st.binary(max_size=200), envs)
def test_garbage_is_passed_over(garbage: bytes, env: dict[str, str]) -> None:
    with file() as fd:
        put(Memory(fd), env)
        os.pwrite(fd, garbage, os.fstat(fd).st_size)
        loaded = Memory(fd).env
        assert loaded == env or b'"env"' in garbage or b"{" in garbage


def test_the_file_does_not_grow_without_end() -> None:
    with file() as fd:
        memory = Memory(fd)
        for number in range(2000):
            put(memory, {"A": "x" * 1000, "N": str(number)})
            assert os.fstat(fd).st_size < 1024 * 1024
        assert Memory(fd).env["N"] == "1999"
