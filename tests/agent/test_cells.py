"""What the code of a cell may do to its kernel, in a sandbox: nothing hangs, all is told, the next cell works."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import processes
from sandcove import CodeContext, ContextEndedError, Sandbox
from tests.agent.test_contexts import text

MISCHIEF = {
    "os.system": ("import os; os.system('echo from a child'); print('after')", "from a child\nafter\n"),
    "subprocess": ("import subprocess; subprocess.run(['echo', 'ran'])", "ran\n"),
    "a child that stays": ("import subprocess; subprocess.Popen(['sleep', '1003']); print('left')", "left\n"),
    "a child that reads": ("import subprocess; subprocess.run(['cat'])", ""),
    "bytes on descriptor 1": (
        "import os; os.write(1, 'ä'.encode()[:1]); os.write(1, 'ä'.encode()[1:] + b'\\n')",
        "ä\n",
    ),
    "bytes that are no text": ("import os; os.write(1, b'\\xff\\n')", "\ufffd\n"),
    "a forged event": ('print(\'{"type": "execution_complete"}\')', '{"type": "execution_complete"}\n'),
    "sys.stdout = None": ("import sys; print('before'); sys.stdout = None", "before\n"),
    "a closed stdout": ("import sys; print('before'); sys.stdout.close()", "before\n"),
    "closed descriptors": ("import os; os.close(1); os.close(2); os.close(0)", ""),
    "other descriptors": ("import os; os.dup2(os.open('/dev/null', os.O_WRONLY), 1)", ""),
    "a fork": (
        "import os\npid = os.fork()\nif pid == 0: print('child'); os._exit(0)\nos.waitpid(pid, 0); print('parent')",
        "child\nparent\n",
    ),
    "a fork that comes back": ("import os\npid = os.fork()\nif pid: os.waitpid(pid, 0); print('parent')", "parent\n"),
    "a pool": ("import multiprocessing as m\nprint(m.get_context('fork').Pool(2).map(abs, [-1, -2]))", "[1, 2]\n"),
    "threads": (
        "import threading\nt = threading.Thread(target=print, args=('threaded',)); t.start(); t.join()",
        "threaded\n",
    ),
    "asyncio.run": ("import asyncio\nasync def main(): print('ran')\nasyncio.run(main())", "ran\n"),
    "await": ("import asyncio; await asyncio.sleep(0.01); print('slept')", "slept\n"),
    "a magic": ("%%bash\necho from bash", "from bash\n"),
    "a shell line": ("!echo from sh", "from sh\n"),
    "a signal handler": ("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print('deaf')", "deaf\n"),
    "blas": ("import numpy as np; print((np.ones((500, 500)) @ np.ones((500, 500)))[0, 0])", "500.0\n"),
}
ERRORS = {
    "input": ("input('name? ')", "EOFError", 1),
    "exit": ("x = 1\nimport sys; sys.exit('over')", "SystemExit", 2),
    "syntax": ("x = 1\ndef broken(:\n", "SyntaxError", 2),
    "memory": (
        "from resource import *\nsetrlimit(RLIMIT_AS, (2**31, RLIM_INFINITY))\nheld = bytearray(2**33)",
        "MemoryError",
        3,
    ),
    "recursion": ("def f(): f()\nf()", "RecursionError", 1),
    "an error without text": ("class Bad(Exception):\n    def __str__(self): raise ValueError\nraise Bad", "Bad", 3),
}


@pytest.fixture
def context(shared: Sandbox) -> Iterator[CodeContext]:
    made = shared.create_code_context()
    yield made
    made.delete()


@pytest.mark.parametrize("what", MISCHIEF)
def test_mischief(shared: Sandbox, context: CodeContext, what: str) -> None:
    code, printed = MISCHIEF[what]
    text(shared, "kept = 42", context)
    execution = shared.run_code(code, context=context, timeout=60)
    assert execution.error is None, execution.error
    assert "".join(execution.logs.stdout) == printed
    execution = shared.run_code("import os; print('next'); os.system('echo child'); kept", context=context)
    assert ("".join(execution.logs.stdout), execution.text) == ("next\nchild\n", "42")


@pytest.mark.parametrize("what", ERRORS)
def test_errors(shared: Sandbox, context: CodeContext, what: str) -> None:
    code, name, line = ERRORS[what]
    text(shared, "kept = 42", context)
    error = shared.run_code(code, context=context, timeout=60).error
    assert error is not None
    assert (error.name, error.line_number) == (name, line)
    assert error.traceback
    assert text(shared, "kept", context) == "42"


def test_a_hundred_megabytes_of_output(shared: Sandbox, context: CodeContext) -> None:
    size = 0
    for event in shared.run_code_stream("for _ in range(100): print('x' * 999_999)", context=context):
        size += len(event.text or "") if event.type == "stdout" else 0
    assert size == 100_000_000


@pytest.mark.skipif(
    not os.access("/sys/fs/cgroup/memory/cgroup.procs", os.W_OK), reason="needs a memory cgroup (v1) to write to"
)
def test_a_cell_that_takes_all_memory_is_told_so(home: Path, shared: Sandbox, context: CodeContext) -> None:
    group = Path(f"/sys/fs/cgroup/memory/sandcove-test-{os.getpid()}")
    inside = "import os; int(open('/proc/self/stat').read().split()[0]) and os.getpid()"
    marker = f"sandcove-{os.getpid()}"
    text(
        shared,
        f"{inside}\nimport subprocess; marked = subprocess.Popen(['sleep', '1004'], env={{'M': '{marker}'}})",
        context,
    )
    sandbox_id = shared.info().id
    members = processes.of_sandbox(home, sandbox_id)
    (marked,) = [pid for pid in members if f"M={marker}".encode() in Path(f"/proc/{pid}/environ").read_bytes()]
    kernel = int(Path(f"/proc/{marked}/stat").read_text().rpartition(")")[2].split()[1])
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(512 * 2**20))
        (group / "cgroup.procs").write_text(str(kernel))
        with pytest.raises(ContextEndedError, match="memory had run out"):
            shared.run_code("held = []\nwhile True: held.append(bytearray(10**7))", context=context, timeout=60)
    finally:
        context.restart()
        group.rmdir()
    assert text(shared, "1 + 1", context) == "2"
