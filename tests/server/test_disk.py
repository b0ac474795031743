"""A full disk, a damaged registry, left-over folders: said clearly, survived, cleaned up."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench import processes
from sandcove import FileSystemError, Sandbox, SandboxError, get_sandbox, list_sandboxes
from tests.conftest import COMMAND, sandcove_home
from tests.server.conftest import ask, server_pid
from tests.server.test_kills import end


@pytest.fixture
def small(capable: None) -> Iterator[Path]:
    """A Sandcove folder on a file system of 40 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount one")
    with sandcove_home() as home:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m,mode=700", "tmpfs", home], check=True)
        try:
            yield home
            subprocess.run([COMMAND, "stop"], check=False, capture_output=True, timeout=60)
        finally:
            subprocess.run(["umount", "-l", home], check=True)


def test_a_full_disk_is_told_and_survived(small: Path) -> None:
    box = get_sandbox("full")
    box.exec("kept=1; cd /usr")
    box.write_file("/workspace/before", "kept")
    result = box.exec("head -c 100000000 /dev/zero > /workspace/big")
    assert result.exit_code != 0 and "No space left" in result.stderr
    assert box.exec("echo $kept; pwd; cat /workspace/before").stdout == "1\n/usr\nkept"
    with pytest.raises(FileSystemError, match="full"):
        box.write_file("/workspace/more", "x" * 1_000_000)
    assert box.read_file("/workspace/before") == "kept"
    assert not [i for i in box.list_files("/workspace", include_hidden=True) if i.name not in {"before", "big"}]
    acknowledged = 0
    with pytest.raises(SandboxError):
        for number in range(200):
            box.set_env_vars({f"A{number}": "x" * 10_000})
            acknowledged += 1
    # What had been acknowledged is there, and it goes on when there is room again.
    box.delete_file("/workspace/big")
    box.set_env_vars({"AFTER": "1"})
    for _ in range(2):
        after, kept, count = box.exec("echo $AFTER $kept $(env | grep -c '^A[0-9]*=x')").stdout.split()
        # The one that was refused may be in force or not; those that were acknowledged are.
        assert (after, kept) == ("1", "1") and int(count) in {acknowledged, acknowledged + 1}
        assert box.read_file("/workspace/before") == "kept"
        box.sleep()
    box.destroy()


def test_processes_on_a_full_disk_run_and_tell_what_is_missing_of_their_output(small: Path) -> None:
    with Sandbox() as box:
        early = box.start_process("echo early; read; head -c 50000 /dev/zero; read; echo late")
        early.wait_for_log("early", 30)
        while list((small / "trash").iterdir()):
            time.sleep(0.01)  # a zygote that gets ready frees some of the disk when it is
        assert not box.exec("cat /dev/zero >/workspace/big").success
        early.write_stdin("\n")
        started = box.start_process("head -c 200000 /dev/zero; exit 3")
        assert started.wait(30) == 3
        logs = started.logs()
        assert logs.truncated and len(logs.stdout) < 200_000
        assert len(logs.stdout) + sum(event.skipped for event in started.stream()) == 200_000
        assert box.exec("echo on").stdout == "on\n"
        box.delete_file("/workspace/big")
        early.write_stdin("\n")
        assert early.wait(30) == 0
        logs = early.logs()
        assert logs.stdout.startswith("early\n") and logs.stdout.endswith("late\n") and logs.truncated
        missing = sum(event.skipped for event in early.stream())
        assert len(logs.stdout) + missing == 50_011 and missing > 0
        assert box.start_process("head -c 200000 /dev/zero; exit 4").wait(30) == 4


def test_a_disk_that_is_full_from_the_start(small: Path) -> None:
    list_sandboxes()
    (small / "ballast").write_bytes(b"")
    with pytest.raises(OSError, match="No space left"), (small / "ballast").open("wb") as file:
        while True:
            file.write(b"\0" * 65536)
    try:
        with Sandbox() as box:
            box.exec("true")
    except SandboxError:
        pass  # it says that the disk is full; an exception of any other kind is none of ours
    (small / "ballast").unlink()
    with Sandbox() as box:
        assert box.exec("echo on").stdout == "on\n"
        box.write_file("/workspace/f", "x")
    log = (small / "server.log").read_text()
    assert "Traceback" not in log, log


