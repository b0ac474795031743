"""The three functions that a sandbox calls around its commands, and its log; both halves by one body."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from sandcove import (
    AsyncSandbox,
    CommandFailedError,
    ExecResult,
    ExecutionTimeoutError,
    InvalidRequestError,
    PathNotFoundError,
    Sandbox,
    SessionNotFoundError,
)
from tests.conftest import MakeSandbox


class Seen:
    """What the three were called with, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.hooks: dict[str, Any] = {
            "on_command_start": lambda command: self.calls.append(("start", command)),
            "on_output": lambda stream, data: self.calls.append((stream, data)),
            "on_command_complete": lambda ended: self.calls.append(("complete", ended)),
        }

    def output(self) -> dict[str, str]:
        printed: dict[str, str] = {}
        for call in self.calls:
            if call[0] in {"stdout", "stderr"}:
                printed[call[0]] = printed.get(call[0], "") + call[1]
        return printed

    @property
    def result(self) -> Any:
        (ended,) = [call[1] for call in self.calls if call[0] == "complete"]
        return ended


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def box(make_sandbox: MakeSandbox, seen: Seen) -> Sandbox:
    return make_sandbox(**seen.hooks)


def test_around_exec(box: Sandbox, seen: Seen) -> None:
    result = box.exec("echo out; echo é >&2; exit 3")
    assert seen.calls[0] == ("start", "echo out; echo é >&2; exit 3")
    assert seen.output() == {"stdout": "out\n", "stderr": "é\n"}
    assert seen.calls[-1] == ("complete", result)
    assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "é\n")


def test_a_list_is_shown_as_a_shell_would_need_it(box: Sandbox, seen: Seen) -> None:
    box.exec(["printf", "%s", "a b"])
    assert seen.calls[0] == ("start", "printf %s 'a b'")
    assert seen.result.command == "printf %s 'a b'"


def test_around_exec_stream(box: Sandbox, seen: Seen) -> None:
    events = box.exec_stream("echo out; echo err >&2; exit 3")
    assert seen.calls == []
    list(events)
    assert seen.calls[0] == ("start", "echo out; echo err >&2; exit 3")
    assert seen.output() == {"stdout": "out\n", "stderr": "err\n"}
    assert isinstance(seen.result, ExecResult)
    # What it printed is not held for it.
    assert (seen.result.exit_code, seen.result.stdout, seen.result.stderr) == (3, "", "")
    assert seen.result.duration > 0


def test_output_is_text_and_the_caller_s_own_functions_are_called_too(box: Sandbox, seen: Seen) -> None:
    pieces: list[bytes] = []
    result = box.exec(r"printf 'a\377'", encoding=None, on_stdout=pieces.append)
    assert (result.stdout, b"".join(pieces)) == (b"a\xff", b"a\xff")
    assert seen.output() == {"stdout": "a\ufffd"}


def test_a_session_has_those_of_its_sandbox(box: Sandbox, seen: Seen) -> None:
    box.create_session("s").exec("echo 1")
    box.get_session("s").exec("echo 2")
    assert [call[1] for call in seen.calls if call[0] == "start"] == ["echo 1", "echo 2"]


def test_an_error_is_told_in_place_of_the_result(box: Sandbox, seen: Seen) -> None:
    for run in (box.exec, lambda *given, **options: list(box.exec_stream(*given, **options))):
        seen.calls.clear()
        with pytest.raises(ExecutionTimeoutError) as late:
            run("echo begun; sleep 1001", timeout=0.3)
        assert seen.result is late.value
        assert seen.output() == {"stdout": "begun\n"}
        seen.calls.clear()
        with pytest.raises(PathNotFoundError):
            run("true", cwd="/no/such")
        assert [call[0] for call in seen.calls] == ["start", "complete"]
        assert isinstance(seen.result, PathNotFoundError)


def test_a_command_that_check_finds_wanting_has_a_result(box: Sandbox, seen: Seen) -> None:
    with pytest.raises(CommandFailedError) as caught:
        box.exec("exit 3", check=True)
    assert seen.result is caught.value.result


def test_a_wrong_argument_calls_nothing(box: Sandbox, seen: Seen) -> None:
    with pytest.raises(InvalidRequestError):
        box.exec("")
    with pytest.raises(InvalidRequestError):
        box.exec("true", stdin=5)  # type: ignore[call-overload]
    assert seen.calls == []


