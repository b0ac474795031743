"""The command line's own rules: what words mean, exit codes, signals, what is drawn on a terminal."""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandcove.cli import options
from sandcove.cli.options import Place, command_of, place, seconds

COMMAND = [sys.executable, "-m", "sandcove.cli.main"]
NO_SERVER = {"SANDCOVE_URL": "http://127.0.0.1:9"}


def sandcove(*words: str, environment: dict[str, str] | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | (environment or {}),
        **{"stdin": subprocess.DEVNULL} | more,
    )


def on_a_terminal(*words: str) -> str:
    """What a command draws when its output goes to a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([*COMMAND, *words], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs) as child:
        os.close(theirs)
        drawn = b""
        try:
            while piece := os.read(ours, 65536):
                drawn += piece
        except OSError:
            pass  # this is how a terminal whose other side is closed ends
    os.close(ours)
    assert child.returncode == 0, drawn
    return drawn.decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("box:/a/b", Place("box", "/a/b")),
        ("box:", Place("box", ".")),
        ("box:a:b", Place("box", "a:b")),
        ("./a:b", Place(None, "./a:b")),
        ("/a:b", Place(None, "/a:b")),
        ("a", Place(None, "a")),
        ("..", Place(None, "..")),
        (":a", Place(None, ":a")),
        ("dir/a:b", Place(None, "dir/a:b")),
    ],
)
def test_places(text: str, expected: Place) -> None:
    assert place(text) == expected


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("1.5m", 90), ("2h", 7200), ("5s", 5), ("0", 0)])
def test_times(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (seconds, "soon"),
        (seconds, ""),
        (seconds, "-1"),
        (seconds, "inf"),
        (options.pair, "A"),
        (options.pair, "=b"),
        (options.upload, "a"),
        (options.upload, ":b"),
        (options.count, "-1"),
        (options.count, "x"),
        (place, ""),
    ],
)
def test_words_that_are_wrong(function: Callable[[str], object], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        function(text)


def test_one_word_is_for_the_shell_and_several_are_for_none() -> None:
    assert command_of(["echo $A"]) == "echo $A"
    assert command_of(["--", "echo $A"]) == "echo $A"
    assert command_of(["echo", "$A"]) == ["echo", "$A"]
    assert command_of(["--", "--", "a"]) == ["--", "a"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (2, ["ls", "--no-such-option"]),
        (2, ["no-such-command"]),
        (2, []),
        (2, ["create", "x", "--label", "novalue"]),
        (2, ["create", "x", "--time-to-live", "0"]),
        (2, ["rm"]),
        (2, ["cp", "a", "b"]),
        (2, ["cp", "a:b", "c:d"]),
        (2, ["create", "Not-A-Name"]),
        (2, ["logs"]),
        (1, ["ls"]),
        (1, ["rm", "x"]),
        (125, ["run", "true"]),
        (125, ["exec", "x", "true"]),
        (125, ["run"]),
        (0, ["version"]),
        (0, ["--help"]),
    ],
    ids=str,
)
def test_exit_codes(code: int, words: list[str]) -> None:
    done = sandcove(*words, environment=NO_SERVER)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    if code in (1, 125):
        assert done.stderr.startswith("sandcove: ")
        assert done.stderr.count("\n") == 1


def test_debug_shows_where() -> None:
    done = sandcove("ls", environment=NO_SERVER | {"SANDCOVE_DEBUG": "1"})
    assert "Traceback" in done.stderr


def test_versions_for_machines() -> None:
    assert set(json.loads(sandcove("version", "--json").stdout)) == {"version", "wire"}


def test_a_timeout_is_124(home: Path) -> None:
    done = sandcove("run", "--timeout", "0.3", "echo begun; sleep 100")
    assert (done.returncode, done.stdout) == (124, "begun\n")
    assert "longer than its timeout of 0.3 s" in done.stderr


def test_a_signal_that_ends_the_command_is_told(home: Path) -> None:
    assert sandcove("run", "kill -9 $$").returncode == 137


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_our_signals_end_the_command_and_the_sandbox(home: Path, number: signal.Signals, code: int) -> None:
    line = [*COMMAND, "run", "--label", f"signal={number.name}", "echo begun; sleep 1000"]
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        child.send_signal(number)
        assert child.communicate(timeout=30) == (b"", b"")
    assert child.returncode == code
    assert json.loads(sandcove("ls", "--json", "--label", f"signal={number.name}").stdout)["sandboxes"] == []


def test_a_reader_that_goes_away(home: Path) -> None:
    line = [*COMMAND, "run", "yes"]
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.readline() == b"y\n"
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 141


def test_uploads_environment_and_folder_of_a_run(home: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("uploaded\n")
    done = sandcove(
        "run",
        "--upload",
        f"{tmp_path}/in.txt:/tmp/x",
        "--env",
        "A=b c",
        "--cwd",
        "/tmp",
        "--",
        "sh",
        "-c",
        'cat x; echo "$A"',
    )
    assert (done.stdout, done.returncode) == ("uploaded\nb c\n", 0)


def test_standard_input_of_any_size(home: Path, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(40 << 20))
    with (tmp_path / "big").open() as big:
        done = sandcove("run", "wc -c", stdin=big)
    assert (done.stdout, done.returncode) == (f"{40 << 20}\n", 0)


def test_a_closed_standard_input(home: Path) -> None:
    line = ["bash", "-c", f"{' '.join(COMMAND)} run 'cat; echo done' <&-"]
    assert subprocess.run(line, check=True, capture_output=True, text=True, timeout=60).stdout == "done\n"


def test_a_session_of_a_sandbox(home: Path) -> None:
    from sandcove import Sandbox

    with Sandbox("cli-session") as box:
        box.create_session("s", cwd="/tmp")
        assert sandcove("exec", "--session", "s", "cli-session", "pwd").stdout == "/tmp\n"
        assert sandcove("exec", "--session", "other", "cli-session", "pwd").returncode == 125
        box.destroy()


def test_rm_goes_on_after_a_name_that_is_not_there(home: Path) -> None:
    assert sandcove("create", "rm-me").returncode == 0
    done = sandcove("rm", "rm-nobody", "rm-me")
    assert (done.stdout, done.returncode) == ("rm-me\n", 1)
    assert "rm-nobody" in done.stderr


def test_a_name_is_made_up(home: Path) -> None:
    told = json.loads(sandcove("create", "--json", "--sleep-after", "1m").stdout)
    assert (told["sleepAfter"], told["keepAlive"], told["expiresAt"]) == (60_000, False, None)
    told = json.loads(sandcove("create", told["id"], "--json", "--keep-alive", "--time-to-live", "1d").stdout)
    assert told["keepAlive"] and told["expiresAt"] in sandcove("ls").stdout
    assert sandcove("rm", told["id"]).stdout == told["id"] + "\n"


def test_what_is_drawn_on_a_terminal(home: Path, tmp_path: Path) -> None:
    assert sandcove("create", "drawn", "--label", "a=[red]b").returncode == 0
    assert "a=[red]b" in on_a_terminal("ls")
    (tmp_path / "big").write_bytes(bytes(20_000_000))
    assert re.search(r"20\.0/20\.0 MB.*[0-9] [kMG]?B/s", on_a_terminal("cp", str(tmp_path / "big"), "drawn:big"))
    assert sandcove("rm", "drawn").returncode == 0


def test_cp_as_cp_does(home: Path, tmp_path: Path) -> None:
    assert sandcove("create", "copier").returncode == 0
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("x")
    tree = str(tmp_path / "tree")
    for words, there in [
        ([tree, "copier:new"], "new/file"),
        ([tree, "copier:new"], "new/tree/file"),
        ([tree + "/.", "copier:new/into"], "new/into/file"),
        ([tree, "copier:"], "tree/file"),
        ([tree + "/file", "copier:new/"], "new/file"),
    ]:
        assert sandcove("cp", *words).stderr == ""
        assert sandcove("exec", "copier", "--", "cat", there).stdout == "x"
    for words, there in [
        (["copier:new/tree", str(tmp_path / "back")], "back/file"),
        (["copier:new/tree", str(tmp_path / "back")], "back/tree/file"),
        (["copier:new/file", str(tmp_path)], "file"),
    ]:
        assert sandcove("cp", *words).stderr == ""
        assert (tmp_path / there).read_text() == "x"
    for words in (["copier:.", str(tmp_path)], ["copier:new/file", str(tmp_path / "no") + "/"]):
        assert sandcove("cp", *words).returncode == 2
    assert sandcove("rm", "copier").returncode == 0


def test_logs_are_followed(fresh_home: Path) -> None:
    assert sandcove("logs").returncode == 2
    assert sandcove("ls").returncode == 0
    assert "serving on" in sandcove("logs", "-n", "1000").stdout
    line = [*COMMAND, "logs", "-f", "-n", "1"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline()  # the last line: from here on it follows
        with (fresh_home / "server.log").open("a") as log:
            log.write("a new line\n")
        assert child.stdout.readline() == "a new line\n"
        child.terminate()


def test_stop_when_none_runs_is_no_error(fresh_home: Path) -> None:
    assert sandcove("stop").returncode == 0
    assert sandcove("ls").returncode == 0
    assert sandcove("stop").stderr == ""
    assert "no server runs" in sandcove("stop").stderr
