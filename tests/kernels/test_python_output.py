"""What Python cells print: live, in order with results, whatever they do to the streams."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernels.driver import Driver


def kinds(events: list[tuple[str, Any]]) -> list[str]:
    """The events' kinds and texts in order, output of one kind joined."""
    found: list[str] = []
    for kind, value in events[:-1]:
        told = f"{kind}:{value if isinstance(value, str) else value.get('text')}"
        if found and isinstance(value, str) and found[-1].startswith(f"{kind}:"):
            found[-1] += value
        else:
            found.append(told)
    return found


def test_both_streams_and_results_keep_their_order(any_python: Driver) -> None:
    code = """
import sys
for n in range(3):
    print('o', n)
    print('e', n, file=sys.stderr)
    display(n)
print('part', end='')
display('x')
print('last', end='', file=sys.stderr)
sys.stdout.write('end')
"""
    cell = any_python.run(code + "None")
    assert kinds(cell.events) == [
        *(
            f"{kind}:{text}"
            for n in range(3)
            for kind, text in (("stdout", f"o {n}\n"), ("stderr", f"e {n}\n"), ("result", n))
        ),
        "stdout:part",
        "result:'x'",
        "stderr:last",
        "stdout:end",
    ] or kinds(cell.events)[-2:] == ["stdout:end", "stderr:last"]


def test_a_program_that_the_cell_waits_for_keeps_the_order(any_python: Driver) -> None:
    any_python.reads_late = 0.02
    code = """
import os, sys
print('e', file=sys.stderr)
os.system('echo c')
print('e', file=sys.stderr)
os.system('echo c >&2')
print('o')
"""
    assert kinds(any_python.run(code).events) == ["stderr:e\n", "stdout:c\n", "stderr:e\nc\n", "stdout:o\n"]


def test_a_program_of_a_magic_keeps_the_order(python: Driver) -> None:
    python.reads_late = 0.02
    code = "import sys\nprint('e', file=sys.stderr)\n!echo c\nprint('e', file=sys.stderr)\n!echo c >&2\nprint('o')"
    assert kinds(python.run(code).events) == ["stderr:e\n", "stdout:c\n", "stderr:e\nc\n", "stdout:o\n"]


def test_what_follows_on_the_other_stream_comes_after(any_python: Driver) -> None:
    code = """
import os, sys
for n in range(30):
    print('e', n, file=sys.stderr)
    print('o', n)
    os.system('echo c')
    print('p', file=sys.stderr)
"""
    cell = any_python.run(code)
    assert kinds(cell.events) == [
        told for n in range(30) for told in ((f"stderr:p\ne {n}\n" if n else "stderr:e 0\n"), f"stdout:o {n}\nc\n")
    ] + ["stderr:p\n"]


def test_output_comes_while_the_cell_runs(any_python: Driver) -> None:
    seen: list[str] = []

    def on_event(kind: str, value: Any) -> None:
        if kind == "stdout" and value == "now\n":
            seen.append(value)
            any_python.interrupt()

    cell = any_python.run("print('now')\nimport time\ntime.sleep(60)", on_event=on_event, within=20)
    assert seen == ["now\n"]
    assert cell.error is not None


def test_programs_print_in_their_place(any_python: Driver) -> None:
    code = """
import os, subprocess, sys
print('a')
os.system('echo b')
subprocess.run(['sh', '-c', 'echo c; echo d >&2'])
print('e', file=sys.stderr)
os.write(1, b'f\\n')
None
"""
    cell = any_python.run(code)
    assert cell.stdout == "a\nb\nc\nf\n"
    assert cell.stderr == "d\ne\n"


def test_text_that_is_no_unicode_is_printed_escaped(any_python: Driver) -> None:
    assert (
        any_python.run("print('\\udc80 \\ud83d', '\u00e9 \U0001f40d')").stdout == "\\udc80 \\ud83d \u00e9 \U0001f40d\n"
    )
    assert any_python.run("import sys\nsys.stdout.buffer.write(b'\\xc3\\xa9\\n')\nNone").stdout == "\u00e9\n"


