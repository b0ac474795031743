"""A stream of a silent command says that it is alive, as often as its caller asks."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Any

import pytest

from sandcove import Sandbox, Session
from tests.server.conftest import OnSocket, ask


@pytest.fixture
def agent(shared: Sandbox, home: Path) -> Path:
    return home / "run" / f"{shared.id}.sock"


def stream(connection: OnSocket, session: Session, command: str, query: str) -> http.client.HTTPResponse:
    body = b'{"id": "%b", "command": "%b"}' % (session.id.encode(), command.encode())
    connection.request("POST", f"/api/execute/stream{query}", body)
    return connection.getresponse()


def test_a_silent_command_s_stream_gets_comments(agent: Path, shared: Sandbox, session: Session) -> None:
    session.exec("mkfifo /tmp/quiet")
    connection = OnSocket(agent)
    answer = stream(connection, session, "read line < /tmp/quiet; echo $line", "?heartbeat=10")
    lines: list[bytes] = []
    while lines.count(b": \n") < 5:
        lines.append(answer.readline())
    # Each is whole, with the blank line that ends it, and stands between events.
    assert lines[0].startswith(b'data: {"type":"start"')
    assert [line for line in lines[1:] if line != b"\n"] == [b": \n"] * 5
    shared.exec("echo now > /tmp/quiet; rm /tmp/quiet")
    rest = answer.read()
    assert b'"type":"stdout"' in rest and b'"data":"now\\n"' in rest and b'"exitCode":0' in rest
    connection.close()


@pytest.mark.parametrize(
    "query", ["heartbeat=9", "heartbeat=60001", "heartbeat=-5", "heartbeat=", "heartbeat=1e3", "x=1"]
)
def test_a_wrong_heartbeat(agent: Path, query: str) -> None:
    answer: Any = ask(agent, "POST", f"/api/execute/stream?{query}", {"command": "true"})
    assert (answer.status, answer.json["code"]) == (400, "INVALID_REQUEST")
