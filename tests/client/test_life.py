"""A sandbox's life through the SDK, and the server that is started for it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandcove import (
    AsyncSandbox,
    HostUnsupportedError,
    Sandbox,
    SandboxNotFoundError,
    async_list_sandboxes,
    get_async_sandbox,
    get_sandbox,
    list_sandboxes,
)
from sandcove.cli.sandboxes import client
from tests.conftest import MakeSandbox


def ids() -> set[str]:
    return {info.id for info in list_sandboxes()}


@contextmanager
def gone(sandbox_id: str) -> Iterator[None]:
    """At the end of the block the sandbox is gone, soon: the server saw its lease end."""
    yield
    deadline = time.monotonic() + 20
    while sandbox_id in ids():
        assert time.monotonic() < deadline, f"{sandbox_id} is still there"


def test_nothing_is_done_before_the_first_call(fresh_home: Path) -> None:
    Sandbox("lazy")
    Sandbox()
    get_sandbox("lazy")
    get_async_sandbox("lazy")
    assert list(fresh_home.iterdir()) == []


def test_a_named_sandbox_is_the_same_for_everyone(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox("shared-one")
    box.write_file("note", "x")
    with Sandbox("shared-one") as other:
        assert other.read_file("note") == "x"
    assert box.read_file("note") == "x"
    box.destroy()
    assert "shared-one" not in ids()
    assert not box.exists("note")  # the next call makes a new one


def test_info_and_labels(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox("with-labels", labels={"team": "red", "n": "1"}, env={"A": "b"}, sleep_after=77.5)
    info = box.info()
    assert (info.id, info.labels, info.sleep_after, info.anonymous) == (
        "with-labels",
        {"team": "red", "n": "1"},
        77.5,
        False,
    )
    assert info.isolation is not None
    assert box.exec("echo $A").stdout == "b\n"
    assert [found.id for found in list_sandboxes(labels={"team": "red"})] == ["with-labels"]
    assert list_sandboxes(labels={"team": "red", "n": "2"}) == []
    assert [found.id for found in asyncio.run(async_list_sandboxes({"n": "1"}))] == ["with-labels"]


def test_sleep_and_wake(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox("sleeper")
    box.set_env_vars({"A": "kept"})
    box.write_file("note", "kept")
    box.exec("sleep 1000 &")
    assert box.sleep().state == "asleep"
    assert box.info().state == "asleep"
    looker = get_sandbox("sleeper")
    assert (looker.get_usage().memory, looker.get_egress_log(), looker.get_secrets()) == (None, [], [])
    assert box.info().state == "asleep", "to look at it wakes it not"
    assert (box.read_file("note"), box.exec("echo $A; pgrep -x sleep").stdout) == ("kept", "kept\n")
    assert box.info().state == "running"
    box.sleep()
    assert box.wake().state == "running"
    box.ping()


def test_the_end_of_a_block_destroys_an_anonymous_sandbox(make_sandbox: MakeSandbox) -> None:
    with make_sandbox() as box:
        name = box.id
        assert name in ids()
        assert box.info().anonymous
    assert name not in ids()
    with pytest.raises(SandboxNotFoundError, match="make a new Sandbox"):
        box.exec("true")


def test_an_exception_in_a_block_goes_through(home: Path) -> None:
    with pytest.raises(ZeroDivisionError), Sandbox() as box:
        name = box.id
        raise ZeroDivisionError
    assert name not in ids()


def test_a_sandbox_that_is_gone_already_is_no_error_at_the_end_of_a_block(home: Path) -> None:
    with Sandbox() as box:
        client().destroy(box.id)
    with Sandbox() as box:
        box.destroy()


def test_destroying_what_is_not_there(home: Path) -> None:
    with pytest.raises(SandboxNotFoundError):
        Sandbox("never-made-this").destroy()
    with pytest.raises(SandboxNotFoundError):
        asyncio.run(AsyncSandbox("never-made-this").destroy())


def test_closing_an_anonymous_sandbox_destroys_it(home: Path) -> None:
    box = Sandbox()
    box.ping()
    name = box.id
    box.close()
    assert name not in ids()


def test_an_anonymous_sandbox_that_nobody_holds_is_destroyed(home: Path) -> None:
    box = Sandbox()
    session = box.create_session("s")
    name = box.id
    del box
    gc.collect()
    assert session.exec("echo held").stdout == "held\n"  # by its session
    with gone(name):
        del session
        gc.collect()


def test_an_anonymous_sandbox_ends_with_its_process_however_that_ends(home: Path) -> None:
    code = "import sys, sandcove; s = sandcove.Sandbox(); s.ping(); print(s.id, flush=True); sys.stdin.read()"
    for end in (signal.SIGKILL, None):
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            name = child.stdout.readline().strip()
            assert name in ids()
            with gone(name):
                if end is None:
                    child.communicate()
                    assert child.returncode == 0
                else:
                    child.send_signal(end)


def test_a_forked_process_uses_connections_of_its_own_and_destroys_nothing(home: Path) -> None:
    code = """if True:
        import os, sys
        from sandcove import Sandbox

        with Sandbox() as sandbox:
            sandbox.exec("echo warm")
            child = os.fork()
            for n in range(50):
                assert sandbox.exec(f"echo {child} {n}").stdout == f"{child} {n}\\n"
            if child == 0:
                sys.exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            assert sandbox.exec("echo here").stdout == "here\\n"
    """
    line = [sys.executable, "-W", "error", "-X", "dev", "-c", code]
    done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_many_scripts_at_once_start_one_server(fresh_home: Path) -> None:
    code = "import sandcove; s = sandcove.Sandbox(); print(s.exec('echo ok').stdout, end='')"
    children = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    assert [child.communicate(timeout=100)[0] for child in children] == ["ok\n"] * 6
    log = (fresh_home / "server.log").read_text()
    assert log.count("serving on") == 1, log


def test_fifty_at_once(home: Path) -> None:
    async def one(n: int) -> str:
        async with AsyncSandbox() as box:
            return (await box.exec(f"echo {n}")).stdout

    async def main() -> None:
        assert await asyncio.gather(*(one(n) for n in range(50))) == [f"{n}\n" for n in range(50)]

    asyncio.run(main())


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_ends_is_started_by_the_next_call(fresh_home: Path, end: signal.Signals) -> None:
    """An object that had connections goes on as if nothing had been, and no file is lost."""
    with Sandbox("survivor") as box:
        box.write_file("note", "kept")
        server = client().server()
        with socket.socket(socket.AF_UNIX) as agent:
            agent.connect(str(fresh_home / "run" / "survivor.sock"))
            os.kill(server.pid, end)
            subprocess.run(["flock", str(fresh_home / "server.lock"), "true"], check=True, timeout=30)
            # A call in the moment between the server's end and its rooms' would be told that the sandbox ended.
            agent.settimeout(30)
            with contextlib.suppress(ConnectionResetError):  # it had not been taken yet
                assert agent.recv(1) == b""
        assert box.read_file("note") == "kept"
        assert box.exec("cat note").stdout == "kept"
        assert client().server().pid != server.pid
        box.destroy()


@pytest.mark.local("it starts a server of its own")
def test_a_server_that_can_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDCOVE_HOME", "/tmp/" + "x" * 60)
    with pytest.raises(HostUnsupportedError, match="too long for the Unix sockets"):
        Sandbox("x").ping()
