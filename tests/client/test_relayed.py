"""The SDK over TCP, where every call to an agent is relayed by the server; both halves by one body."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from sandcove import ExecutionTimeoutError, PathNotFoundError, Sandbox, SandboxNetworkError, list_sandboxes
from sandcove.client import endpoint
from tests.client.peers import Connection, Peer, Script, answer
from tests.conftest import MakeSandbox
from tests.forwarder import Forwarder


@pytest.fixture
def url(home: Path) -> Iterator[str]:
    """A TCP address of the local server."""
    list_sandboxes()  # starts it
    with closing(Forwarder(home / "server.sock")) as forwarder:
        yield forwarder.url


@pytest.fixture
def box(url: str, make_sandbox: MakeSandbox) -> Sandbox:
    return make_sandbox(url=url, api_key="a-key")


def test_commands(box: Sandbox) -> None:
    assert box.exec("echo out; exit 3").exit_code == 3
    assert [event.type for event in box.exec_stream("echo x")] == ["start", "stdout", "complete"]
    pieces: list[str] = []
    box.exec("head -c 20000000 /dev/zero | tr '\\0' x", on_stdout=pieces.append)
    assert sum(map(len, pieces)) == 20_000_000
    with pytest.raises(ExecutionTimeoutError) as caught:
        box.exec("echo begun; sleep 100", timeout=0.5)
    assert caught.value.stdout == "begun\n"
    assert box.exec("wc -c", stdin=(bytes(1 << 20) for _ in range(5))).stdout == f"{5 << 20}\n"


def test_files(box: Sandbox, tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    box.write_file("a b/ü?&#", data)
    assert box.read_file("a b/ü?&#", encoding=None) == data
    box.download("a b", tmp_path / "out")
    assert (tmp_path / "out" / "ü?&#").read_bytes() == data
    box.upload(tmp_path / "out", "back")
    assert box.stat("back/ü?&#").size == len(data)
    with pytest.raises(PathNotFoundError):
        box.read_file("missing")


def test_leaving_a_stream_cancels_its_command(url: str) -> None:
    with Sandbox(url=url) as box:
        for event in box.exec_stream("echo begun; sleep 1000"):
            if event.type == "stdout":
                break
        assert box.exec("pgrep -x sleep", timeout=20).stdout == ""


def test_sleep_wake_and_sessions(box: Sandbox) -> None:
    session = box.create_session("s", cwd="/tmp")
    session.write_file("note", "kept")
    box.write_file("note", "kept")
    assert box.info().state == "running"
    assert box.read_file("/tmp/note") == "kept"


def test_a_sleeping_one_is_woken_by_the_relay(url: str) -> None:
    box = Sandbox("relayed-sleeper", url=url)
    box.write_file("note", "kept")
    assert box.sleep().state == "asleep"
    assert box.exec("cat note").stdout == "kept"
    box.destroy()


def test_the_end_of_the_connection_is_told(home: Path) -> None:
    list_sandboxes()
    with closing(Forwarder(home / "server.sock")) as forwarder:
        box = Sandbox("cut-off", url=forwarder.url)
        box.ping()
    with pytest.raises(SandboxNetworkError, match="can't be reached: Connection refused; check that it runs"):
        box.exec("true")
    Sandbox("cut-off").destroy()


def test_cells(box: Sandbox) -> None:
    with box.create_code_context() as context:
        execution = box.run_code("print('ä€😀' * 1_000_000); 42", context=context)
        assert ("".join(execution.logs.stdout), execution.text) == ("ä€😀" * 1_000_000 + "\n", "42")
        for event in box.run_code_stream("import time; print('up', flush=True); time.sleep(1000)", context=context):
            assert event.text == "up\n"
            break
        with pytest.raises(ExecutionTimeoutError) as caught:
            box.run_code("print('begun'); time.sleep(1000)", context=context, timeout=0.5)
        assert caught.value.stdout == "begun\n"


def test_a_sandbox_that_wakes_slowly_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_GRACE", 0.3)
    script = Script(answer(b"{}"))

    def play(connection: Connection) -> None:
        send = connection.sock.sendall

        class Slow:
            """A connection that takes a second to answer what is for the agent."""

            request = connection.request

            @property
            def sock(self) -> Slow:
                return self

            def sendall(self, data: bytes) -> None:
                if script.calls:
                    time.sleep(1)
                send(data)

        script.play(cast(Connection, Slow()))

    with Peer(None, play) as peer:
        box = Sandbox("x", url=peer.url)
        box.wait_for_port(80, timeout=0.1)
        assert script.calls == ["POST /api/wait-for-port"]
        box._agent.client().close()
