"""The published npm client: background processes.

What its own code limits: it sends no signal with a kill, and puts ids into paths as they are.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.e2e.npm.client import ClientError, NpmClient


def text(events: list[dict[str, Any]], stream: str) -> str:
    return "".join(event["data"] for event in events if event["type"] == stream)


def test_a_process_is_started_watched_and_asked_for_its_log(npm: NpmClient, session: str) -> None:
    started = npm.startProcess("echo out; echo err >&2; exit 3", session)["process"]
    assert started["command"] == "echo out; echo err >&2; exit 3"
    assert started["sessionId"] == session
    assert started["pid"] > 0
    events = npm.streamProcessLogs.events(started["id"])
    assert (text(events, "stdout"), text(events, "stderr")) == ("out\n", "err\n")
    # Its types call the last event "exit", the server that it was published with sends "complete".
    assert {event["type"] for event in events} >= {"exit", "complete"}
    assert events[-1]["exitCode"] == 3
    assert {event["processId"] for event in events} == {started["id"]}
    assert all(datetime.fromisoformat(event["timestamp"]) for event in events)
    logs = npm.getProcessLogs(started["id"])
    assert (logs["stdout"], logs["stderr"], logs["processId"]) == ("out\n", "err\n", started["id"])
    ended = npm.getProcess(started["id"])["process"]
    assert (ended["status"], ended["exitCode"]) == ("failed", 3)
    assert datetime.fromisoformat(ended["endTime"]) >= datetime.fromisoformat(ended["startTime"])


def test_the_options_of_a_process_are_heeded(npm: NpmClient, session: str) -> None:
    options = {
        "processId": "chosen.1",
        "cwd": "/tmp",
        "env": {"GREETING": "hällo"},
        "timeout": 60_000,
        "encoding": "utf8",
        "autoCleanup": False,
    }
    assert npm.startProcess("echo $PWD $GREETING", session, options)["process"]["id"] == "chosen.1"
    npm.streamProcessLogs.events("chosen.1")
    assert npm.getProcessLogs("chosen.1")["stdout"] == "/tmp hällo\n"
    assert npm.getProcess("chosen.1")["process"]["status"] == "completed"
    with pytest.raises(ClientError, match=r"chosen\.1"):
        npm.startProcess("true", session, {"processId": "chosen.1"})


def test_a_timeout_ends_a_process(npm: NpmClient, session: str) -> None:
    process = npm.startProcess("echo begun; sleep 1000", session, {"timeout": 500})["process"]
    events = npm.streamProcessLogs.events(process["id"])
    assert text(events, "stdout") == "begun\n"
    assert npm.getProcess(process["id"])["process"]["status"] == "killed"


def test_a_log_is_followed_while_the_process_runs_and_left_without_harm(npm: NpmClient, session: str) -> None:
    process = npm.startProcess("echo begun; sleep 1000", session)["process"]
    events = npm.streamProcessLogs.events(process["id"], until="begun")
    assert text(events, "stdout") == "begun\n"
    assert npm.getProcess(process["id"])["process"]["status"] == "running"
    assert npm.killProcess(process["id"])["success"] is True
    assert npm.getProcess(process["id"])["process"]["status"] == "killed"
    events = npm.streamProcessLogs.events(process["id"])
    assert text(events, "stdout") == "begun\n"
    assert npm.exec(session, "pgrep -x sleep")["stdout"] == ""


def test_processes_are_listed_and_killed_by_session(npm: NpmClient, session: str) -> None:
    npm.createSession({"id": f"{session}-other"})
    first, second = (npm.startProcess("sleep 1000", session)["process"]["id"] for _ in range(2))
    other = npm.startProcess("sleep 1000", f"{session}-other")["process"]["id"]

    def running(*of: str) -> set[str]:
        listed = npm.listProcesses(*of)["processes"]
        return {process["id"] for process in listed if process["status"] == "running"}

    assert running(session) == {first, second}
    assert running() >= {first, second, other}
    killed = npm.killAllProcesses(session)
    assert (killed["success"], killed["killedCount"]) == (True, 2)
    assert running() & {first, second, other} == {other}
    assert npm.killAllProcesses()["killedCount"] >= 1
    assert running() == set()


def test_an_unknown_process_is_an_error_that_names_it(npm: NpmClient, session: str) -> None:
    with pytest.raises(ClientError, match="nobody"):
        npm.getProcess("nobody")
    with pytest.raises(ClientError, match="nobody"):
        npm.killProcess("nobody")
    with pytest.raises(ClientError, match="nobody"):
        npm.getProcessLogs("nobody")
    with pytest.raises(ClientError, match="nobody"):
        npm.streamProcessLogs("nobody")
    with pytest.raises(ClientError, match="session 'nobody' does not exist"):
        npm.startProcess("true", "nobody")
    with pytest.raises(ClientError, match="session 'nobody' does not exist"):
        npm.listProcesses("nobody")


def test_a_large_log_comes_whole(npm: NpmClient, session: str) -> None:
    process = npm.startProcess("yes 'ä€😀' | head -n 500000", session)["process"]
    assert text(npm.streamProcessLogs.events(process["id"]), "stdout") == "ä€😀\n" * 500_000
