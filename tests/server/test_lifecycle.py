"""What the server does with sandboxes: get or create, info, list, sleep, wake, destroy."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import processes
from sandcove import Sandbox, get_sandbox, list_sandboxes
from tests.server.conftest import Serving, ask, wait_for_its_end


def test_get_or_create_is_one_sandbox(home: Path) -> None:
    server = home / "server.sock"
    with Sandbox():
        first = ask(server, "POST", "/v1/sandboxes", {"id": "same"})
        second = ask(server, "POST", "/v1/sandboxes", {"id": "same"})
        assert (first.status, second.status) == (201, 200)
        assert first.json["createdAt"] == second.json["createdAt"]
        assert ask(server, "DELETE", "/v1/sandboxes/same").json == {"success": True, "id": "same"}
        assert ask(server, "DELETE", "/v1/sandboxes/same").status == 404


def test_many_who_create_the_same_at_once_get_one(home: Path) -> None:
    results: list[str] = []

    def create(number: int) -> None:
        box = get_sandbox("crowd")
        results.append(box.exec(f"echo {number} >> /workspace/who; hostname").stdout)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 10
    box = get_sandbox("crowd")
    assert sorted(map(int, box.read_file("/workspace/who").split())) == list(range(10))
    assert [info.id for info in list_sandboxes()].count("crowd") == 1
    box.destroy()


def test_the_list_is_filtered_by_labels(home: Path) -> None:
    boxes = {
        "red": get_sandbox("red", labels={"colour": "red", "size": "a=b"}),
        "blue": get_sandbox("blue", labels={"colour": "blue", "size": "a=b"}),
        "plain": get_sandbox("plain"),
    }
    for box in boxes.values():
        box.ping()
    try:
        assert [i.id for i in list_sandboxes({"size": "a=b"})] == ["red", "blue"]
        assert [i.id for i in list_sandboxes({"size": "a=b", "colour": "blue"})] == ["blue"]
        assert list_sandboxes({"colour": "green"}) == []
        assert {"red", "blue", "plain"} <= {i.id for i in list_sandboxes()}
        for wrong in ("label=novalue", "other=1", "label"):
            assert ask(home / "server.sock", "GET", f"/v1/sandboxes?{wrong}").status == 400
    finally:
        for box in boxes.values():
            box.destroy()


def test_info_neither_creates_nor_wakes(home: Path) -> None:
    box = get_sandbox("napper", labels={"a": "b"}, sleep_after=77)
    box.sleep()
    info = box.info()
    assert (info.state, info.labels, info.sleep_after, info.anonymous) == ("asleep", {"a": "b"}, 77.0, False)
    assert box.info().state == "asleep"
    assert box.wake().state == "running"
    assert box.info().isolation is not None
    box.destroy()
    refused = ask(home / "server.sock", "GET", "/v1/sandboxes/napper")
    assert (refused.status, refused.json["code"]) == (404, "SANDBOX_NOT_FOUND")


def test_sleep_and_wake_are_harmless_twice(home: Path) -> None:
    box = get_sandbox("twice")
    assert [box.wake().state, box.wake().state, box.sleep().state, box.sleep().state] == ["running"] * 2 + [
        "asleep"
    ] * 2
    box.destroy()


def test_a_destroyed_sandbox_leaves_nothing(home: Path) -> None:
    box = get_sandbox("short-lived")
    box.exec("sleep 1001 & mkdir -p /workspace/a/b; chmod 0 /workspace/a; cp /bin/true /usr/local/bin/mine")
    assert processes.of_sandbox(home, "short-lived")
    box.destroy()
    assert processes.of_sandbox(home, "short-lived") == set()
    assert not (home / "sandboxes" / "short-lived").exists()
    assert not (home / "run" / "short-lived.sock").exists()
    fresh = get_sandbox("short-lived")
    assert fresh.exec("ls -A /workspace; ls /usr/local/bin/mine 2>/dev/null").stdout == ""
    fresh.destroy()


def test_an_idle_sandbox_sleeps_and_the_next_call_wakes_it(home: Path) -> None:
    box = get_sandbox("idle", sleep_after=0.2, env={"KEPT": "env"})
    box.exec("echo file > /workspace/f; cd /usr; sleep 1001 &")
    agent = home / "run" / "idle.sock"
    with socket.socket(socket.AF_UNIX) as watching:
        watching.settimeout(20)
        watching.connect(str(agent))
        # The agent closes this connection when it ends, at the latest.
        assert watching.recv(1) == b""
    assert box.exec("cat /workspace/f; echo $KEPT; pwd; pgrep -c sleep").stdout == "file\nenv\n/usr\n0\n"
    box.destroy()


def test_what_is_kept_alive_does_not_sleep_by_itself(home: Path) -> None:
    kept = get_sandbox("kept-alive", sleep_after=0.1, keep_alive=True)
    with Sandbox(sleep_after=0.1, keep_alive=True) as anonymous:
        for box in (kept, anonymous):
            box.start_process("sleep 1001")
        other = get_sandbox("not-kept", sleep_after=0.3)
        other.ping()
        # They would have been due before it.
        wait_for_its_end(home, "not-kept")
        for box in (kept, anonymous):
            info = box.info()
            assert (info.state, info.keep_alive) == ("running", True)
            assert box.list_processes()[0].status == "running"
    assert get_sandbox("kept-alive", labels={"a": "b"}).wake().keep_alive
    assert kept.sleep().state == "asleep"
    again = get_sandbox("kept-alive", keep_alive=False)
    again.ping()
    assert not again.info().keep_alive
    wait_for_its_end(home, "kept-alive")
    assert not again.info().keep_alive
    for box in (kept, other):
        box.destroy()


def test_no_call_is_lost_to_a_sandbox_that_falls_asleep(home: Path) -> None:
    # The agent once closed the connections of a client's pool one by one: a request that was sent into one just then
    # was read by nobody, and its caller could not know whether it had been.
    box = get_sandbox("drowsy", sleep_after=0.03)
    threads = [threading.Thread(target=box.exec, args=("true",)) for _ in range(4)]
    for number in range(20):
        for thread in threads:
            thread.start()  # so that there are many connections to be closed
        for thread in threads:
            thread.join(30)
        with socket.socket(socket.AF_UNIX) as watching:
            watching.settimeout(20)
            try:
                watching.connect(str(home / "run" / "drowsy.sock"))
                assert watching.recv(1) == b""
            except (FileNotFoundError, ConnectionError):
                pass  # it sleeps already
        assert box.exec(f"echo {number}").stdout == f"{number}\n"
        threads = [threading.Thread(target=box.exec, args=("true",)) for _ in range(4)]
    box.destroy()


def test_a_busy_sandbox_does_not_sleep(home: Path) -> None:
    box = get_sandbox("busy", sleep_after=0.1)
    # It ends by its own clock, several times the idle time later.
    assert box.exec("read -t 1 line <> <(:); echo awake").stdout == "awake\n"
    box.destroy()


def test_an_idle_anonymous_sandbox_is_destroyed(home: Path) -> None:
    box = Sandbox(sleep_after=0.2)
    box.exec("sleep 1001 &")
    with socket.socket(socket.AF_UNIX) as watching:
        watching.settimeout(20)
        watching.connect(str(home / "run" / f"{box.id}.sock"))
        assert watching.recv(1) == b""
    # Whoever destroys it waits for the destruction that is under way.
    ask(home / "server.sock", "DELETE", f"/v1/sandboxes/{box.id}")
    assert processes.of_sandbox(home, box.id) == set()
    assert not (home / "sandboxes" / box.id).exists()
    box.close()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_anonymous_sandbox_ends_with_its_client(home: Path, ending: int) -> None:
    code = (
        "import sys; from sandcove import Sandbox; box = Sandbox(); box.exec('sleep 1001 &'); "
        "print(box.id, flush=True); sys.stdin.read()"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert client.stdout is not None
    name = client.stdout.readline().strip()
    assert processes.of_sandbox(home, name)
    with socket.socket(socket.AF_UNIX) as watching:
        watching.settimeout(20)
        watching.connect(str(home / "run" / f"{name}.sock"))
        client.send_signal(ending)
        with contextlib.suppress(ConnectionResetError):  # it ended before it had taken the connection
            assert watching.recv(1) == b""
    client.communicate()
    # A second destruction waits for the first.
    ask(home / "server.sock", "DELETE", f"/v1/sandboxes/{name}")
    assert processes.of_sandbox(home, name) == set()
    assert not (home / "sandboxes" / name).exists()


def test_a_server_with_nothing_to_do_stops_by_itself(serve: Callable[..., Serving], fresh_home: Path) -> None:
    serving = serve("--auto", "--idle-stop=0.3")
    serving.wait_until_it_serves()
    assert serving.process.wait(30) == 0
    assert not (fresh_home / "server.sock").exists()
