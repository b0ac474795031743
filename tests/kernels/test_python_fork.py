"""Copies of a live Python kernel."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.kernels.driver import Driver


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def text(python: Driver, code: str) -> str:
    cell = python.run(code, within=30)
    assert cell.error is None, cell.error
    return str(cell.result["text"])


def test_both_go_on_from_the_same_state_and_neither_sees_the_other(any_python: Driver, stack: ExitStack) -> None:
    any_python.run("x = [1]\ndef f(): return x")
    copy = stack.enter_context(any_python.fork())
    assert copy.ready["pid"] != any_python.pid
    assert copy.ready["version"] == any_python.ready["version"]
    assert copy.lost == []
    any_python.run("x.append('original')")
    copy.run("x.append('copy')")
    assert text(any_python, "f()") == "[1, 'original']"
    assert text(copy, "f()") == "[1, 'copy']"
    assert copy.run("1").all("done")[0]["executionCount"] == 4
    again = stack.enter_context(copy.fork())
    assert text(again, "f()") == "[1, 'copy']"


def test_the_copy_is_no_child_of_the_originals_and_outlives_it(any_python: Driver, stack: ExitStack) -> None:
    any_python.run("x = 5")
    copy = stack.enter_context(any_python.fork())
    assert (
        text(any_python, "import os\ntry:\n    os.waitpid(-1, os.WNOHANG)\nexcept ChildProcessError: r = 'none'\nr")
        == "'none'"
    )
    assert text(copy, "import os\nos.getpid() == os.getpgrp() == os.getsid(0)") == "True"
    with pytest.raises(EOFError):
        any_python.run("os._exit(0)")
    assert text(copy, "x") == "5"


def test_everything_works_in_the_copy(any_python: Driver, stack: ExitStack) -> None:
    any_python.run("import asyncio\nawait asyncio.sleep(0)\nlock = asyncio.Lock()")
    copy = stack.enter_context(any_python.fork())
    cell = copy.run("import sys, os\nprint('o')\nprint('e', file=sys.stderr)\nos.system('echo c')\ndisplay(1)\n2")
    assert (cell.stdout, cell.stderr) == ("o\nc\n", "e\n")
    assert [result["text"] for result in cell.results] == ["1", "2"]
    assert text(copy, "await asyncio.sleep(0, 3)") == "3"
    error = copy.run("1/0").error
    assert error is not None

    def on_event(kind: str, value: object) -> None:
        if kind == "stdout":
            copy.interrupt()

    cell = copy.run("print('now')\nwhile True: pass", on_event=on_event, within=20)
    assert cell.error is not None
    assert cell.error["ename"] == "KeyboardInterrupt"
    assert text(any_python, "await asyncio.sleep(0, 4)") == "4"


def test_what_the_copy_has_not_is_told(any_python: Driver, stack: ExitStack) -> None:
    any_python.run("""
import asyncio, os, socket, subprocess, threading
stop = threading.Event()
thread = threading.Thread(target=stop.wait, name='worker')
thread.start()
child = subprocess.Popen(['sleep', '60'])
ended = subprocess.Popen(['true'])
os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # a zombie from now on
server = socket.create_server(('127.0.0.1', 0))
task = asyncio.get_event_loop().create_task(asyncio.sleep(60))
""")
    copy = stack.enter_context(any_python.fork())
    lost = "\n".join(copy.lost)
    assert "thread worker" in lost
    assert "1 task of the event loop" in lost
    assert "(sleep)" in lost
    assert "socket on 127.0.0.1:" in lost
    assert "(true)" not in lost
    assert text(copy, "import threading\nthreading.active_count()") == "1"
    assert text(copy, "await asyncio.sleep(0, 5)") == "5"
    assert text(any_python, "task.done(), thread.is_alive(), child.poll()") == "(False, True, None)"
    any_python.run("stop.set()\nchild.kill()\nchild.wait()\ntask.cancel()")


def test_the_loop_of_the_original_goes_on(any_python: Driver, stack: ExitStack) -> None:
    any_python.run("""
import asyncio
async def serve(reader, writer):
    writer.write((await reader.readline()).upper())
    writer.close()
server = await asyncio.start_server(serve, '127.0.0.1', 0)
port = server.sockets[0].getsockname()[1]
async def ask():
    reader, writer = await asyncio.open_connection('127.0.0.1', port)
    writer.write(b'hello\\n')
    return await reader.readline()
async def tick():
    global ticks
    for ticks in range(10**6):
        await asyncio.sleep(0.001)
ticker = asyncio.create_task(tick())
""")
    for _ in range(3):
        copy = stack.enter_context(any_python.fork())
        assert text(copy, "await asyncio.sleep(0, 1)") == "1"
        copy.run("import gc\ngc.collect()\ndel server, ticker\ngc.collect()")
        assert text(any_python, "await ask()") == "b'HELLO\\n'"
    before = int(text(any_python, "ticks"))
    while int(text(any_python, "ticks")) == before:
        pass


def test_threads_still_wake_the_loop_of_the_original(any_python: Driver, stack: ExitStack) -> None:
    any_python.run("import asyncio, os\nawait asyncio.sleep(0)")
    copy = stack.enter_context(any_python.fork())
    # A program takes long enough for the loop to wait.
    assert text(copy, "await asyncio.to_thread(os.system, 'true')") == "0"
    assert text(any_python, "await asyncio.to_thread(os.system, 'true')") == "0"


def test_random_state_is_the_same(any_python: Driver, stack: ExitStack) -> None:
    any_python.run("import random")
    copy = stack.enter_context(any_python.fork())
    assert text(any_python, "random.random()") == text(copy, "random.random()")


def test_cell_magics_work_in_a_copy_after_they_have_run_in_the_original(python: Driver, stack: ExitStack) -> None:
    python.run("%%bash --out a\necho 1")
    copy = stack.enter_context(python.fork())
    copy.run("%%bash --out b\necho 2", within=20)
    assert text(copy, "a, b") == "('1\\n', '2\\n')"
    assert text(python, "a") == "'1\\n'"


def test_arrays_and_pictures_in_a_copy(python: Driver, stack: ExitStack) -> None:
    python.run("import numpy as np, matplotlib.pyplot as plt\na = np.random.rand(500, 500)\nb = a @ a")
    copy = stack.enter_context(python.fork())
    assert text(copy, "np.allclose(a @ a, b)") == "True"
    assert "png" in copy.run("plt.plot(a[0])\nplt.show()").result
    assert text(python, "np.allclose(a @ a, b)") == "True"


@pytest.mark.alone
def test_a_fork_of_a_hundred_megabytes_is_quick(python: Driver, stack: ExitStack) -> None:
    python.run("import numpy as np\na = np.random.rand(13_000_000)")
    took = []
    for _ in range(7):
        began = time.perf_counter()
        copy = stack.enter_context(python.fork())
        took.append(time.perf_counter() - began)
        assert text(copy, "a[0] = 1\na.nbytes") == "104000000"
    # The budget is 15 ms on a machine that does nothing else; the least of several is what it takes here.
    assert min(took) < 0.040, took


def test_no_descriptor_is_left_by_forks(any_python: Driver, stack: ExitStack) -> None:
    def count(python: Driver) -> int:
        return len(os.listdir(f"/proc/{python.ready['pid']}/fd"))

    any_python.run("import asyncio\nawait asyncio.sleep(0)")
    before = count(any_python)
    copies = [stack.enter_context(any_python.fork()) for _ in range(5)]
    assert text(any_python, "1") == "1"
    assert count(any_python) == before
    for copy in copies:
        assert text(copy, "1") == "1"
        assert count(copy) <= before
