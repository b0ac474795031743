"""SIGKILL to anything: nothing acknowledged is lost, nothing is left, the next call works or says what happened."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import processes
from sandcove import ContainerNotReadyError, Sandbox, get_sandbox, list_sandboxes
from sandcove.runtimes.local.zygote import AGENTS, KERNELS, Kind
from tests.server.conftest import Serving, ask, server_pid

PREPARE = "cd /usr; export KEPT=1; echo file > /workspace/f; sync /workspace/f"
RECALL = "cat /workspace/f; echo $KEPT; pwd"
RECALLED = "file\n1\n/usr\n"


def sooner_or_later(box: Sandbox, command: str) -> str:
    """Calls while the room falls apart may say that the sandbox ended; then they work."""
    for _ in range(20):
        try:
            return box.exec(command).stdout
        except ContainerNotReadyError:
            continue
    pytest.fail("twenty calls failed")


def end(pid: int) -> None:
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        assert poll.poll(10_000)
    finally:
        os.close(handle)


def zygote_pid(home: Path) -> int:
    return int(ask(home / "server.sock", "GET", "/v1/server").json["zygotePid"])


def test_a_killed_server_loses_no_named_sandbox(served: Path) -> None:
    box = get_sandbox("named", labels={"a": "b"}, env={"OWN": "env"})
    box.exec(PREPARE)
    box.sleep()
    box.exec("true")
    with Sandbox() as anonymous:
        anonymous.exec("sleep 1001 &")
        end(server_pid(served))
        assert processes.all_gone(served, within=10) == {}
        assert processes.mounts_below(served) == []
        assert box.exec(RECALL + "; echo $OWN").stdout == RECALLED + "env\n"
        assert [info.labels for info in list_sandboxes()] == [{"a": "b"}]
        assert not (served / "sandboxes" / anonymous.id).exists()
    box.destroy()


def test_what_was_acknowledged_before_the_server_was_killed_is_there(served: Path) -> None:
    box = get_sandbox("acknowledged")
    for number in range(5):
        box.set_env_vars({"N": str(number)})
        box.create_session(f"s{number}")
        box.write_file("/workspace/n", str(number))
        end(server_pid(served))
        # Until then a call may still be answered by the old room.
        assert processes.all_gone(served, within=10) == {}
        assert sooner_or_later(box, "cat /workspace/n; echo $N") == f"{number}{number}\n"
        assert f"s{number}" in box.list_sessions()
    box.destroy()


def test_a_variable_that_a_shell_has_heard_of_is_not_lost_before_its_state_is_kept(served: Path) -> None:
    box = get_sandbox("heard")
    box.set_env_vars({"N": "old", "M": "old"})
    box.exec("true")
    box.sleep()  # keeps the state
    box.set_env_vars({"N": "new"})
    # By its end the shell has the new value, and its state is not on the disk yet.
    assert box.exec("echo $N").stdout == "new\n"
    end(server_pid(served))
    assert processes.all_gone(served, within=10) == {}
    assert sooner_or_later(box, "echo $N $M") == "new old\n"
    # What the shell does to it later counts.
    box.exec("N=newer")
    box.sleep()
    assert box.exec("echo $N").stdout == "newer\n"
    box.destroy()


def test_a_call_under_way_when_the_server_is_killed(served: Path) -> None:
    box = get_sandbox("under-way")
    box.ping()
    stream = iter(box.exec_stream("echo up; sleep 1001"))
    while next(stream).type != "stdout":
        pass
    end(server_pid(served))
    with pytest.raises(ContainerNotReadyError, match="ended during the call"):
        for _ in stream:
            pass
    assert sooner_or_later(box, "echo on") == "on\n"
    box.destroy()


def test_a_killed_zygote_is_replaced(served: Path) -> None:
    with Sandbox() as alive:
        alive.exec("kept=1")
        before = zygote_pid(served)
        end(before)
        assert alive.exec("echo $kept").stdout == "1\n"
        for _ in range(3):
            with Sandbox() as new:
                assert new.exec("echo new").stdout == "new\n"
        assert zygote_pid(served) != before
        assert alive.exec("echo $kept").stdout == "1\n"


def test_many_creates_while_the_zygote_is_killed(served: Path) -> None:
    failures: list[Exception] = []

    def create() -> None:
        try:
            with Sandbox() as box:
                assert box.exec("echo new").stdout == "new\n"
        except Exception as error:  # noqa: BLE001 - any at all is looked at below
            failures.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    end(zygote_pid(served))
    for thread in threads:
        thread.join(60)
    # Those whose fork it was to make may be told to call again; none is told nonsense.
    assert all("call again" in str(error) or "zygote" in str(error) for error in failures), failures
    with Sandbox() as box:
        assert box.exec("echo new").stdout == "new\n"


@pytest.mark.parametrize("kind", [AGENTS, KERNELS], ids=["agents", "kernels"])
def test_a_zygote_whose_server_ends_while_it_gets_ready_ends_silently(tmp_path: Path, kind: Kind) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.send(os.fsencode(tmp_path))
    with theirs:
        words = [str(theirs.fileno()), kind.entry, kind.module]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "sandcove.runtimes.local.zygote", *words],
            pass_fds=(theirs.fileno(),),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("who", ["the agent", "its helpers", "bwrap", "the first process", "all"])
def test_a_killed_room_is_opened_anew(served: Path, who: str) -> None:
    box = get_sandbox("roomless")
    box.exec(PREPARE)
    box.sleep()
    box.exec("true")
    lived = processes.of_sandbox(served, "roomless")
    python = sorted(processes.agents(lived))
    names = {pid: os.readlink(f"/proc/{pid}/exe") for pid in lived}
    bwrap = [pid for pid, name in names.items() if "bwrap" in name]
    holder = [pid for pid, name in names.items() if "memfd:sandcove" in name]
    victims = {
        "the agent": python[:1],
        "its helpers": python[1:],
        "bwrap": bwrap[:1],
        "the first process": holder,
        "all": lived,
    }
    assert victims[who], names
    for pid in victims[who]:
        try:
            end(pid)
        except ProcessLookupError:
            pass  # it went with another
    assert sooner_or_later(box, RECALL) == RECALLED
    # The call may have been answered by the old agent in its last moment.
    assert processes.all_gone(served, within=10, only=lived) == {}
    assert sooner_or_later(box, RECALL) == RECALLED
    assert box.info().note, "why it ended is not told"
    # A zombie has no mounts any more; what has them would work on the files of the new room.
    assert not lived & processes.of_sandbox(served, "roomless")
    box.destroy()
    assert processes.of_sandbox(served, "roomless") == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_sandcove_serve(serve: Callable[..., Serving], fresh_home: Path, number: int) -> None:
    serving = serve()
    serving.wait_until_it_serves()
    box = get_sandbox("kept")
    box.exec(PREPARE)
    stream = iter(box.exec_stream("echo up; sleep 1001"))
    while next(stream).type != "stdout":
        pass
    serving.process.send_signal(number)
    assert serving.process.wait(20) == 0
    assert processes.all_gone(fresh_home, within=10) == {}
    assert not (fresh_home / "server.sock").exists()
    assert box.exec(RECALL).stdout == RECALLED
    box.destroy()


def test_a_second_server_is_refused(serve: Callable[..., Serving], fresh_home: Path) -> None:
    first = serve()
    first.wait_until_it_serves()
    second = serve()
    _, told = second.process.communicate(timeout=30)
    assert second.process.returncode == 1
    assert told.count("\n") == 1 and str(fresh_home) in told and "sandcove stop" in told
    assert first.process.poll() is None
    with Sandbox() as box:
        assert box.exec("echo on").stdout == "on\n"


def test_wrong_settings_are_refused(serve: Callable[..., Serving], monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("-1", "nan"):
        refused = serve(f"--sleep-after={value}")
        _, told = refused.process.communicate(timeout=30)
        assert refused.process.returncode == 1 and told.count("\n") == 1, told
    monkeypatch.setenv("SANDCOVE_IDLE_STOP", "soon")
    _, told = serve().process.communicate(timeout=30)
    assert "SANDCOVE_IDLE_STOP='soon'" in told
