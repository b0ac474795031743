"""Code contexts as users have them, over both halves of the SDK. What a context itself can do is in `tests/agent`."""

from __future__ import annotations

import asyncio
import signal
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sandcove import (
    AsyncSandbox,
    CodeExecutionError,
    ContextEndedError,
    ContextNotFoundError,
    ExecutionTimeoutError,
    InvalidRequestError,
    PathNotFoundError,
    Sandbox,
)
from tests.conftest import MakeSandbox


@pytest.fixture
def box(make_sandbox: MakeSandbox) -> Sandbox:
    return make_sandbox()


def test_a_context_from_first_to_last(box: Sandbox) -> None:
    context = box.create_code_context(cwd="/tmp", env_vars={"A": "hällo"}, timeout=60)
    assert (context.language, context.cwd, context.status, context.session_id) == ("python", "/tmp", "idle", "default")
    assert (context.execution_count, context.timeout, context.lost) == (0, 60, [])
    assert context.version.startswith("Python 3.") and context.pid > 1
    assert timedelta(0) <= datetime.now(UTC) - context.created_at < timedelta(minutes=1)
    execution = box.run_code(
        "import os, sys; print(os.getcwd()); sys.stderr.write('é'); os.environ['A']", context=context
    )
    assert (execution.logs.stdout, execution.logs.stderr) == (["/tmp\n"], ["é"])
    assert (execution.text, execution.execution_count, execution.success) == ("'hällo'", 1, True)
    [listed] = box.list_code_contexts()
    assert (listed.id, listed.execution_count) == (context.id, 1)
    context.refresh()
    assert context.execution_count == 1
    assert context.last_used >= context.created_at
    context.delete()
    assert box.list_code_contexts() == []
    for call in (context.refresh, context.delete, context.interrupt, context.restart, context.fork):
        with pytest.raises(ContextNotFoundError, match=f"Context {context.id} not found"):
            call()
    with pytest.raises(ContextNotFoundError):
        box.run_code("1", context=context)


def test_a_context_is_deleted_at_the_end_of_its_block(box: Sandbox) -> None:
    with box.create_code_context() as context:
        assert [each.id for each in box.list_code_contexts()] == [context.id]
    assert box.list_code_contexts() == []
    with box.create_code_context() as context:
        context.delete()
    with pytest.raises(ZeroDivisionError), box.create_code_context():
        raise ZeroDivisionError
    assert box.list_code_contexts() == []


def test_a_context_is_named_by_itself_or_its_id(box: Sandbox) -> None:
    context = box.create_code_context()
    box.run_code("kept = 1", context=context)
    assert box.run_code("kept", context=context.id).text == "1"
    assert box.interrupt(context) is False and box.interrupt(context.id) is False
    box.restart(context.id)
    assert box.run_code("'kept' in globals()", context=context).text == "False"
    box.run_code("kept = 1", context=context)
    pid = context.pid
    box.restart(context)
    assert context.pid != pid and context.execution_count == 0
    assert box.run_code("'kept' in globals()", context=context).text == "False"
    box.delete_code_context(context)
    with pytest.raises(ContextNotFoundError):
        box.delete_code_context(context.id)


def test_default_contexts(box: Sandbox) -> None:
    with pytest.raises(ContextNotFoundError, match="default-python"):
        box.interrupt()
    box.run_code("kept = 1")
    assert box.run_code("kept", language="python").text == "1"
    assert box.interrupt() is False and box.interrupt(language="python") is False
    box.restart()
    assert box.run_code("'kept' in globals()").text == "False"
    assert [context.id for context in box.list_code_contexts()] == ["default-python"]
    box.delete_code_context("default-python")
    assert box.run_code("'kept' in globals()").text == "False"


def test_a_session_has_contexts_of_its_own(box: Sandbox) -> None:
    session = box.create_session("s", env={"OF": "s"})
    box.run_code("where = 'sandbox'")
    assert session.run_code("import os; os.environ['OF'], 'where' in globals()").text == "('s', False)"
    session.run_code("where = 'session'")
    assert (box.run_code("where").text, session.run_code("where").text) == ("'sandbox'", "'session'")
    made = session.create_code_context()
    assert (made.session_id, made.cwd) == ("s", "/workspace")
    assert {context.id for context in session.list_code_contexts()} == {"default-python@s", made.id}
    assert {context.id for context in box.list_code_contexts()} == {"default-python", "default-python@s", made.id}
    assert session.interrupt() is False
    session.restart()
    assert session.run_code("'where' in globals()").text == "False"
    assert box.run_code("where").text == "'sandbox'"
    box.delete_session("s")
    assert [context.id for context in box.list_code_contexts()] == ["default-python"]


