"""`server.log` stays small however long its server runs, and nothing of it is lost for those who follow it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandcove import list_sandboxes
from sandcove.client._sync.client import Client
from sandcove.client.endpoint import Endpoint
from sandcove.home import Home
from sandcove.server.aside import KEPT, MAX_SIZE
from sandcove.server.logs import RETRY
from sandcove.wire.keys import CreateKey
from tests.client.test_cli import COMMAND, sandcove
from tests.tenants import serving_in


def make_log(home: Path) -> str:
    """Has the server log a line, and gives what is in it."""
    made = Client.of(Endpoint(unix=str(home / "server.sock"), home=Home(home))).create_key(CreateKey())
    return f"key {made.id} of tenant {made.tenant} was made\n"


def parts(home: Path) -> dict[str, Path]:
    return {path.name: path for path in home.iterdir() if path.name.startswith("server.log")}


def fill(log: Path, size: int = MAX_SIZE) -> None:
    """As others do that append to it, up to this size; what is added has no blocks of the disk."""
    with log.open("ab") as file:
        file.truncate(size)


@contextmanager
def followed(*options: str) -> Iterator[subprocess.Popen[str]]:
    line = [*COMMAND, "logs", "-f", *options]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        yield child
        child.terminate()


def test_one_that_is_found_too_large_is_put_aside(fresh_home: Path) -> None:
    log = fresh_home / "server.log"
    log.write_text("of a server before\n")
    log.chmod(0o600)
    fill(log)
    list_sandboxes()
    assert set(parts(fresh_home)) == {"server.log", "server.log.1"}
    assert (fresh_home / "server.log.1").stat().st_size == MAX_SIZE
    assert (fresh_home / "server.log.1").read_bytes().startswith(b"of a server before\n")
    assert "serving on" in log.read_text() and "\0" not in log.read_text()
    assert {path.stat().st_mode & 0o777 for path in parts(fresh_home).values()} == {0o600}


def test_one_that_grows_while_its_server_runs(served: Path) -> None:
    log = served / "server.log"
    first = log.read_text()
    inode = log.stat().st_ino
    with log.open("a") as other, followed("-n", "1") as following:
        assert following.stdout is not None and following.stdout.readline()
        for number in range(KEPT + 2):
            other.write(f"round {number}\n")
            other.flush()
            fill(log)
            line = make_log(served)
            assert log.read_text().endswith(line) and log.read_text().count("\n") == 1
            other.write("from another process\n")
            other.flush()
            last = make_log(served)
            assert log.read_text().split("\n")[1] == "from another process" and log.read_text().endswith(last)
            if number == 0:
                assert (served / "server.log.1").read_text().startswith(first + "round 0\n")
            while not following.stdout.readline().endswith(last):
                pass
    assert log.stat().st_ino == inode
    assert set(parts(served)) == {"server.log", *(f"server.log.{number}" for number in range(1, KEPT + 1))}
    for number in range(1, KEPT + 1):
        assert f"round {KEPT + 2 - number}\n" in (served / f"server.log.{number}").read_text()
    assert {path.stat().st_mode & 0o777 for path in parts(served).values()} == {0o600}


def test_the_lines_before_are_shown_too(served: Path) -> None:
    lines = [make_log(served) for _ in range(3)]
    log = served / "server.log"
    with log.open("ab") as file:
        file.write(b"x" * (MAX_SIZE - log.stat().st_size - 1) + b"\n")
    lines.append(make_log(served))
    shown = sandcove("logs", "-n", "3").stdout.splitlines(keepends=True)
    assert len(shown) == 3
    assert shown[0].endswith(lines[2]) and shown[1].startswith("xxx") and shown[2].endswith(lines[3])
    assert sandcove("logs", "-n", "1").stdout.endswith(lines[3])
    assert sandcove("logs", "-n", "0").stdout == ""
    assert "serving on" in sandcove("logs", "-n", "1000").stdout


def test_where_it_can_t_be_put_aside_nothing_is_lost(served: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("of somebody else")
    (served / "server.log.new").mkdir()
    log = served / "server.log"
    fill(log)
    for _ in range(2):
        line = make_log(served)
        assert log.stat().st_size > MAX_SIZE and log.read_bytes().endswith(line.encode())
    (served / "server.log.new").rmdir()
    (served / "server.log.new").symlink_to(tmp_path / "victim")
    fill(log, MAX_SIZE + 2 * RETRY)
    make_log(served)
    assert log.stat().st_size > MAX_SIZE and (tmp_path / "victim").read_text() == "of somebody else"
    fill(log, MAX_SIZE + 4 * RETRY)
    line = make_log(served)
    assert log.read_text().endswith(line) and log.read_text().count("\n") == 1
    assert set(parts(served)) == {"server.log", "server.log.1"}


def test_the_log_of_a_server_that_writes_elsewhere_is_left_alone(fresh_home: Path, tmp_path: Path) -> None:
    with serving_in(fresh_home):
        log = fresh_home / "server.log"
        log.rename(tmp_path / "server.log")  # as logrotate does
        log.write_bytes(b"")
        fill(tmp_path / "server.log")
        line = make_log(fresh_home)
        assert (tmp_path / "server.log").read_bytes().endswith(line.encode())
        assert (log.read_bytes(), set(parts(fresh_home))) == (b"", {"server.log"})


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_only_what_is_appended_to_is_emptied(fresh_home: Path, mode: str) -> None:
    """A shell's ``2>server.log`` would leave a hole where its next line goes."""
    fresh_home.chmod(0o700)
    log = fresh_home / "server.log"
    with log.open(mode) as file:
        file.truncate(MAX_SIZE)
        file.seek(MAX_SIZE)
        line = [sys.executable, "-P", "-m", "sandcove.server", "--auto", "--idle-stop=0.1"]
        subprocess.run(line, check=True, stdin=subprocess.DEVNULL, stderr=file, timeout=60, env=os.environ)
    assert (log.stat().st_size < MAX_SIZE) == (fresh_home / "server.log.1").exists() == (mode == "ab")
    assert log.read_text().endswith("stopped\n")


def test_a_server_without_standard_error_serves_nevertheless(fresh_home: Path) -> None:
    fresh_home.chmod(0o700)
    line = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-P", "-m", "sandcove.server", "--auto"]
    done = subprocess.run([*line, "--idle-stop=0.1"], check=False, stdin=subprocess.DEVNULL, timeout=60, env=os.environ)
    assert done.returncode == 0
