"""How a server stops: running calls may end, no call begins, a second signal ends it at once."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bench import processes
from sandcove import Sandbox, get_sandbox
from tests.server import let_in
from tests.server.conftest import OnSocket, Serving, ask

BEARER = {"Authorization": f"Bearer {let_in.KEY}"}
Serve = Callable[..., Serving]


class Caller:
    """Somebody who calls over TCP."""

    def __init__(self, address: str) -> None:
        url = urlsplit(address)
        self._connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)

    def ask(self, method: str, target: str, body: Any = None) -> http.client.HTTPResponse:
        self._connection.request(method, target, None if body is None else json.dumps(body), BEARER)
        return self._connection.getresponse()

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def serving(serve: Serve) -> Callable[..., Serving]:
    def start(grace: float) -> Serving:
        made = serve("--host=127.0.0.1", "--port=0", f"--stop-grace={grace}", program=Path(let_in.__file__))
        made.wait_until_it_serves()
        return made

    return start


@pytest.fixture
def callers() -> Iterator[Callable[[str], Caller]]:
    made: list[Caller] = []

    def make(address: str) -> Caller:
        made.append(Caller(address))
        return made[-1]

    yield make
    for caller in made:
        caller.close()


def begun(caller: Caller, box: Sandbox, command: str) -> http.client.HTTPResponse:
    """The answer to a command that has begun and goes on."""
    stream = caller.ask("POST", f"/v1/sandboxes/{box.id}/api/execute/stream", {"command": f"echo begun; {command}"})
    while b"begun" not in stream.readline():
        pass
    return stream


def logged(serving: Serving, text: str) -> None:
    """Waits until the log says so."""
    assert serving.process.stderr is not None
    assert any(text in line for line in serving.process.stderr)


def test_running_calls_may_end_and_no_other_begins(
    serving: Callable[..., Serving], callers: Callable[[str], Caller]
) -> None:
    server = serving(60)
    address = server.address
    here: Any = {"url": address, "api_key": let_in.KEY}
    held = callers(address).ask("POST", "/v1/sandboxes", {"lease": True})  # waits for the end of the server itself
    held.readline()
    box = get_sandbox("box", **here)
    box.exec("mkfifo /tmp/go")
    stream = begun(callers(address), box, "cat /tmp/go")
    release = callers(address)
    assert release.ask("GET", "/readyz").read()
    server.process.send_signal(signal.SIGTERM)
    logged(server, "stopping")
    late = callers(address)
    for _ in range(2):
        ready = late.ask("GET", "/readyz")
        assert (ready.status, json.loads(ready.read())["code"]) == (503, "SERVICE_UNAVAILABLE")
        refused = late.ask("POST", "/v1/sandboxes/box/api/execute", {"command": "true"})
        told = json.loads(refused.read())
        assert (refused.status, told["code"], told["begun"]) == (503, "SERVICE_UNAVAILABLE", False)
        alive = late.ask("GET", "/healthz")
        assert (alive.status, alive.read()) == (200, b'{"success":true}')
    with pytest.raises((FileNotFoundError, ConnectionRefusedError)), socket.socket(socket.AF_UNIX) as local:
        local.connect(str(server.home / "server.sock"))
    # The agent's own socket lets the command end.
    assert ask(server.home / "run" / "box.sock", "PUT", "/api/file?path=/tmp/released", b"").status == 200
    session = {"id": "other", "isolation": False}
    assert ask(server.home / "run" / "box.sock", "POST", "/api/session/create", session).status == 200
    write = {"id": "other", "command": "echo go > /tmp/go"}
    assert ask(server.home / "run" / "box.sock", "POST", "/api/execute", write).json["success"]
    rest = stream.read()
    assert b'"complete"' in rest and b"go" in rest
    assert held.read() == b""
    assert server.process.wait(30) == 0


def test_what_does_not_end_in_time_is_cut(serving: Callable[..., Serving], callers: Callable[[str], Caller]) -> None:
    server = serving(0.5)
    box = get_sandbox("box", url=server.address, api_key=let_in.KEY)
    box.exec("true")
    stream = begun(callers(server.address), box, "sleep 1000")
    before = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    with pytest.raises(http.client.HTTPException):
        while stream.readline():
            pass
        raise http.client.HTTPException
    assert 0.5 <= time.monotonic() - before < 10
    assert server.process.wait(30) == 0


@pytest.fixture
def direct(serving: Callable[..., Serving]) -> Iterator[Callable[[float], tuple[Serving, http.client.HTTPResponse]]]:
    """Makes a server, and on the socket of its sandbox's agent a command that has begun and waits for a line."""
    made: list[OnSocket] = []

    def make(grace: float) -> tuple[Serving, http.client.HTTPResponse]:
        server = serving(grace)
        get_sandbox("box", url=server.address, api_key=let_in.KEY).exec("mkfifo /workspace/go")
        made.append(OnSocket(server.home / "run" / "box.sock"))
        command = json.dumps({"command": "echo begun; read line < /workspace/go; echo got $line"})
        made[-1].request("POST", "/api/execute/stream", command)
        stream = made[-1].getresponse()
        while b"begun" not in stream.readline():
            pass
        return server, stream

    yield make
    for caller in made:
        caller.close()