def test_the_functions_are_called_as_the_cell_runs(box: Sandbox) -> None:
    box.exec("mkfifo /tmp/go")
    seen: list[Any] = []

    def printed(text: str) -> None:
        seen.append(text)
        if text == "waits\n":
            go.start()

    # The cell waits for what is written when its output has come.
    go = threading.Thread(target=lambda: Sandbox(box.id).exec("echo > /tmp/go"))
    execution = box.run_code(
        "import sys\nprint('waits', flush=True)\nopen('/tmp/go').read()\nprint('e', file=sys.stderr)\n"
        "display(1)\ndisplay(2)\n1 / 0",
        on_stdout=printed,
        on_stderr=seen.append,
        on_result=lambda result: seen.append(result.text),
        on_error=lambda error: seen.append(error.name),
    )
    go.join(20)
    assert seen == ["waits\n", "e\n", "1", "2", "ZeroDivisionError"]
    assert execution.error is not None and execution.error.line_number == 7
    assert any("ZeroDivisionError" in line for line in execution.error.traceback)


@pytest.mark.parametrize("which", ["on_stdout", "on_stderr", "on_result", "on_error"])
def test_what_such_a_function_raises_the_call_raises_and_the_cell_is_interrupted(box: Sandbox, which: str) -> None:
    def fail(_: object) -> None:
        raise LookupError

    code = {
        "on_stdout": "print(1, flush=True)",
        "on_stderr": "print(1, file=sys.stderr, flush=True)",
        "on_result": "display(1)",
        "on_error": "1 / 0",
    }[which]
    options: dict[str, Any] = {which: fail}
    with pytest.raises(LookupError):
        box.run_code(f"import sys, time; ran = 1\n{code}\ntime.sleep(1000)", **options)
    assert box.run_code("ran", timeout=30).text == "1"


def test_functions_may_be_coroutines(home: object) -> None:
    seen: list[Any] = []

    async def heard(value: Any) -> None:
        await asyncio.sleep(0)
        seen.append(getattr(value, "text", value))

    async def main() -> None:
        async with AsyncSandbox() as box:
            await box.run_code("print('out'); 42", on_stdout=heard, on_result=heard)

    asyncio.run(main())
    assert seen == ["out\n", "42"]


def test_a_stream_that_is_left_interrupts_the_cell(box: Sandbox) -> None:
    box.run_code("import time; count = 0")
    for event in box.run_code_stream("try:\n  print('begun', flush=True); time.sleep(1000)\nfinally:\n  count += 1"):
        assert (event.type, event.text) == ("stdout", "begun\n")
        break
    else:
        pytest.fail("nothing came")
    # An async generator that is left is closed by its loop, a blocking one when nobody has it.
    assert box.run_code("count", timeout=30).text == "1"


def test_a_stream_begins_when_it_is_asked(box: Sandbox) -> None:
    events = box.run_code_stream("ran = 1; 5")
    assert box.run_code("'ran' in globals()").text == "False"
    told = [(event.type, event.result and event.result.text, event.execution_count) for event in events]
    assert told == [("result", "5", None), ("execution_complete", None, 2)]


def test_a_cell_is_interrupted_by_another_caller(box: Sandbox) -> None:
    context = box.create_code_context()
    seen: list[Any] = []

    def interrupt(_: str) -> None:
        thread.start()

    def from_elsewhere() -> None:
        seen.append(Sandbox(box.id).interrupt(context.id))

    thread = threading.Thread(target=from_elsewhere)
    execution = box.run_code(
        "kept = 1\nprint('up', flush=True)\nimport time; time.sleep(1000)", context=context, on_stdout=interrupt
    )
    thread.join(20)
    assert seen == [True]
    assert execution.error is not None and execution.error.name == "KeyboardInterrupt"
    assert box.run_code("kept", context=context).text == "1"


