"""The route that takes a standard input ahead of its command, asked as no SDK would."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from sandcove import Sandbox
from sandcove.agent.inputs import MOST, Inputs
from sandcove.errors import NotFoundError
from tests.answers import Answer
from tests.server.conftest import ask

LEFT = "find /var/lib/sandcove/stdin -type f 2>/dev/null | wc -l"


@pytest.fixture
def agent(sandbox: Sandbox, home: Path) -> Path:
    sandbox.ping()
    return home / "run" / f"{sandbox.id}.sock"


def execute(agent: Path, **fields: Any) -> Answer:
    return ask(agent, "POST", "/api/execute", {"command": "cat", **fields})


def test_a_token_is_good_for_one_command(agent: Path) -> None:
    token = ask(agent, "PUT", "/api/stdin", b"given").json["token"]
    assert execute(agent, stdinToken=token).json["stdout"] == "given"
    again = execute(agent, stdinToken=token)
    assert (again.status, again.json["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"stdinToken": "no-such"}, 404, "is not there"),
        ({"stdinToken": "../../../etc/passwd"}, 404, "is not there"),
        ({"stdinToken": "x" * 100_000}, 404, "is not there"),
        ({"stdinToken": 5}, 400, "stdinToken"),
        ({"stdinToken": "x", "stdin": "y"}, 400, "not both"),
    ],
)
@pytest.mark.parametrize("route", ["execute", "execute/stream"])
def test_a_wrong_token(agent: Path, route: str, fields: dict[str, Any], status: int, told: str) -> None:
    answer = ask(agent, "POST", f"/api/{route}", {"command": "cat", **fields})
    assert (answer.status, told in answer.json["error"]) == (status, True), answer


def test_a_token_of_another_sandbox(agent: Path, home: Path) -> None:
    token = ask(agent, "PUT", "/api/stdin", b"secret").json["token"]
    with Sandbox() as other:
        other.ping()
        assert execute(home / "run" / f"{other.id}.sock", stdinToken=token).status == 404


def test_as_many_as_wait_for_their_command_at_most(agent: Path, sandbox: Sandbox) -> None:
    tokens = [ask(agent, "PUT", "/api/stdin", b"x").json["token"] for _ in range(MOST)]
    refused = ask(agent, "PUT", "/api/stdin", b"x")
    assert (refused.status, refused.json["code"], refused.json["begun"]) == (503, "SERVICE_UNAVAILABLE", False)
    assert refused.headers["retry-after"] == "1"
    assert execute(agent, stdinToken=tokens[0]).json["stdout"] == "x"
    assert ask(agent, "PUT", "/api/stdin", b"x").status == 200
    assert sandbox.exec(LEFT).stdout == f"{MOST}\n"


def test_a_caller_who_leaves_in_the_middle_leaves_nothing(agent: Path, sandbox: Sandbox) -> None:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(agent))
        caller.sendall(b"PUT /api/stdin HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n" + bytes(2_000_000))
        sandbox.exec(f"until [ $({LEFT}) = 1 ]; do :; done", timeout=20)
    sandbox.exec(f"until [ $({LEFT}) = 0 ]; do :; done", timeout=20)


@pytest.mark.parametrize("command", ["rm -r /var/lib/sandcove/stdin", "rm -f /var/lib/sandcove/stdin/*"])
def test_user_code_can_break_only_its_own(agent: Path, sandbox: Sandbox, command: str) -> None:
    token = ask(agent, "PUT", "/api/stdin", b"x").json["token"]
    sandbox.exec(command)
    answer = execute(agent, stdinToken=token)
    assert (answer.status, answer.json["exitCode"]) == (200, 1)
    assert ask(agent, "PUT", "/api/stdin", b"x").status == 200


@pytest.mark.parametrize("thing", ["ln -s /etc", "touch", "mkfifo"])
def test_something_in_the_folder_s_place(agent: Path, sandbox: Sandbox, thing: str) -> None:
    sandbox.exec(f"rm -rf /var/lib/sandcove/stdin; {thing} /var/lib/sandcove/stdin")
    assert ask(agent, "PUT", "/api/stdin", b"x").status in {200, 409, 422}
    assert sandbox.exec("echo on").stdout == "on\n"


def test_an_input_whose_command_does_not_come_is_dropped(tmp_path: Path) -> None:
    async def body() -> dict[str, Any]:
        return {"type": "http.request", "body": b"given", "more_body": False}

    async def main() -> None:
        inputs = Inputs(tmp_path / "stdin", longest_wait=0.01)
        token = await inputs.receive(Request({"type": "http", "headers": []}, body))
        path = tmp_path / "stdin" / token
        assert path.read_bytes() == b"given"
        while path.exists():  # noqa: ASYNC110 - a timer deletes it, and tells nobody
            await asyncio.sleep(0)
        with pytest.raises(NotFoundError):
            inputs.take(token)

    asyncio.run(main())


def test_one_that_is_taken_is_not_dropped_by_time(tmp_path: Path) -> None:
    async def body() -> dict[str, Any]:
        return {"type": "http.request", "body": b"given", "more_body": False}

    async def main() -> None:
        inputs = Inputs(tmp_path / "stdin", longest_wait=0.01)
        taken = inputs.take(await inputs.receive(Request({"type": "http", "headers": []}, body)))
        late = await inputs.receive(Request({"type": "http", "headers": []}, body))
        while (tmp_path / "stdin" / late).exists():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        assert taken.read_bytes() == b"given"

    asyncio.run(main())
