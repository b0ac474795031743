"""`sandcove code`: where the code comes from, what is printed, exit codes, pictures, signals."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandcove import Sandbox
from tests.client.test_cli import COMMAND, NO_SERVER, on_a_terminal, sandcove


@pytest.fixture
def box(home: Path) -> Iterator[Sandbox]:
    with Sandbox("cli-code") as box:
        yield box
        box.destroy()


def test_output_and_results_come_in_their_order(home: Path) -> None:
    code = "import sys; print('out'); print('é', file=sys.stderr); display([1]); print('last', end=''); 6 * 7"
    done = sandcove("code", "-c", code)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n[1]\nlast\n42\n", "é\n", 0)
    assert json.loads(sandcove("ls", "--json").stdout)["sandboxes"] == []


def test_code_comes_from_a_file_or_standard_input(home: Path, tmp_path: Path) -> None:
    (tmp_path / "cell.py").write_text("x = 'ä'\nprint(x)")
    assert sandcove("code", str(tmp_path / "cell.py")).stdout == "ä\n"
    with (tmp_path / "cell.py").open() as file:
        assert sandcove("code", "-", stdin=file).stdout == "ä\n"
    line = ["bash", "-c", f"{' '.join(COMMAND)} code - <&-"]
    assert subprocess.run(line, check=True, capture_output=True, text=True, timeout=60).stdout == ""


@pytest.mark.parametrize("ending", ["js", "mjs", "ts"])
def test_the_end_of_a_file_s_name_tells_its_language(home: Path, tmp_path: Path, ending: str) -> None:
    (tmp_path / f"cell.{ending}").write_text(
        "const a = [1, 2]" + (" as number[]" if ending == "ts" else "") + "; a.length"
    )
    assert sandcove("code", str(tmp_path / f"cell.{ending}")).stdout == "2\n"


def test_a_language_that_is_named_counts(home: Path, tmp_path: Path) -> None:
    (tmp_path / "cell.py").write_text("[1, 2].map((n) => n + 1).length")
    assert sandcove("code", "--language", "javascript", str(tmp_path / "cell.py")).stdout == "2\n"


def test_what_a_cell_raises_is_told_on_standard_error(home: Path) -> None:
    done = sandcove("code", "-c", "print('before')\n1 / 0")
    assert (done.stdout, done.returncode) == ("before\n", 1)
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "\x1b" not in done.stderr and "sandcove" not in done.stderr


def test_a_context_that_ends_is_a_failure_of_the_cell(home: Path) -> None:
    done = sandcove("code", "-c", "import os; os._exit(0)")
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.startswith("sandcove: context default-python has lost its variables")
    assert done.stderr.count("\n") == 1


def test_a_timeout_is_124(home: Path) -> None:
    done = sandcove("code", "--timeout", "0.5", "-c", "print('begun')\nwhile True: pass")
    assert (done.stdout, done.returncode) == ("begun\n", 124)
    assert done.stderr == "sandcove: the cell ran longer than 0.5 s and was interrupted\n"


def test_a_sandbox_keeps_variables_from_call_to_call(box: Sandbox) -> None:
    assert sandcove("code", "--sandbox", "cli-code", "-c", "x = 41").stdout == ""
    assert sandcove("code", "--sandbox", "cli-code", "-c", "x + 1").stdout == "42\n"
    context = box.create_code_context()
    box.run_code("x = 1", context=context)
    words = ["code", "--sandbox", "cli-code", "--context", context.id, "--env", "A=b c"]
    assert sandcove(*words, "-c", "import os; print(os.environ['A']); x").stdout == "b c\n1\n"
    done = sandcove("code", "--sandbox", "cli-code", "--context", "nobody", "-c", "1")
    assert (done.stderr, done.returncode) == ("sandcove: Context nobody not found\n", 125)
    assert sandcove("code", "--sandbox", "nobody", "-c", "1").returncode == 125


PICTURES = """
import matplotlib.pyplot as plt
from IPython.display import SVG, display
plt.plot([1, 2]); plt.show()
display('no picture')
shown = display(SVG('<svg xmlns="http://www.w3.org/2000/svg"><g/></svg>'), display_id='x')
plt.plot([2, 1]); plt.show()
display(SVG('<svg xmlns="http://www.w3.org/2000/svg"><circle/></svg>'), display_id='x', update=True)
"""


def test_pictures_are_saved(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    done = sandcove("code", "--save", str(folder), "-c", PICTURES)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["cell-1.png", "cell-2.svg", "cell-3.png"]
    assert (folder / "cell-1.png").read_bytes().startswith(b"\x89PNG")
    assert "<circle" in (folder / "cell-2.svg").read_text()
    assert f"saved {folder}/cell-1.png\n" in done.stderr
    assert "saved" not in done.stdout
    (tmp_path / "file").touch()
    done = sandcove("code", "--save", str(tmp_path / "file"), "-c", "1")
    assert done.returncode == 2 and "can't be made" in done.stderr


def test_events_for_machines(home: Path) -> None:
    done = sandcove("code", "--json", "-c", "print('ä'); 42\n1 / 0")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["type"] for event in events] == ["stdout", "error", "execution_complete"]
    assert events[0] == {"type": "stdout", "text": "ä\n"}
    assert (events[1]["ename"], events[1]["lineNumber"]) == ("ZeroDivisionError", 2)
    assert (done.stderr, done.returncode) == ("", 1)


@pytest.mark.parametrize("words", ["", "-c 1 file", "--context x -c 1", "/no/such/file", "/bin/true", "-l ruby -c 1"])
def test_a_wrong_command_line_is_2_and_starts_nothing(words: str) -> None:
    done = sandcove("code", *words.split(), environment=NO_SERVER)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr and "fault" not in done.stderr


def test_a_server_that_is_not_there_is_125() -> None:
    done = sandcove("code", "-c", "1", environment=NO_SERVER)
    assert done.returncode == 125
    assert done.stderr.startswith("sandcove: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_our_signals_interrupt_the_cell(box: Sandbox, number: signal.Signals, code: int) -> None:
    box.run_code("import time")
    line = [*COMMAND, "code", "--sandbox", "cli-code", "-c", "kept = 1; print('begun', flush=True); time.sleep(1000)"]
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        child.send_signal(number)
        assert child.communicate(timeout=30) == (b"", b"")
    assert child.returncode == code
    assert box.run_code("kept", timeout=30).text == "1"


def test_a_reader_that_goes_away(home: Path) -> None:
    line = [*COMMAND, "code", "-c", "while True: print('y')"]
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.readline() == b"y\n"
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 141


def test_output_and_results_on_a_terminal(home: Path) -> None:
    assert on_a_terminal("code", "-c", "print('hello'); 42") == "hello\r\n42\r\n"
