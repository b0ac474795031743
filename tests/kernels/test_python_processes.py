"""Processes that cells start by forking: they come to their own end, never to the kernel's work."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.kernels.driver import Driver


def text(python: Driver, code: str) -> str:
    cell = python.run(code, within=30)
    assert cell.error is None, cell.error
    return str(cell.result["text"])


def test_a_fork_that_comes_to_the_cells_end_ends(any_python: Driver) -> None:
    cell = any_python.run("import os\npid = os.fork()\nprint('child' if pid == 0 else 'parent')\ndisplay(bool(pid))")
    assert sorted(cell.stdout.split()) in (["False", "child", "parent"], ["child", "parent"], ["parent"])
    assert [result["text"] for result in cell.results] == ["True"]
    assert text(any_python, "os.waitpid(pid, 0)[1]") == "0"


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("1/0", 1),
        ("import sys; sys.exit(7)", 7),
        ("raise KeyboardInterrupt", 1),
        ("os._exit(9)", 9),
        ("import sys; sys.exit('x')", 1),
    ],
)
def test_a_fork_that_fails_ends(any_python: Driver, end: str, status: int) -> None:
    cell = any_python.run(
        f"import os\npid = os.fork()\nif pid == 0:\n    {end}\nos.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])"
    )
    assert cell.result["text"] == str(status)
    assert ("ZeroDivisionError" in cell.stderr) == (end == "1/0")


def test_a_fork_in_an_await_cell_ends(any_python: Driver) -> None:
    code = "import asyncio, os\npid = os.fork()\nawait asyncio.sleep(0)\nos.waitpid(pid, 0)[1] if pid else 5"
    assert any_python.run(code, within=20).result["text"] == "0"
    assert any_python.run("await asyncio.sleep(0, 3)").result["text"] == "3"


def test_a_fork_by_a_task_between_cells_ends(any_python: Driver) -> None:
    any_python.run("""
import asyncio, os
async def work():
    global pid
    await asyncio.sleep(0.01)
    pid = os.fork()
    await asyncio.sleep(0.01)
task = asyncio.create_task(work())
await asyncio.sleep(0)
""")
    while text(any_python, "task.done()") == "False":
        pass
    for n in range(20):
        assert text(any_python, f"{n}") == f"{n}"
    assert text(any_python, "await asyncio.sleep(0, 3)") == "3"
    any_python.run("import signal\nos.kill(pid, signal.SIGKILL)\nos.waitpid(pid, 0)")


def test_a_fork_does_not_hold_the_channel_open(any_python: Driver) -> None:
    cell = any_python.run("import os, time\npid = os.fork()\nif pid == 0:\n    time.sleep(60)\n    os._exit(0)\npid")
    child = int(cell.result["text"])
    with pytest.raises(EOFError):
        any_python.run("os._exit(0)", within=20)
    os.kill(child, 9)


def test_pools_of_processes(any_python: Driver) -> None:
    any_python.run("""
import multiprocessing, concurrent.futures, os
fork = multiprocessing.get_context('fork')
def square(n):
    return n * n
def shout(n):
    print('from a child', n, flush=True)
""")
    assert (
        text(any_python, "with fork.Pool(2) as pool: squares = pool.map(square, range(5))\nsquares")
        == "[0, 1, 4, 9, 16]"
    )
    cell = any_python.run("p = fork.Process(target=shout, args=(1,))\np.start()\np.join()\np.exitcode", within=30)
    assert (cell.stdout, cell.result["text"]) == ("from a child 1\n", "0")
    code = "with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as e: r = list(e.map(square, [5, 6]))\nr"
    assert text(any_python, code) == "[25, 36]"
    assert (
        text(any_python, "with concurrent.futures.ThreadPoolExecutor(2) as e: r = list(e.map(square, [7]))\nr")
        == "[49]"
    )
    code = """
q = fork.Queue()
p = fork.Process(target=lambda: q.put(square(9)))
p.start()
r = q.get(timeout=20)
p.join()
r
"""
    assert text(any_python, code) == "81"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_spawned_processes_run_what_they_can_import(any_python: Driver, tmp_path: Path, method: str) -> None:
    (tmp_path / "work.py").write_text("def square(n):\n    return n * n\n")
    any_python.run("print('once')\nimport multiprocessing, work")
    code = f"with multiprocessing.get_context('{method}').Pool(1) as pool: r = pool.map(work.square, [3])\nr"
    cell = any_python.run(code, within=40)
    assert cell.error is None, cell.error
    assert cell.result["text"] == "[9]"
    assert cell.stdout == ""


def test_a_failing_child_tells_its_error(any_python: Driver) -> None:
    any_python.run("import multiprocessing\nfork = multiprocessing.get_context('fork')\ndef bad(): 1/0")
    cell = any_python.run("p = fork.Process(target=bad)\np.start()\np.join()\np.exitcode", within=20)
    assert cell.result["text"] == "1"
    assert "ZeroDivisionError" in cell.stderr


def test_arrays_are_computed_in_children(python: Driver) -> None:
    code = """
import multiprocessing, numpy as np
def norm(n):
    a = np.random.default_rng(n).random((200, 200))
    return float(np.linalg.norm(a @ a))
with multiprocessing.get_context('fork').Pool(2) as pool:
    found = pool.map(norm, range(4))
found == [norm(n) for n in range(4)]
"""
    assert text(python, code) == "True"


def test_threads_outlive_their_cell(any_python: Driver) -> None:
    any_python.run(
        "import threading\ngo = threading.Event()\ndone = []\n"
        "t = threading.Thread(target=lambda: (go.wait(), done.append(1)))\nt.start()"
    )
    assert text(any_python, "go.set()\nt.join()\ndone") == "[1]"


def test_the_key_of_multiprocessing_is_the_kernels_own(python: Driver, make_python: object) -> None:
    code = "import multiprocessing\nbytes(multiprocessing.current_process().authkey).hex()"
    other = make_python()  # type: ignore[operator]
    assert text(python, code) != text(other, code)


def test_no_descriptor_of_the_kernel_goes_to_programs(any_python: Driver) -> None:
    code = """
import subprocess
subprocess.run(['ls', '/proc/self/fd'], capture_output=True, text=True, close_fds=False).stdout.split()
"""
    fds = any_python.run(code).result["json"]
    # 3 is the folder that it lists; others than the kernel's may come from what started the tests.
    assert not [fd for fd in fds if int(fd) in (4, 5) or int(fd) > 900], json.dumps(fds)
