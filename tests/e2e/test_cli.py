"""The main job on the command line, as a user does it: real processes, real pipes, real signals."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandcove.server.config import SETTINGS

COMMAND = str(Path(sys.executable).with_name("sandcove"))


def sandcove(*arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        check=False,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=60,
    )


def good(*arguments: str | Path, stdin: str | None = None) -> str:
    """What a command that must succeed prints."""
    done = sandcove(*arguments, stdin=stdin)
    assert done.returncode == 0, done
    return done.stdout


def refused(*arguments: str | Path) -> str:
    """The message of a command that must fail: one line, no traceback, nothing on standard output."""
    done = sandcove(*arguments)
    assert done.returncode not in (0, -signal.SIGABRT, -signal.SIGSEGV), done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


def listed(*options: str) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in json.loads(good("ls", "--json", *options))["sandboxes"]}


@pytest.fixture
def box(home: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A named sandbox."""
    name = f"box-{random.randrange(1 << 32):08x}"
    good("create", name)
    yield name
    sandcove("rm", name)


def test_run_passes_on_output_and_exit_code(home: Path) -> None:
    done = sandcove("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


def test_run_takes_a_shell_command_too(home: Path) -> None:
    assert good("run", "echo $((6 * 7)) | tr 4 5") == "52\n"


def test_run_leaves_nothing(home: Path) -> None:
    before = listed()
    good("run", "--", "true")
    assert listed() == before


def test_run_passes_bytes_through_unchanged(home: Path) -> None:
    line = [COMMAND, "run", "--", "python", "-c", "import os; os.write(1, bytes(range(256)) * 1000)"]
    assert subprocess.run(line, check=True, capture_output=True, timeout=60).stdout == bytes(range(256)) * 1000


def test_run_is_part_of_a_pipeline(home: Path) -> None:
    line = f"printf 'b\\na\\n' | {COMMAND} run -- sort | head -n 1"
    done = subprocess.run(["bash", "-c", line], check=True, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("a\n", "")


def test_a_reader_that_goes_away_ends_the_command_without_noise(home: Path) -> None:
    line = f"{COMMAND} run -- yes | head -n 1"
    done = subprocess.run(["bash", "-c", line], check=True, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("y\n", "")


def test_output_arrives_while_the_command_runs_and_ctrl_c_ends_it(home: Path) -> None:
    before = listed()
    command = [COMMAND, "run", "--", "sh", "-c", "echo ready; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=30)
    assert child.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in told
    assert listed() == before


def test_create_exec_ls_rm(home: Path) -> None:
    assert good("create", "e2e-one", "--label", "team=red") == "e2e-one\n"
    assert good("exec", "e2e-one", "--", "sh", "-c", "echo kept > note") == ""
    assert good("exec", "e2e-one", "--", "cat", "note") == "kept\n"
    assert good("exec", "e2e-one", "cat < note | tr a-z A-Z") == "KEPT\n"
    assert listed()["e2e-one"]["state"] == "running"
    assert "e2e-one" in listed("--label", "team=red")
    assert "e2e-one" not in listed("--label", "team=blue")
    assert "e2e-one" in good("ls")
    assert good("rm", "e2e-one") == "e2e-one\n"
    assert "e2e-one" not in listed()


def test_exec_passes_on_exit_code_and_standard_input(box: str) -> None:
    assert sandcove("exec", box, "--", "sh", "-c", "exit 9").returncode == 9
    assert good("exec", box, "--", "wc", "-c", stdin="12345") == "5\n"


def test_cp_of_a_file_there_and_back(box: str, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3_000_000)
    (tmp_path / "in.bin").write_bytes(data)
    good("cp", tmp_path / "in.bin", f"{box}:/workspace/in.bin")
    assert good("exec", box, "--", "stat", "-c", "%s", "in.bin") == "3000000\n"
    good("cp", f"{box}:in.bin", tmp_path / "out.bin")
    assert (tmp_path / "out.bin").read_bytes() == data


def test_cp_of_a_folder_there_and_back(box: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "deep" / "er" / "ü b.txt").write_text("text")
    (tree / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "link").symlink_to("run.sh")
    good("cp", tree, f"{box}:/workspace/tree")
    assert good("exec", box, "--", "tree/run.sh") == "ran\n"
    good("cp", f"{box}:/workspace/tree", tmp_path / "back")
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    assert sorted(str(path.relative_to(tmp_path / "back")) for path in (tmp_path / "back").rglob("*")) == names
    assert (tmp_path / "back" / "deep" / "er" / "ü b.txt").read_text() == "text"
    assert os.access(tmp_path / "back" / "run.sh", os.X_OK)
    assert (tmp_path / "back" / "link").readlink() == Path("run.sh")


def test_doctor_says_that_this_machine_can(home: Path) -> None:
    report = json.loads(good("doctor", "--json"))
    assert report
    assert good("doctor")


def test_logs_has_the_servers_log(box: str) -> None:
    assert good("logs").strip()


@pytest.mark.parametrize(
    "arguments",
    [
        ("rm", "nobody-made-this"),
        ("exec", "nobody-made-this", "--", "true"),
        ("create", "Upper-Case"),
        ("create", "admin"),
        ("create", "x" * 64),
        ("cp", "nobody-made-this:/x", "/tmp"),
        ("cp", "/no/such/file", "nobody-made-this:/x"),
        ("cp", "/tmp", "/tmp"),
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_a_mistake_is_told_in_one_line(home: Path, arguments: tuple[str, ...]) -> None:
    assert refused(*arguments)


def test_a_missing_file_in_the_sandbox_is_told_in_one_line(box: str, tmp_path: Path) -> None:
    assert "/missing" in refused("cp", f"{box}:/missing", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_an_unknown_server_is_told_in_one_line(home: Path) -> None:
    line = [COMMAND, "ls"]
    environment = os.environ | {"SANDCOVE_URL": "http://127.0.0.1:9", "SANDCOVE_API_KEY": "k"}
    done = subprocess.run(line, check=False, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.parametrize("command", ["stop", "logs"])
def test_what_is_the_local_server_s_is_not_asked_of_another(home: Path, command: str) -> None:
    environment = os.environ | {"SANDCOVE_URL": "http://127.0.0.1:9", "SANDCOVE_API_KEY": "k"}
    done = subprocess.run([COMMAND, command], check=False, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "by SANDCOVE_URL" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_help_of_serve_tells_every_setting() -> None:
    told = subprocess.run([COMMAND, "serve", "--help"], check=True, capture_output=True, text=True, timeout=60).stdout
    assert all(setting.flag in told for setting in SETTINGS)
    assert "--home" in told and "--config" in told


def test_stop_and_the_next_call_starts_it_again(fresh_home: Path) -> None:
    good("create", "lasting")
    good("exec", "lasting", "--", "sh", "-c", "echo here > file")
    good("stop")
    assert not (fresh_home / "server.sock").exists()
    assert listed()["lasting"]["state"] == "asleep"
    assert good("exec", "lasting", "--", "cat", "file") == "here\n"
    good("rm", "lasting")
