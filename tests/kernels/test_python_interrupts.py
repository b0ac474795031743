"""SIGINT: the running cell, all of it, and nothing else."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kernels.conftest import MakePython
from tests.kernels.driver import Cell, Driver


def interrupted(python: Driver, code: str) -> Cell:
    """Runs `code`, which prints a line when it is to be interrupted."""

    def on_event(kind: str, value: Any) -> None:
        if kind == "stdout" and "now" in value:
            python.interrupt()

    return python.run(code, on_event=on_event, within=20)


def children(pid: int) -> list[str]:
    """Those of its main thread that live."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in found if "\nState:\tZ" not in status(child)]


def status(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "\nState:\tZ"


def test_a_cell_that_often_returns_to_the_loop_is_interrupted_wherever_it_is(any_python: Driver) -> None:
    code = "import asyncio\nprint('now')\nwhile True: await asyncio.sleep(0)"
    for _ in range(100):
        assert interrupted(any_python, code).error is not None


@pytest.mark.parametrize(
    "code",
    [
        "print('now')\nwhile True: pass",
        "import time\nprint('now')\ntime.sleep(60)",
        "import subprocess\nprint('now')\nsubprocess.run(['sleep', '60'])",
        "import threading\nprint('now')\nthreading.Event().wait(60)",
        "import asyncio\nprint('now')\nawait asyncio.sleep(60)",
        "import asyncio\nasync def f():\n    print('now')\n    while True: pass\nawait f()",
        (
            "import asyncio\nasync def f():\n    print('now')\n    while True: pass\n"
            "t = asyncio.create_task(f())\nawait asyncio.sleep(60)"
        ),
        "import asyncio\nasync def f():\n    print('now')\n    while True: await asyncio.sleep(0)\nawait f()",
        "import asyncio\nprint('now')\nasyncio.run(asyncio.sleep(60))",
        "import re\nprint('now')\nfor _ in range(10**9): re.sub('a', 'b', 'c' * 1000)",
        "import os\nprint('now')\nos.read(os.pipe()[0], 1)",
        "class A:\n    def __repr__(self):\n        print('now')\n        while True: pass\nA()",
        "import queue\nprint('now')\nqueue.Queue().get()",
    ],
)
def test_a_cell_is_interrupted_and_the_next_runs(any_python: Driver, code: str) -> None:
    any_python.run("x = 5")
    cell = interrupted(any_python, code)
    assert cell.error is not None
    assert cell.error["ename"] == "KeyboardInterrupt"
    assert any_python.run("x").result["text"] == "5"
    assert any_python.run("import asyncio\nawait asyncio.sleep(0, 6)").result["text"] == "6"


def test_a_cell_may_catch_it(any_python: Driver) -> None:
    cell = interrupted(
        any_python, "try:\n    print('now')\n    while True: pass\nexcept KeyboardInterrupt:\n    print('caught')"
    )
    assert cell.error is None
    assert cell.stdout == "now\ncaught\n"
    code = """
import asyncio
try:
    print('now')
    await asyncio.sleep(60)
except (KeyboardInterrupt, asyncio.CancelledError):
    print('caught')
"""
    cell = interrupted(any_python, code)
    assert cell.error is None
    assert cell.stdout == "now\ncaught\n"


def test_the_line_that_was_interrupted_is_told(any_python: Driver) -> None:
    cell = interrupted(any_python, "import time\n\nprint('now'); time.sleep(60)")
    assert cell.error is not None
    assert cell.error["lineNumber"] == 3
    assert "_on_signal" not in "\n".join(cell.error["traceback"])
    cell = interrupted(any_python, "import asyncio\n\nprint('now'); await asyncio.sleep(60)")
    assert cell.error is not None
    assert cell.error["lineNumber"] == 3


def test_between_cells_it_does_nothing(any_python: Driver) -> None:
    for n in range(100):
        any_python.interrupt()
        assert any_python.run(f"{n}").all("done")
        any_python.interrupt()
    any_python.interrupt()
    any_python.interrupt()
    # It came before the kernel read the request, or is taken for the cell's: either way the kernel lives.
    any_python.run("2")
    assert any_python.run("2").result["text"] == "2"


@pytest.mark.alone
def test_it_may_come_at_any_moment_of_short_cells(any_python: Driver) -> None:
    """Hundreds of signals over hundreds of cells: each gives a result or `KeyboardInterrupt`, and none is lost."""
    any_python.run("x = 0")
    noise = any_python.run(
        "import os, subprocess, sys\n"
        "noise = subprocess.Popen([sys.executable, '-c', 'import os, random, sys, time\\n"
        "while os.getppid() == int(sys.argv[1]):\\n"
        "    os.kill(int(sys.argv[1]), 2); time.sleep(random.random() / 200)',"
        " str(os.getpid())])\nnoise.pid"
    )
    fine = wrong = 0
    while fine < 100 or wrong < 50:
        cell = any_python.run("display(1)\nx += 1\nx", within=20)
        if cell.error is None:
            fine += 1
            assert cell.results[0]["text"] == "1"
        else:
            wrong += 1
            assert cell.error["ename"] == "KeyboardInterrupt", cell.error
        if fine + wrong > 1000:
            break
    os.kill(int(noise.result["text"]), signal.SIGKILL)
    assert wrong > 0
    assert any_python.run("print('over')").stdout == "over\n"


def test_results_after_interrupted_ones_are_acknowledged(any_python: Driver) -> None:
    """Thousands of signals while results are noted, sent and waited for: none is waited for that was not sent."""
    code = """
caught = 0
while caught < 3000:
    try:
        while True: display(caught)
    except KeyboardInterrupt:
        caught += 1
"""
    over = threading.Event()

    def disturb() -> None:
        while not over.wait(random.random() / 2000):
            os.kill(any_python.pid, signal.SIGINT)

    noise = threading.Thread(target=disturb)
    noise.start()
    try:
        any_python.run(code)
    finally:
        over.set()
        noise.join()
    assert any_python.run("display(1)\nprint('over')", within=10).stdout == "over\n"


IN_A_FINALIZER = """
class Slow:
    def __del__(self):
        print('now')
        while True: pass
Slow()
while True: pass
"""
IN_A_CALLBACK = """
import asyncio, time
asyncio.get_event_loop().call_soon(lambda: (print('now'), time.sleep(60)))
await asyncio.sleep(60)
"""


@pytest.mark.parametrize("code", [IN_A_FINALIZER, IN_A_CALLBACK])
def test_once_is_enough(any_python: Driver, code: str) -> None:
    """Also where it is raised in what nobody hears it from, or can't be raised at once."""

    def on_event(kind: str, value: Any) -> None:
        if kind == "stdout" and "now" in value:
            os.kill(any_python.pid, signal.SIGINT)

    cell = any_python.run(code, on_event=on_event, within=10)
    assert cell.error is not None
    assert cell.error["ename"] == "KeyboardInterrupt"
    assert cell.stderr == ""


def test_a_program_that_is_just_being_started_ends_too(any_python: Driver) -> None:
    """The signal comes before the program's process is there: the kernel passes it on."""
    any_python.run("import subprocess")
    for n in range(60):
        timer = threading.Timer(n % 40 / 20_000, any_python.interrupt)

        def on_event(kind: str, value: Any, timer: threading.Timer = timer) -> None:
            if kind == "stdout" and "now" in value:
                timer.start()

        cell = any_python.run("print('now', flush=True)\nsubprocess.run(['sleep', '1012'])", on_event=on_event)
        timer.join()
        assert cell.error is not None
        deadline = time.monotonic() + 5
        while (left := children(any_python.pid)) and time.monotonic() < deadline:
            pass
        assert not left, n


def test_the_users_own_reaction_lasts_for_its_cell(any_python: Driver) -> None:
    code = """
import signal
def react(*args):
    global reacted
    reacted = True
signal.signal(signal.SIGINT, react)
reacted = False
print('now')
while not reacted: pass
print('reacted')
"""
    cell = interrupted(any_python, code)
    assert cell.error is None
    assert cell.stdout == "now\nreacted\n"
    cell = interrupted(any_python, "print('now')\nwhile True: pass")
    assert cell.error is not None
    assert cell.error["ename"] == "KeyboardInterrupt"
    any_python.run("signal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert interrupted(any_python, "print('now')\nwhile True: pass").error is not None


def test_tasks_survive_the_interrupt_of_another_cell(any_python: Driver) -> None:
    any_python.run("import asyncio\nasync def work():\n    await asyncio.sleep(0.2)\n    return 'done'")
    any_python.run("task = asyncio.create_task(work())\nawait asyncio.sleep(0)")
    assert interrupted(any_python, "print('now')\nawait asyncio.sleep(60)").error is not None
    assert any_python.run("await task").result["text"] == "'done'"


def test_a_figure_that_is_drawn_at_the_end_can_be_interrupted(python: Driver) -> None:
    code = """
import matplotlib.pyplot as plt
from matplotlib.artist import Artist
class Slow(Artist):
    def draw(self, renderer):
        print('now')
        while True: pass
fig = plt.figure()
fig.add_artist(Slow())
None
"""
    cell = interrupted(python, code)
    assert cell.all("done")
    assert python.run("1").result["text"] == "1"


def test_the_agent_interrupts_programs_too(make_python: MakePython) -> None:
    python = make_python()

    def on_event(kind: str, value: Any) -> None:
        if kind == "stdout" and "now" in value:
            python.interrupt_tree()

    # The program that prints is the one that waits: dash, between two, may miss the signal.
    code = """
import os, sys
program = "import time; print('now', flush=True); time.sleep(60)"
while True: os.system(f'exec {sys.executable} -c "{program}"')
"""
    cell = python.run(code, on_event=on_event, within=20)
    assert cell.error is not None
    assert cell.error["ename"] == "KeyboardInterrupt"