def test_a_timeout_raises_with_what_there_was_and_keeps_the_variables(box: Sandbox) -> None:
    code = "import time, sys\nprint('out'); print('err', file=sys.stderr); display(42); kept = 1\ntime.sleep(1000)"
    context = box.create_code_context(timeout=0.5)
    ways: list[dict[str, Any]] = [{"context": context}, {"context": context.id, "timeout": 0.5}, {"timeout": 0.5}]
    for options in ways:
        with pytest.raises(ExecutionTimeoutError, match=r"longer than 0\.5 s") as caught:
            box.run_code(code, **options)
        error = caught.value
        assert (error.stdout, error.stderr, [result.text for result in error.results]) == ("out\n", "err\n", ["42"])
        assert box.run_code("kept", context=options.get("context")).text == "1"
        with pytest.raises(ExecutionTimeoutError):
            list(box.run_code_stream("time.sleep(1000)", **options))
    assert box.run_code("time.sleep(0.6); 1", context=context, timeout=30).text == "1"


def test_a_context_whose_process_ends_says_so_until_it_is_restarted(box: Sandbox) -> None:
    context = box.create_code_context()
    with pytest.raises(ContextEndedError, match="restart it") as caught:
        box.run_code("import os; print('last', flush=True); display(42); os._exit(3)", context=context)
    assert (caught.value.stdout, [result.text for result in caught.value.results]) == ("last\n", ["42"])
    for call in (lambda: box.run_code("1", context=context), lambda: list(box.run_code_stream("1", context=context))):
        with pytest.raises(ContextEndedError, match=context.id):
            call()
    with pytest.raises(ContextEndedError):
        context.fork()
    context.refresh()
    states: list[str] = [context.status]
    context.restart()
    assert [*states, context.status] == ["ended", "idle"]
    assert box.run_code("1", context=context).text == "1"


def test_check_raises_what_the_cell_raised(box: Sandbox) -> None:
    with pytest.raises(CodeExecutionError, match=r"the cell raised ValueError: no \(line 2\)") as caught:
        box.run_code("print('before')\nraise ValueError('no')", check=True)
    assert caught.value.execution.logs.stdout == ["before\n"]
    assert box.run_code("1", check=True).text == "1"


def test_variables_for_one_cell(box: Sandbox) -> None:
    code = "import os; os.environ.get('ONE')"
    assert box.run_code(code, env_vars={"ONE": "é"}).text == "'é'"
    assert box.run_code(code).text is None


def test_a_copy_goes_its_own_way(box: Sandbox) -> None:
    context = box.create_code_context(cwd="/tmp", timeout=45)
    box.run_code(
        "import threading as t; x = 1\nstop = t.Event(); thread = t.Thread(target=stop.wait); thread.start()",
        context=context,
    )
    copy = context.fork()
    assert (copy.language, copy.cwd, copy.timeout, copy.execution_count) == ("python", "/tmp", 45, 1)
    assert copy.id != context.id and context.lost == []
    assert any("thread" in each for each in copy.lost), copy.lost
    box.run_code("x = 2", context=copy)
    assert (box.run_code("x", context=context).text, box.run_code("x", context=copy).text) == ("1", "2")
    box.run_code("stop.set(); thread.join()", context=context)
    with context.fork() as second:
        assert second.lost == []
    assert {each.id for each in box.list_code_contexts()} == {context.id, copy.id}


def test_rich_results(box: Sandbox) -> None:
    execution = box.run_code(
        "from IPython.display import HTML, display, clear_output\n"
        "handle = display({'text/plain': 'old', 'x/y': 1}, raw=True, display_id='d')\n"
        "display(HTML('<b>é</b>'))\n"
        "display({'text/plain': 'new'}, raw=True, display_id='d', update=True)\n"
        "{'a': [1, None, 2.5]}"
    )
    first, second, third = execution.results
    assert (first.text, first.display_id) == ("new", "d")
    assert second.html == "<b>é</b>" and "html" in second.formats()
    assert third.json == {"a": [1, None, 2.5]} and third.main and execution.text == third.text
    execution = box.run_code("print('gone'); display(1); clear_output(wait=True); print('there')")
    assert (execution.logs.stdout, execution.results) == (["there\n"], [])


def test_a_representation_that_none_can_have_is_left_out(box: Sandbox) -> None:
    code = "display({'text/plain': 'x', 'application/vnd.sandcove.chart+json': [1], 'text/html': 5}, raw=True)"
    [result] = box.run_code(code).results
    assert result.formats() == ["text"]


def test_a_picture_is_bytes(box: Sandbox) -> None:
    [picture] = box.run_code("import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()").results
    assert picture.png is not None and picture.png.startswith(b"\x89PNG\r\n\x1a\n") and picture.png[-8:-4] == b"IEND"