@pytest.mark.parametrize(
    "code",
    [
        "import sys\nsys.stdout = None\nprint('lost')",
        "import sys\nsys.stdout = sys.stderr = None\n1/0",
        "import sys\nsys.stdout.close()",
        "import sys\nsys.stdout.close()\nsys.stderr.close()\ndisplay(1)",
        "import os\nos.close(1)\nprint('lost')",
        "import os\nos.close(1)\nos.close(2)\nprint('lost')\n1/0",
        "import os\nos.closerange(0, 3)",
        "import os\nfd = os.open('/dev/null', os.O_WRONLY)\nos.dup2(fd, 1)\nos.dup2(fd, 2)\nprint('lost')",
        "import sys\nsys.stdout.detach()",
        "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer)\nsys.stdout = None",
        "import io, sys\nsys.stdout = sys.stderr = io.StringIO()\nprint('lost')",
        (
            "import sys\nclass Bad:\n    def write(self, *a): raise OSError\n    flush = write\n"
            "sys.stdout = sys.stderr = Bad()\nprint(1)"
        ),
        "import sys\nsys.stdin.close()\nsys.stdin = None",
        "import sys, os\nprint('in the buffer', end='')\nos.close(1)",
        "import sys\ndel sys.stdout",
        "import builtins\ndel builtins.print, builtins.open",
    ],
)
def test_whatever_a_cell_does_to_the_streams_the_next_prints(any_python: Driver, code: str) -> None:
    any_python.run(code, within=20)
    cell = any_python.run(
        "import sys, os\nsys.stdout.write('out\\n')\nsys.stderr.write('err\\n')\nos.system('echo child')\n7"
    )
    assert (cell.stdout, cell.stderr, cell.result["text"]) == ("out\nchild\n", "err\n", "7")
    assert any_python.run("sys.stdin.read()").result["text"] == "''"


def test_closing_all_descriptors_ends_the_kernel_quietly(any_python: Driver) -> None:
    with pytest.raises(EOFError):
        for _ in range(3):
            any_python.run("import os\nos.closerange(3, 4096)", within=20)


def test_a_pipe_that_a_program_made_non_blocking(any_python: Driver) -> None:
    code = """
import fcntl, os, sys
fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_NONBLOCK)
for n in range(20000):
    print(n, 'x' * 50)
print('y' * 3_000_000)
sys.stdout.flush()
"""
    cell = any_python.run(code)
    assert cell.error is None, cell.error
    assert cell.stdout == "".join(f"{n} {'x' * 50}\n" for n in range(20000)) + "y" * 3_000_000 + "\n"


def test_a_hundred_megabytes_are_printed(any_python: Driver) -> None:
    cell = any_python.run("line = 'x' * 999\nfor _ in range(50): print('\\n'.join([line] * 2000))")
    assert len(cell.stdout) == 100_000_000


def test_threads_print_during_cells_and_between(any_python: Driver) -> None:
    code = """
import sys, threading
go = threading.Event()
def work(n):
    go.wait()
    for i in range(200):
        print(n, i, file=sys.stderr if i % 2 else sys.stdout)
        if i % 50 == 0:
            display(i)
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads: thread.start()
"""
    any_python.run(code)
    cell = any_python.run("go.set()\nfor i in range(200): print('main', i)\nfor thread in threads: thread.join()")
    assert len(cell.stdout.splitlines()) == 600
    assert len(cell.stderr.splitlines()) == 400
    assert len(cell.results) == 16
    any_python.run(code)
    any_python.run("go.set()")  # they go on while no cell runs
    cell = any_python.run("for thread in threads: thread.join()\n'over'")
    assert cell.results[-1]["text"] == "'over'"


def test_a_printing_loop_that_is_interrupted_prints_no_line_twice(any_python: Driver) -> None:
    any_python.run("n = 0")
    for _ in range(5):
        events = 0

        def on_event(kind: str, value: Any) -> None:
            nonlocal events
            events += 1
            if events == 5:
                any_python.interrupt()

        cell = any_python.run("while True:\n    print(n)\n    n += 1", on_event=on_event, within=20)
        assert cell.error is not None
        assert cell.error["ename"] == "KeyboardInterrupt"
        lines = cell.stdout.splitlines()
        assert len(lines) == len(set(lines))


def test_fork_does_not_print_twice(any_python: Driver) -> None:
    code = "import os\nprint('once', end=' ')\npid = os.fork()\nif pid: os.waitpid(pid, 0)"
    assert any_python.run(code).stdout == "once "