def test_direct_calls_may_end_and_no_other_begins(
    direct: Callable[[float], tuple[Serving, http.client.HTTPResponse]],
) -> None:
    server, stream = direct(60)
    with (server.home / "sandboxes/box/root/workspace/go").open("r+b", buffering=0) as go:
        server.process.send_signal(signal.SIGTERM)
        logged(server, "stopping")
        until = time.monotonic() + 30
        while (late := ask(server.home / "run" / "box.sock", "GET", "/api/ping")).status == 200:
            assert time.monotonic() < until
        assert (late.status, late.json["code"], late.json["begun"]) == (503, "CONTAINER_NOT_READY", False)
        assert server.process.poll() is None
        go.write(b"it\n")
        rest = stream.read()
    assert b"got it" in rest and b'"complete"' in rest
    assert server.process.wait(30) == 0


def test_a_direct_call_that_does_not_end_in_time_is_cut(
    direct: Callable[[float], tuple[Serving, http.client.HTTPResponse]],
) -> None:
    server, stream = direct(1)
    before = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    assert 1 <= time.monotonic() - before < 10
    with pytest.raises(http.client.HTTPException):
        while stream.readline():
            pass
        raise http.client.HTTPException


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look which process the agent is")
def test_an_agent_that_does_not_answer_holds_nothing_up(serving: Callable[..., Serving]) -> None:
    server = serving(1)
    for name in ("box", "other"):
        get_sandbox(name, url=server.address, api_key=let_in.KEY).exec("true")
    for agent in processes.agents(processes.of_sandbox(server.home, "box")):
        os.kill(agent, signal.SIGSTOP)
    before = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    # The grace, and the five seconds in which an agent is to write down what it knows.
    assert time.monotonic() - before < 10
    assert processes.all_gone(server.home, within=10) == {}


def test_a_second_signal_ends_it_at_once(serving: Callable[..., Serving], callers: Callable[[str], Caller]) -> None:
    server = serving(1000)
    held = callers(server.address).ask("POST", "/v1/sandboxes", {"lease": True})
    held.readline()
    box = get_sandbox("box", url=server.address, api_key=let_in.KEY)
    box.write_file("/workspace/file", "kept")
    begun(callers(server.address), box, "sleep 1000")
    server.process.send_signal(signal.SIGTERM)
    logged(server, "stopping")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.stderr is not None
    told = server.process.stderr.read()
    assert server.process.wait(10) == 0
    assert "ending at once" in told
    assert "Traceback" not in told
    assert not processes.all_gone(server.home, within=10)
    again = serving(1)
    assert get_sandbox("box", url=again.address, api_key=let_in.KEY).read_file("/workspace/file") == "kept"
    again.process.send_signal(signal.SIGTERM)
    assert again.process.wait(30) == 0