def test_a_stream_that_is_left_is_not_complete(box: Sandbox, seen: Seen) -> None:
    events: Any = box.exec_stream("echo begun; sleep 1001")
    for event in events:
        if event.type == "stdout":
            break
    (events.close if hasattr(events, "close") else events.aclose)()
    assert [call[0] for call in seen.calls] == ["start", "stdout"]


@pytest.mark.parametrize("which", ["on_command_start", "on_output", "on_command_complete"])
def test_what_a_hook_raises_the_call_raises(make_sandbox: MakeSandbox, which: str) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    box = make_sandbox(**{which: fail})
    command = "touch /tmp/ran; echo x; " + ("" if which == "on_command_complete" else "sleep 1001")
    for run in (box.exec, lambda text: list(box.exec_stream(text))):
        with pytest.raises(ZeroDivisionError):
            run(command)
    assert box.exists("/tmp/ran") == (which != "on_command_start")
    if which != "on_command_start":
        free = Sandbox(box.id)
        assert free.exec("pgrep -x sleep", timeout=20).stdout == ""


@pytest.mark.parametrize("which", ["on_command_start", "on_output", "on_command_complete"])
@pytest.mark.parametrize("kind", [Sandbox, AsyncSandbox])
def test_a_hook_is_a_function(kind: Any, which: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"{which} is a function, not int"):
        kind("x", **{which: 5})


def test_hooks_may_be_coroutines(home: object) -> None:
    seen: list[str] = []

    async def start(command: str) -> None:
        await asyncio.sleep(0)
        seen.append(command)

    async def output(stream: str, data: str) -> None:
        await asyncio.sleep(0)
        seen.append(data)

    async def complete(result: Any) -> None:
        await asyncio.sleep(0)
        seen.append(result.exit_code)

    async def main() -> None:
        async with AsyncSandbox(on_command_start=start, on_output=output, on_command_complete=complete) as box:
            await box.exec("echo 1")
            async for _ in box.exec_stream("echo 2"):
                pass

    asyncio.run(main())
    assert seen == ["echo 1", "1\n", 0, "echo 2", "2\n", 0]


@pytest.mark.local("its key is made up")
def test_the_log_tells_of_each_command_and_of_no_secret(
    make_sandbox: MakeSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "s3cret-s3cret"
    with caplog.at_level(logging.DEBUG, "sandcove"):
        box = make_sandbox("logged", env={"A": secret}, api_key=secret)
        box.exec(f"echo {secret}; exit 3", stdin=secret, env={"B": secret})
        box.exec("cat", stdin=[secret] * 200_000)
        session = box.create_session("own", env={"C": secret})
        list(session.exec_stream(f"echo {secret} >&2"))
        for run in (session.exec, lambda *given, **options: list(session.exec_stream(*given, **options))):
            with pytest.raises(ExecutionTimeoutError):
                run(f"echo {secret}; sleep 1001", timeout=0.2)
        with pytest.raises(PathNotFoundError):
            session.exec(secret, cwd=f"/{secret}")
        with pytest.raises(CommandFailedError):
            session.exec(f"echo {secret}; false", check=True)
        box.sleep()
        box.exec("true")
        box.delete_session("own")
        with pytest.raises(SessionNotFoundError):
            session.exec(f"echo {secret}")
        box.destroy()
    assert secret not in caplog.text
    lines = [record.getMessage() for record in caplog.records if record.name == "sandcove"]
    assert [line.rpartition(" after ")[0] for line in lines if "exit code" in line] == [
        "session default: a command ended with exit code 3",
        "session default: a command ended with exit code 0",
        "session own: a command ended with exit code 0",
        "session own: a command ended with exit code 1",
        "session default: a command ended with exit code 0",
    ]
    assert [line for line in lines if "a command failed" in line] == [
        "session own: a command failed (EXECUTION_TIMEOUT)",
        "session own: a command failed (EXECUTION_TIMEOUT)",
        "session own: a command failed (PATH_NOT_FOUND)",
        "session own: a command failed (SESSION_NOT_FOUND)",
    ]
    assert "sandbox logged is there and awake" in lines
    assert any("waking it" in line for line in lines)
