"""A file as a stream of events, when something goes wrong; `tests/e2e/npm` reads whole ones."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from sandcove import Sandbox
from sandcove.home import Home
from tests.server.conftest import OnSocket

SIZE = 50_000_000
"""More than what lies between a reader that stops and a file takes."""


@pytest.fixture
def agent(shared: Sandbox) -> Iterator[OnSocket]:
    with closing(OnSocket(Home.default().agent_socket(shared.id))) as connection:
        yield connection


def opened(agent: OnSocket, path: str) -> http.client.HTTPResponse:
    agent.request("POST", "/api/read/stream", json.dumps({"path": path}))
    return agent.getresponse()


def event(line: bytes) -> dict[str, Any]:
    assert line.startswith(b"data: ")
    return json.loads(line[6:])  # type: ignore[no-any-return]


def test_a_file_that_becomes_shorter_while_it_is_read_ends_in_an_error(shared: Sandbox, agent: OnSocket) -> None:
    shared.exec(f"head -c {SIZE} /dev/zero >/tmp/shrinking", check=True)
    response = opened(agent, "/tmp/shrinking")
    assert event(response.readline())["size"] == SIZE
    shared.exec("truncate -s 1000 /tmp/shrinking", check=True)
    *_, last = (event(line) for line in response if line != b"\n")
    assert (last["type"], last["code"]) == ("error", "FILE_SYSTEM_ERROR")
    assert "/tmp/shrinking" in last["error"]


def test_a_reader_may_leave_midway(shared: Sandbox, agent: OnSocket) -> None:
    shared.exec(f"head -c {SIZE} /dev/zero >/tmp/left", check=True)
    for _ in range(20):
        response = opened(agent, "/tmp/left")
        assert event(response.readline())["type"] == "metadata"
        response.close()
        agent.close()
    assert shared.exec("echo on").stdout == "on\n"


@pytest.mark.parametrize(("path", "status"), [("/tmp/pipe", 422), ("/tmp", 422), ("/tmp/missing", 404)])
def test_what_is_no_file_is_refused_before_the_stream_begins(
    shared: Sandbox, agent: OnSocket, path: str, status: int
) -> None:
    shared.exec("test -p /tmp/pipe || mkfifo /tmp/pipe", check=True)
    response = opened(agent, path)
    assert response.status == status
    assert path in json.loads(response.read())["error"]