def test_what_was_half_destroyed_is_destroyed_at_the_next_start(served: Path) -> None:
    for name in ("stays", "goes"):
        get_sandbox(name).write_file("f", name)
    end(server_pid(served))
    assert processes.all_gone(served, within=10) == {}
    with sqlite3.connect(served / "registry.db") as db:
        db.execute("update sandboxes set destroying = 1 where id = 'goes'")
    db.close()
    for orphan in ("sandboxes/nobodys/root/f", "trash/old/f", "spare/old/root/f"):
        (served / orphan).parent.mkdir(parents=True)
        (served / orphan).write_text("left over")
    assert [info.id for info in list_sandboxes()] == ["stays"]
    assert [path.name for path in (served / "sandboxes").iterdir()] == ["stays"]
    assert get_sandbox("stays").read_file("f") == "stays"
    assert not get_sandbox("goes").exists("f")
    assert not (served / "spare" / "old").exists()


def test_what_is_destroyed_right_after_the_start_is_deleted_once(fresh_home: Path) -> None:
    trash = fresh_home / "trash"
    trash.mkdir()
    lock = os.open(trash, os.O_RDONLY | os.O_DIRECTORY)
    with ThreadPoolExecutor(1) as beside:
        fcntl.flock(lock, fcntl.LOCK_SH)  # as a zygote does that is still getting ready
        box = get_sandbox("goes")
        box.exec(
            "for a in $(seq 300); do mkdir -p /workspace/$a/b; touch /workspace/$a/$(seq -s ' ' 40 | tr ' ' a); done"
        )
        destroyed = beside.submit(box.destroy)
        while not list(trash.glob("goes.*")):
            time.sleep(0.001)
        os.close(lock)
        destroyed.result(30)
        while list(trash.iterdir()):
            time.sleep(0.01)
    log = (fresh_home / "server.log").read_text()
    assert "could not be deleted" not in log, log


def test_a_registry_of_another_version_is_refused(served: Path) -> None:
    end(server_pid(served))
    assert processes.all_gone(served, within=10) == {}
    db = sqlite3.connect(served / "registry.db")
    db.execute("pragma user_version = 99")
    db.close()
    with pytest.raises(SandboxError, match=r"registry\.db.*another version"):
        list_sandboxes()


def test_a_damaged_registry_is_told(served: Path) -> None:
    end(server_pid(served))
    assert processes.all_gone(served, within=10) == {}
    for path in served.glob("registry.db-*"):
        path.unlink()
    (served / "registry.db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(SandboxError, match=r"registry"):
        list_sandboxes()
    assert "Traceback" not in (served / "server.log").read_text()


def test_every_route_is_served_by_what_was_loaded_before_the_fork(served: Path) -> None:
    with Sandbox() as box:
        box.exec("true")
        for route, body in {
            "execute": {"command": "echo é"},
            "execute/stream": {"command": "printf '\\377'"},
            "session/create": {"id": "s"},
            "env": {"env": {"A": "b"}},
            "write": {"path": "/tmp/a.tar.gz", "content": "YQ==", "encoding": "base64"},
            "read": {"path": "/tmp/a.tar.gz", "encoding": "base64"},
            "mkdir": {"path": "/tmp/d/e", "recursive": True},
            "rename": {"oldPath": "/tmp/d", "newPath": "/usr/local/d"},
            "move": {"sourcePath": "/usr/local/d", "destinationPath": "/tmp"},
            "list-files": {"path": "/", "options": {"recursive": True, "includeHidden": True}},
            "exists": {"path": "/tmp"},
            "stat": {"path": "/tmp"},
            "delete": {"path": "/tmp/d", "recursive": True},
        }.items():
            ask(served / "run" / f"{box.id}.sock", "POST", f"/api/{route}", body)
            ask(served / "run" / f"{box.id}.sock", "POST", f"/api/{route}", b"{")
            ask(
                served / "run" / f"{box.id}.sock",
                "POST",
                f"/api/{route}",
                {"path": "/no/such", "command": "", "id": ".."},
            )
        agent = served / "run" / f"{box.id}.sock"
        for target in ("/api/file?path=/etc/hosts", "/api/folder?path=/etc", "/api/session/list", "/api/ping", "/x"):
            assert ask(agent, "GET", target).status in {200, 404}
        assert ask(agent, "PUT", "/api/file?path=/tmp/%C3%A9.html", b"x" * 3_000_000).status == 200
        assert ask(agent, "PUT", "/api/folder?path=/tmp/f", b"junk").status == 400
        token = ask(agent, "PUT", "/api/stdin", b"x" * 3_000_000).json["token"]
        given = {"command": "wc -c", "stdinToken": token}
        assert b"3000000" in ask(agent, "POST", "/api/execute/stream?heartbeat=10", given).body
        assert ask(agent, "POST", "/api/execute", given).status == 404
        assert ask(agent, "DELETE", "/api/session/s").status == 200
        box.exec("kill -9 $$")
        box.exec("sleep 1001 & exit 3")
        log = (served / "sandboxes" / box.id / "agent.log").read_text()
        assert "preloaded" not in log and "Traceback" not in log, log
