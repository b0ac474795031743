"""The published npm client: ping, sessions, commands and their streams.

What its own code limits:
- it sends neither cwd, env nor timeout of a command, whatever its types say;
- of its callbacks it calls two: onCommandComplete and onError;
- of an error answer it keeps the text in ``error``, not the status nor the code.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sandcove import Sandbox
from tests.e2e.npm.client import ClientError, NpmClient

INTERNAL = {
    "client": {"constructor", "readLines", "parseExecutionResult", "executeWithRetry", "isRetryableError"},
    "interpreter": {"constructor", "getOrCreateDefaultContext"},
}


def test_every_method_that_the_client_has_is_called_by_these_tests(npm: NpmClient) -> None:
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    ways = r"([a-z]\w+)(?:\(|\.events\(|\.file\(|\.response\(|\.lines\(|\.cell\()"
    methods = npm.methods()
    called = set(re.findall(rf"\bnpm\.{ways}", sources)) - {"methods"}
    assert called == set(methods["client"]) - INTERNAL["client"]
    called = set(re.findall(rf"\bnpm\.interpreter\.{ways}", sources))
    assert called == set(methods["interpreter"]) - INTERNAL["interpreter"]


def test_ping_gives_the_time(npm: NpmClient) -> None:
    told = datetime.fromisoformat(npm.ping())
    assert abs(datetime.now(UTC) - told) < timedelta(minutes=1)


def test_a_session_is_created_with_its_folder_and_environment(npm: NpmClient) -> None:
    options = {"id": "made", "cwd": "/tmp", "env": {"GREETING": "hällo"}, "isolation": True}
    created = npm.createSession(options)
    assert (created["success"], created["id"]) == (True, "made")
    assert "made" in created["message"]
    assert npm.exec("made", "echo $PWD $GREETING")["stdout"] == "/tmp hällo\n"
    npm.createSession({"id": "open", "isolation": False})
    assert npm.exec("open", "pwd")["stdout"] == "/workspace\n"


def test_a_session_keeps_its_state_to_itself(npm: NpmClient, session: str) -> None:
    npm.createSession({"id": f"{session}-other"})
    npm.exec(session, "cd /tmp; export KEPT=1; greet() { echo hello $1; }")
    assert npm.exec(session, "pwd; echo $KEPT; greet you")["stdout"] == "/tmp\n1\nhello you\n"
    assert npm.exec(f"{session}-other", "pwd; echo $KEPT")["stdout"] == "/workspace\n\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"id": "no/session"}, "'no/session' is not"),
        ({"id": "ok", "cwd": "relative"}, "absolute"),
        ({"id": "ok", "cwd": "/missing"}, "/missing"),
        ({"id": "default"}, "exists"),
    ],
)
def test_a_session_that_can_t_be_is_an_error_with_the_reason(
    npm: NpmClient, options: dict[str, str], words: str
) -> None:
    with pytest.raises(ClientError, match=words):
        npm.createSession(options)


def test_a_command_s_result_is_complete(npm: NpmClient, session: str) -> None:
    result = npm.exec(session, "echo out; echo err >&2; exit 3")
    assert (result["stdout"], result["stderr"], result["exitCode"], result["success"]) == ("out\n", "err\n", 3, False)
    assert npm.callbacks == [
        ["onCommandComplete", False, 3, "out\n", "err\n", "echo out; echo err >&2; exit 3"],
    ]
    result = npm.exec(session, "printf 'ä€😀'")
    assert (result["stdout"], result["stderr"], result["exitCode"], result["success"]) == ("ä€😀", "", 0, True)


def test_a_large_output_comes_whole(npm: NpmClient, session: str) -> None:
    assert npm.exec(session, "head -c 5000000 /dev/zero | tr '\\0' x")["stdout"] == "x" * 5_000_000


def test_an_unknown_session_is_an_error_and_told_to_the_callback(npm: NpmClient) -> None:
    with pytest.raises(ClientError, match="session 'nobody' does not exist"):
        npm.exec("nobody", "true")
    [[callback, message, command]] = npm.callbacks
    assert (callback, command) == ("onError", "true")
    assert "nobody" in message
    with pytest.raises(ClientError, match="session 'nobody' does not exist"):
        npm.execStream("nobody", "true")
    with pytest.raises(ClientError, match="session 'nobody' does not exist"):
        npm.readFile("x", None, "nobody")


def test_a_stream_tells_start_output_and_end(npm: NpmClient, session: str) -> None:
    events = npm.execStream.events(session, "echo out; echo err >&2; exit 3")
    assert events[0]["type"] == "start"
    assert events[0]["command"] == "echo out; echo err >&2; exit 3"
    assert {event["type"]: event["data"] for event in events[1:-1]} == {"stdout": "out\n", "stderr": "err\n"}
    assert events[-1]["type"] == "complete"
    assert events[-1]["exitCode"] == 3
    assert events[-1]["result"]["success"] is False
    assert all(datetime.fromisoformat(event["timestamp"]) for event in events)


def test_output_arrives_while_the_command_runs(npm: NpmClient, session: str) -> None:
    npm.exec(session, "rm -f /tmp/go; mkfifo /tmp/go")
    # Nobody writes to the pipe: the command ends because the reader of its stream leaves, after the first line.
    events = npm.execStream.events(session, "echo begun; cat /tmp/go", until="begun")
    assert [event["type"] for event in events] == ["start", "stdout"]
    assert npm.exec(session, "pgrep -x cat")["stdout"] == ""


def test_a_streamed_character_is_never_split(npm: NpmClient, session: str) -> None:
    events = npm.execStream.events(session, "yes 'ä€😀' | head -n 200000")
    assert "".join(event["data"] for event in events if event["type"] == "stdout") == "ä€😀\n" * 200_000


@pytest.mark.slow
def test_a_stream_that_is_silent_for_long_is_kept_by_comments_that_the_client_skips(
    npm: NpmClient, session: str
) -> None:
    events = npm.execStream.events(session, "sleep 16; echo late")
    assert [event["type"] for event in events] == ["start", "stdout", "complete"]


def test_the_python_sdk_and_the_npm_client_see_one_sandbox(npm: NpmClient, box: Sandbox, session: str) -> None:
    npm.writeFile("/workspace/shared", "from npm", None, session)
    assert box.read_file("shared") == "from npm"
    assert session in box.list_sessions()
    box.get_session(session).exec("export FROM_PYTHON=1")
    assert npm.exec(session, "echo $FROM_PYTHON")["stdout"] == "1\n"