def test_text_comes_whole_however_much_it_is(box: Sandbox) -> None:
    execution = box.run_code("for _ in range(1000): print('ä€😀' * 1000)")
    assert "".join(execution.logs.stdout) == ("ä€😀" * 1000 + "\n") * 1000
    assert not execution.truncated
    pieces: list[int] = []
    execution = box.run_code("print('x' * 40_000_000)", on_stdout=lambda text: pieces.append(len(text)))
    assert sum(pieces) == 40_000_001
    assert execution.truncated and sum(map(len, execution.logs.stdout)) == 32 * 1024 * 1024


def test_a_result_of_10_mb_comes_whole(box: Sandbox) -> None:
    [result] = box.run_code("display({'text/plain': 'é' * 1_700_000}, raw=True)").results
    assert result.text == "é" * 1_700_000


def test_what_can_t_be_is_told(box: Sandbox) -> None:
    with pytest.raises(PathNotFoundError, match="/no/such"):
        box.create_code_context(cwd="/no/such")
    context = box.create_code_context()
    with pytest.raises(InvalidRequestError, match=f"context {context.id} runs python, not javascript"):
        box.run_code("1", context=context, language="javascript")
    with pytest.raises(ContextNotFoundError, match="Context nobody not found"):
        box.run_code("1", context="nobody")


def test_a_context_of_another_sandbox_is_refused(make_sandbox: MakeSandbox) -> None:
    one, other = make_sandbox(), make_sandbox()
    one.run_code("x = 1")
    other.run_code("x = 2")
    [context] = one.list_code_contexts()
    for call in (lambda: other.run_code("x", context=context), lambda: other.restart(context)):
        with pytest.raises(
            InvalidRequestError, match=f"context default-python is of sandbox {one.id}, not of {other.id}"
        ):
            call()
    assert one.run_code("x", context=context).text == "1"


def test_contexts_are_gone_when_the_sandbox_has_slept(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox("sleeps-with-contexts")
    context = box.create_code_context()
    box.run_code("kept = 1")
    box.sleep()
    with pytest.raises(ContextNotFoundError):
        box.run_code("1", context=context)
    assert box.run_code("'kept' in globals()").text == "False"


def test_a_context_keeps_its_anonymous_sandbox(home: Path) -> None:
    def make() -> Any:
        return Sandbox().create_code_context()

    context = make()
    context.refresh()
    context._sandbox.close()
    with pytest.raises(Exception, match=r"destroyed|no sandbox|not found"):
        context.refresh()


def test_ctrl_c_interrupts_the_cell(home: object) -> None:
    with Sandbox() as box:
        box.run_code("import os, time; os.mkfifo('/tmp/up')")

        def interrupt() -> None:
            Sandbox(box.id).exec("cat /tmp/up")
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        for run in (box.run_code, lambda code: list(box.run_code_stream(code))):
            thread = threading.Thread(target=interrupt)
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                run("kept = 1; open('/tmp/up', 'w').close(); time.sleep(1000)")
            thread.join(20)
            assert box.run_code("kept", timeout=30).text == "1"


def test_cancelling_a_task_interrupts_its_cell(home: object) -> None:
    async def main() -> None:
        async with AsyncSandbox() as box:
            await box.run_code("import os, time; os.mkfifo('/tmp/up')")
            task = asyncio.ensure_future(box.run_code("kept = 1; open('/tmp/up', 'w').close(); time.sleep(1000)"))
            await box.exec("cat /tmp/up")
            waiting = asyncio.ensure_future(box.run_code("waited = 1"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await asyncio.shield(waiting)
            waiting.cancel()
            task.cancel()
            for each in (task, waiting):
                with pytest.raises(asyncio.CancelledError):
                    await each
            assert (await box.run_code("kept, 'waited' in globals()", timeout=30)).text == "(1, False)"

    asyncio.run(main())


def test_cells_of_several_contexts_run_side_by_side(home: object) -> None:
    async def main() -> None:
        async with AsyncSandbox() as box:
            await box.exec("mkfifo /tmp/there /tmp/back")
            first, second = [await box.create_code_context() for _ in range(2)]
            # Each waits for the other.
            one = box.run_code("open('/tmp/there', 'w').write('1'); open('/tmp/back').read()", context=first)
            two = box.run_code("x = open('/tmp/there').read(); open('/tmp/back', 'w').write('2'); x", context=second)
            answers = await asyncio.wait_for(asyncio.gather(one, two), 60)
            assert [execution.text for execution in answers] == ["'2'", "'1'"]

    asyncio.run(main())
