"""Standard input of commands: from any source, of any size, in flat memory, and nothing is left of it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandcove import (
    AsyncSandbox,
    ContainerNotReadyError,
    ExecutionTimeoutError,
    InvalidRequestError,
    PathNotFoundError,
    Sandbox,
)
from sandcove.client.stdin import INLINE, PIECE
from tests.conftest import MakeSandbox
from tests.security.probes import agent_pid

MIB = 1024 * 1024
LEFT = "find /var/lib/sandcove/stdin -type f 2>/dev/null | wc -l"
DATA = os.urandom(3 * MIB + 7)


def letters(size: int) -> str:
    return ("aé€😀" * (size // 4 + 1))[:size]


SOURCES: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda _: DATA,
    "bytearray": lambda _: bytearray(DATA),
    "memoryview": lambda _: memoryview(DATA),
    "memoryview with gaps": lambda _: memoryview(bytes(byte for one in DATA for byte in (one, 0)))[::2],
    "list": lambda _: [DATA[:10], DATA[10:MIB], b"", DATA[MIB:]],
    "generator": lambda _: (DATA[at : at + 999] for at in range(0, len(DATA), 999)),
    "binary file": lambda path: open(path, "rb"),  # noqa: SIM115 - the test closes it
    "unbuffered file": lambda path: open(path, "rb", buffering=0),  # noqa: SIM115 - as above
    "file in memory": lambda _: io.BytesIO(DATA),
}


@pytest.fixture
def box(make_sandbox: MakeSandbox) -> Sandbox:
    return make_sandbox()


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_arrives_as_it_is(box: Sandbox, kind: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(DATA)
    source = SOURCES[kind](tmp_path / "data")
    assert box.exec("sha256sum", stdin=source).stdout.split()[0] == hashlib.sha256(DATA).hexdigest()
    if hasattr(source, "close"):
        source.close()
    assert box.exec(LEFT).stdout == "0\n"


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE + 1, INLINE - 1, INLINE, INLINE + 1, 5 * MIB])
def test_every_size_arrives_as_it_is(box: Sandbox, size: int) -> None:
    data = (DATA * 2)[:size]
    assert box.exec("cat", stdin=[data], encoding=None).stdout == data
    text = letters(size // 4)
    assert box.exec("cat", stdin=text).stdout == text
    assert box.exec("cat", stdin=io.StringIO(text)).stdout == text
    assert box.exec("cat", stdin=(char for char in text[:1000])).stdout == text[:1000]


def test_in_a_stream_in_a_session_and_in_a_folder_of_its_own(box: Sandbox) -> None:
    events = box.exec_stream("sha256sum", stdin=iter([DATA]))
    told = "".join(event.data for event in events if event.type == "stdout")
    assert told.split()[0] == hashlib.sha256(DATA).hexdigest()
    session = box.create_session("s")
    for options in ({}, {"cwd": "/"}, {"env": {"A": "b"}}):
        assert session.exec("wc -c", stdin=DATA, **options).stdout == f"{len(DATA)}\n"
    assert session.exec(["wc", "-c"], stdin=DATA).stdout == f"{len(DATA)}\n"
    assert session.exec("head -c 2; tail -c 3", stdin=[b"ab", bytes(2 * MIB), b"xyz"]).stdout == "abxyz"
    assert box.exec(LEFT).stdout == "0\n"


def test_a_stream_is_read_to_its_end_before_the_command_begins(box: Sandbox) -> None:
    def source() -> Iterator[bytes]:
        yield DATA
        assert not box.exists("/tmp/begun")
        yield b"end"

    assert box.exec("touch /tmp/begun; tail -c 3", stdin=source()).stdout == "end"


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), OSError("x"), BrokenPipeError("x")])
@pytest.mark.parametrize("before", [0, 3 * MIB])
def test_a_source_that_fails_leaves_nothing_behind(box: Sandbox, error: Exception, before: int) -> None:
    def source() -> Iterator[bytes]:
        yield bytes(before)
        raise error

    for run in (box.exec, lambda *given, **options: list(box.exec_stream(*given, **options))):
        with pytest.raises(type(error)) as caught:
            run("touch /tmp/ran", stdin=source())
        assert caught.value is error
    assert box.exec(f"while [ $({LEFT}) != 0 ]; do :; done; ls /tmp/ran 2>/dev/null", timeout=20).stdout == ""


def test_a_source_that_gives_what_is_no_text_is_refused(box: Sandbox) -> None:
    for wrong in ([DATA, 5], [DATA, None], iter([DATA, "\ud800"])):
        with pytest.raises(InvalidRequestError, match="stdin"):
            box.exec("cat", stdin=wrong)  # type: ignore[arg-type]


def test_nothing_is_left_when_the_command_ends_otherwise(box: Sandbox) -> None:
    with pytest.raises(ExecutionTimeoutError):
        box.exec("sleep 1001", stdin=DATA, timeout=0.2)
    with pytest.raises(PathNotFoundError):
        box.exec("cat", stdin=DATA, cwd="/no/such")
    box.exec("exit 3", stdin=DATA)
    box.exec("kill -9 $$", stdin=DATA)
    for event in box.exec_stream("echo; sleep 1001", stdin=DATA):
        if event.type == "stdout":
            break
    assert box.exec(f"while [ $({LEFT}) != 0 ]; do :; done", timeout=20).success


def test_what_a_killed_agent_left_is_deleted_by_the_next(home: Path) -> None:
    with Sandbox("left-input") as box:
        events = iter(box.exec_stream(f"{LEFT}; sleep 1001", stdin=DATA))
        while (event := next(events)).type != "stdout":
            pass
        assert event.data == "1\n"
        os.kill(agent_pid(home, box), signal.SIGKILL)
        with pytest.raises(ContainerNotReadyError):
            next(events)
        box.ping()  # may be asked twice, so it outlasts the agent's last moment
        assert box.exec(LEFT).stdout == "0\n"
        box.destroy()


def test_async_sources(home: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(DATA)

    async def generator() -> AsyncIterator[bytes]:
        for at in range(0, len(DATA), 100_000):
            await asyncio.sleep(0)
            yield DATA[at : at + 100_000]

    async def of_text() -> AsyncIterator[str]:
        yield "é" * MIB
        yield "end"

    async def failing() -> AsyncIterator[bytes]:
        yield DATA
        raise OSError("x")

    async def main() -> None:
        async with AsyncSandbox() as box:
            reader = asyncio.StreamReader()
            reader.feed_data(DATA)
            reader.feed_eof()
            for source in (generator(), reader):
                told = (await box.exec("sha256sum", stdin=source)).stdout
                assert told.split()[0] == hashlib.sha256(DATA).hexdigest()
            assert (await box.exec("wc -c; echo", stdin=of_text())).stdout.strip() == str(2 * MIB + 3)
            with pytest.raises(OSError, match="x"):
                await box.exec("cat", stdin=failing())

    asyncio.run(main())


def test_an_async_source_is_refused_by_the_blocking_half() -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b""

    with pytest.raises(InvalidRequestError, match="for AsyncSandbox"):
        Sandbox("x", url="http://127.0.0.1:9").exec("cat", stdin=source())  # type: ignore[call-overload]


def test_a_blocking_file_holds_up_nobody_else(home: Path) -> None:
    async def main() -> None:
        ours, theirs = os.pipe()
        async with AsyncSandbox() as box:
            with open(ours, "rb") as source:
                task = asyncio.ensure_future(box.exec("cat", stdin=source))
                # The pipe stays empty until another call has been answered.
                await box.exec("true", timeout=20)
                os.write(theirs, b"late")
                os.close(theirs)
                assert (await task).stdout == "late"

    asyncio.run(main())


def test_memory_stays_flat(home: Path) -> None:
    """256 MiB pass through a client and an agent that may not grow by a quarter of it."""
    code = f"""if True:
        import resource, sys
        from sandcove import Sandbox
        with Sandbox("flat-input") as box:
            box.exec("cat", stdin=bytes({2 * MIB}))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            pieces = (bytes({MIB}) for _ in range(256))
            told = box.exec("df --output=used -k /run | tail -1; wc -c", stdin=pieces).stdout
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            print(grown, *told.split())
    """
    with Sandbox("flat-input") as box:
        box.ping()
        agent = agent_pid(home, box)
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=100)
        grown, in_memory, size = map(int, done.stdout.split())
        status = Path(f"/proc/{agent}/status").read_text()
        box.destroy()
    assert size == 256 * MIB
    assert grown < 64 * 1024, "KiB that the client grew by"
    assert in_memory < 16 * 1024, "KiB of the sandbox's files in memory"
    peak = int(status.partition("VmHWM:")[2].split()[0])
    assert peak < 160 * 1024, "KiB of the agent"
