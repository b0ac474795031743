"""Commands through the SDK, both halves by one body, in a real sandbox."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sandcove import (
    AsyncSandbox,
    CommandFailedError,
    ExecutionTimeoutError,
    Sandbox,
    SessionAlreadyExistsError,
    SessionNotFoundError,
)
from sandcove.client.output import MAX_COLLECTED
from tests.conftest import MakeSandbox

BROKEN_TEXT = r"printf 'a\377b'; printf '\303\251' >&2"


@pytest.fixture
def box(make_sandbox: MakeSandbox) -> Sandbox:
    return make_sandbox()


def test_a_result_has_all_of_it(box: Sandbox) -> None:
    result = box.exec("echo out; echo err >&2; exit 3")
    assert (result.success, result.exit_code, result.stdout, result.stderr) == (False, 3, "out\n", "err\n")
    assert result.command == "echo out; echo err >&2; exit 3"
    assert 0 < result.duration < 30
    assert abs(datetime.now(UTC) - result.timestamp) < timedelta(minutes=1)
    assert not result.truncated


def test_a_list_is_seen_by_no_shell(box: Sandbox) -> None:
    assert box.exec(["printf", "%s|", "$HOME", "a b", "*", ""]).stdout == "$HOME|a b|*||"
    assert box.exec(("echo", "tuple")).stdout == "tuple\n"


def test_options_are_honoured(box: Sandbox) -> None:
    assert box.exec("echo $A; pwd", env={"A": "b c"}, cwd="/usr").stdout == "b c\n/usr\n"
    assert box.exec("cat", stdin="text é").stdout == "text é"
    assert box.exec("od -An -tx1", stdin=b"\x00\xff\n").stdout.split() == ["00", "ff", "0a"]
    assert box.exec("cat").stdout == ""


def test_options_are_honoured_in_streams_and_with_callbacks(box: Sandbox) -> None:
    options: Any = {"cwd": "/usr", "env": {"A": "b c"}, "stdin": "given"}
    events = box.exec_stream("echo $A; pwd; cat", **options)
    assert "".join(event.data for event in events if event.type == "stdout") == "b c\n/usr\ngiven"
    pieces: list[str] = []
    result = box.exec("echo $A; pwd; cat; echo x >&2; exit 4", on_stderr=pieces.append, **options)
    assert (result.stdout, result.stderr, pieces, result.exit_code) == ("b c\n/usr\ngiven", "x\n", ["x\n"], 4)
    with pytest.raises(CommandFailedError) as caught:
        box.exec("echo out; exit 4", check=True, on_stdout=lambda _: None)
    assert caught.value.result.stdout == "out\n"


@pytest.mark.parametrize("with_callbacks", [False, True])
def test_text_and_bytes(box: Sandbox, with_callbacks: bool) -> None:
    pieces: list[Any] = []
    options: Any = {"on_stdout": pieces.append} if with_callbacks else {}
    text = box.exec(BROKEN_TEXT, **options)
    assert (text.stdout, text.stderr) == ("a\ufffdb", "é")
    exact = box.exec(BROKEN_TEXT, encoding=None, **options)
    assert (exact.stdout, exact.stderr) == (b"a\xffb", "é".encode())
    if with_callbacks:
        assert "".join(p for p in pieces if isinstance(p, str)) == "a\ufffdb"
        assert b"".join(p for p in pieces if isinstance(p, bytes)) == b"a\xffb"


def test_check_raises_with_the_result(box: Sandbox) -> None:
    assert box.exec("true", check=True).success
    with pytest.raises(CommandFailedError, match="'echo why >&2; exit 4' ended with exit code 4: why") as caught:
        box.exec("echo why >&2; exit 4", check=True)
    assert caught.value.result.exit_code == 4


@pytest.mark.parametrize("with_callbacks", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", None])
def test_a_timeout_has_the_output_until_then(box: Sandbox, with_callbacks: bool, encoding: Any) -> None:
    options: Any = {"on_stdout": lambda _: None} if with_callbacks else {}
    with pytest.raises(ExecutionTimeoutError) as caught:
        box.exec(r"printf 'out\377'; echo err >&2; sleep 100", timeout=0.5, encoding=encoding, **options)
    assert (caught.value.stdout, caught.value.stderr) == (
        ("out\ufffd", "err\n") if encoding else (b"out\xff", b"err\n")
    )
    assert box.exec("echo on").stdout == "on\n"


def test_a_stream_tells_what_happens(box: Sandbox) -> None:
    events = list(box.exec_stream("echo out; echo err >&2; exit 5", timeout=30))
    assert [events[0].type, events[-1].type] == ["start", "complete"]
    assert events[0].command == "echo out; echo err >&2; exit 5"
    assert {(e.type, e.data, e.bytes) for e in events[1:-1]} == {
        ("stdout", "out\n", b"out\n"),
        ("stderr", "err\n", b"err\n"),
    }
    assert events[-1].exit_code == 5
    assert events[-1].duration is not None and events[-1].duration > 0
    assert all(event.timestamp.tzinfo is not None for event in events)


def test_a_stream_is_exact(box: Sandbox) -> None:
    events = list(box.exec_stream(["python3", "-c", "import os; os.write(1, bytes(range(256)) * 999)"]))
    assert b"".join(event.bytes for event in events if event.type == "stdout") == bytes(range(256)) * 999


def test_a_streams_timeout_is_raised_after_the_output(box: Sandbox) -> None:
    seen = []
    with pytest.raises(ExecutionTimeoutError):
        for event in box.exec_stream("echo begun; sleep 100", timeout=0.5):
            seen.append(event.data)  # noqa: PERF401 - what came before the error is to be kept
    assert "begun\n" in seen


def test_output_over_the_limit_is_truncated_and_told(box: Sandbox) -> None:
    got = 0

    def count(piece: str) -> None:
        nonlocal got
        got += len(piece)

    command = f"head -c {MAX_COLLECTED + 5} /dev/zero | tr '\\0' x"
    streamed = box.exec(command, on_stdout=count)
    assert (len(streamed.stdout), streamed.truncated, got) == (MAX_COLLECTED, True, MAX_COLLECTED + 5)
    collected = box.exec(command)
    assert (len(collected.stdout), collected.truncated) == (MAX_COLLECTED, True)


@pytest.mark.parametrize("with_callbacks", [False, True])
def test_no_character_is_cut_where_output_is(box: Sandbox, with_callbacks: bool) -> None:
    """Of characters of two bytes after one of a single byte, the limit meets one in its middle."""
    options: Any = {"on_stdout": lambda _: None} if with_callbacks else {}
    command = f"printf a; head -c {2 * MAX_COLLECTED} < <(yes é | tr -d '\\n')"
    result = box.exec(command, **options)
    assert result.truncated
    assert set(result.stdout[1:]) == {"é"}, result.stdout[-3:]
    exact = box.exec(f"printf 'a\\377'; printf '\\303' >&2; {command}", encoding=None, **options)
    # The stream of which all is there keeps what is no character.
    assert (exact.truncated, exact.stdout[:2], exact.stderr) == (True, b"a\xff", b"\xc3")


def test_an_error_of_a_callback_ends_the_command(box: Sandbox) -> None:
    def fail(_: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        box.exec("echo x; sleep 1000", on_stdout=fail)
    # The session runs one command after the other: this answers when that one has ended.
    assert box.exec("pgrep -x sleep", timeout=20).stdout == ""


def test_environment_for_all_that_starts_afterwards(box: Sandbox) -> None:
    box.set_env_vars({"A": "1", "B": "2"})
    assert box.exec("echo $A $B").stdout == "1 2\n"
    box.set_env_vars({"A": None})
    assert box.exec("echo ${A-none} $B").stdout == "none 2\n"
    session = box.create_session("s")
    assert session.exec("echo ${A-none} $B").stdout == "none 2\n"
    session.set_env_vars({"B": "3"})
    assert session.exec("echo $B").stdout == "3\n"
    assert box.exec("echo $B").stdout == "2\n"


def test_sessions(box: Sandbox) -> None:
    one = box.create_session("one", env={"A": "1"}, cwd="/tmp")
    assert one.id == "one"
    assert one.exec("echo $A $PWD; cd /usr").stdout == "1 /tmp\n"
    assert box.get_session("one").exec("pwd").stdout == "/usr\n"
    assert "one" in box.list_sessions()
    with pytest.raises(SessionAlreadyExistsError):
        box.create_session("one")
    one.write_file("/tmp/note", "x")
    assert box.read_file("/tmp/note") == "x"
    box.delete_session("one")
    assert "one" not in box.list_sessions()
    with pytest.raises(SessionNotFoundError):
        one.exec("true")
    with pytest.raises(SessionNotFoundError, match="has no session 'one'"):
        box.get_session("one")


def test_leaving_a_loop_cancels_the_command(home: Path) -> None:
    with Sandbox() as sandbox:
        for event in sandbox.exec_stream("echo begun; sleep 1000"):
            if event.type == "stdout":
                break
        assert sandbox.exec("pgrep -x sleep", timeout=20).stdout == ""


def test_leaving_an_async_loop_cancels_the_command(home: Path) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            async for event in sandbox.exec_stream("echo begun; sleep 1000"):
                if event.type == "stdout":
                    break
            assert (await sandbox.exec("pgrep -x sleep", timeout=20)).stdout == ""

    asyncio.run(main())


def test_cancelling_a_task_ends_its_command(home: Path) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            begun = asyncio.Event()
            task = asyncio.ensure_future(sandbox.exec("echo x; sleep 1000", on_stdout=lambda _: begun.set()))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await sandbox.exec("pgrep -x sleep", timeout=20)).stdout == ""

    asyncio.run(main())


def test_callbacks_may_be_coroutines(home: Path) -> None:
    async def main() -> None:
        seen = []

        async def keep(piece: str) -> None:
            await asyncio.sleep(0)
            seen.append(piece)

        async with AsyncSandbox() as sandbox:
            await sandbox.exec("echo x", on_stdout=keep)
        assert seen == ["x\n"]

    asyncio.run(main())


def test_sessions_run_side_by_side_and_threads_share_a_sandbox(home: Path) -> None:
    """Each half waits for the other: neither could end if one ran after the other."""
    with Sandbox() as sandbox:
        one, two = sandbox.create_session("one"), sandbox.create_session("two")
        sandbox.exec("mkfifo /tmp/there /tmp/back", check=True)
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(one.exec("echo ping > /tmp/there; cat /tmp/back").stdout)
        )
        thread.start()
        assert two.exec("cat /tmp/there; echo pong > /tmp/back", timeout=30).stdout == "ping\n"
        thread.join(30)
        assert answers == ["pong\n"]


def test_a_program_of_many_loops(home: Path) -> None:
    """An AsyncSandbox outlives the event loop that it was first used in."""
    sandbox = AsyncSandbox("many-loops")
    assert asyncio.run(sandbox.exec("echo 1")).stdout == "1\n"
    assert asyncio.run(sandbox.exec("echo 2")).stdout == "2\n"
    asyncio.run(sandbox.destroy())


def test_nothing_is_left_open(home: Path) -> None:
    """Python's own check for what was not closed, as an error, with every way to let go of a sandbox."""
    code = """if True:
        import asyncio
        from sandcove import AsyncSandbox, Sandbox

        kept = Sandbox()
        kept.exec("true")
        Sandbox().exec("true")
        with Sandbox() as sandbox:
            sandbox.exec("true")
            next(sandbox.exec_stream("true"))

        async def main():
            global kept_too
            kept_too = AsyncSandbox()
            await kept_too.exec("true")
            await AsyncSandbox().exec("true")
            async with AsyncSandbox() as sandbox:
                await sandbox.exec("true")
                await anext(sandbox.exec_stream("true"))

        asyncio.run(main())
    """
    line = [sys.executable, "-W", "error", "-X", "dev", "-c", code]
    done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
