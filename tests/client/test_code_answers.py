"""Cells against an agent that answers as a test wants: every way in which an answer can come, or fail; both halves."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from sandcove import (
    CodeExecutionError,
    ContainerNotReadyError,
    ContextEndedError,
    ContextNotFoundError,
    ExecutionTimeoutError,
    InterpreterNotReadyError,
    InvalidRequestError,
    SandboxNetworkError,
    ServiceUnavailableError,
)
from tests.client.conftest import Scripted
from tests.client.peers import answer, refusal

DONE = {"type": "execution_complete", "execution_count": 1}


def lines(*events: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def cut(body: bytes, size: int) -> bytes:
    """An answer whose body comes in chunks of so many bytes."""
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
    return b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n" + framed


OUT, ERR = {"type": "stdout", "text": "ä€😀\n"}, {"type": "stderr", "text": "e"}
RESULT = {"type": "result", "text": "42", "main": True}
RAISED = {"type": "error", "ename": "ValueError", "evalue": "no", "traceback": ["a", "b"], "lineNumber": 2}
TIMED_OUT = {"type": "error", "ename": "TimeoutError", "evalue": "too long", "code": "EXECUTION_TIMEOUT"}
ENDED = {"type": "error", "ename": "KernelDied", "evalue": "it died", "code": "CONTEXT_ENDED"}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 10_000])
def test_an_answer_is_the_same_however_it_is_cut(scripted: Scripted, size: int) -> None:
    box, _ = scripted(cut(b"\n" + lines(OUT, ERR) + b"\n\n" + lines(RESULT, OUT, DONE), size))
    execution = box.run_code("x")
    assert (execution.logs.stdout, execution.logs.stderr) == (["ä€😀\nä€😀\n"], ["e"])
    assert (execution.text, execution.execution_count, execution.code) == ("42", 1, "x")


def test_a_line_of_20_mb_comes_whole(scripted: Scripted) -> None:
    box, _ = scripted(cut(lines({"type": "result", "text": "x" * 20_000_000}, DONE), 1_000_003))
    [result] = box.run_code("x").results
    assert result.text == "x" * 20_000_000


def test_the_functions_are_called_with_what_comes_as_it_comes(scripted: Scripted) -> None:
    box, _ = scripted(answer(lines(OUT, ERR, RESULT, RAISED, DONE)))
    seen: list[Any] = []
    execution = box.run_code(
        "x",
        on_stdout=lambda text: seen.append(("out", text)),
        on_stderr=lambda text: seen.append(("err", text)),
        on_result=lambda result: seen.append(("result", result.text)),
        on_error=lambda error: seen.append(("error", error)),
    )
    assert seen == [("out", "ä€😀\n"), ("err", "e"), ("result", "42"), ("error", execution.error)]


def test_empty_output_is_passed_on_as_text(scripted: Scripted) -> None:
    box, _ = scripted(answer(lines({"type": "stdout", "text": ""}, DONE)))
    seen: list[Any] = []
    box.run_code("x", on_stdout=seen.append)
    assert seen == [""]


def test_a_stream_yields_the_events(scripted: Scripted) -> None:
    box, _ = scripted(cut(lines(OUT, RESULT, {"type": "clear_output", "wait": True}, RAISED, DONE), 5))
    events = list(box.run_code_stream("x"))
    assert [event.type for event in events] == ["stdout", "result", "clear_output", "error", "execution_complete"]
    assert (events[0].text, events[1].result.text, events[2].wait) == ("ä€😀\n", "42", True)
    assert (events[3].error.line_number, events[4].execution_count) == (2, 1)


@pytest.mark.parametrize("more", [[], [OUT], [DONE], [OUT, DONE]])
@pytest.mark.parametrize(
    ("failure", "kind"), [(TIMED_OUT, ExecutionTimeoutError), (ENDED, ContextEndedError)], ids=["timeout", "ended"]
)
def test_an_error_that_is_none_of_the_cell_s_own_is_raised_with_what_there_was(
    scripted: Scripted, failure: dict[str, Any], kind: Any, more: list[dict[str, Any]]
) -> None:
    body = lines(OUT, ERR, RESULT, failure, *more)
    box, _ = scripted(answer(body), answer(body))
    with pytest.raises(kind, match=failure["evalue"]) as caught:
        box.run_code("x", on_error=lambda error: pytest.fail("it is not the cell's"))
    error = caught.value
    assert (error.stdout, error.stderr) == ("ä€😀\n" * (1 + (OUT in more)), "e")
    assert [result.text for result in error.results] == ["42"]
    with pytest.raises(kind) as caught:
        list(box.run_code_stream("x"))
    assert (caught.value.stdout, caught.value.results) == ("", [])


def test_a_context_that_ended_before_is_told_by_the_same_class(scripted: Scripted) -> None:
    box, script = scripted(refusal(ContextEndedError("context c has lost its variables; restart it")))
    with pytest.raises(ContextEndedError, match="restart it") as caught:
        box.run_code("x", context="c")
    assert (caught.value.stdout, caught.value.stderr, caught.value.results) == ("", "", [])
    assert script.calls == ["POST /api/execute/code"]


def test_a_cell_that_raises_is_an_error_when_that_is_asked_for(scripted: Scripted) -> None:
    box, _ = scripted(answer(lines(OUT, RAISED, DONE)), answer(lines(DONE)))
    with pytest.raises(CodeExecutionError, match=r"the cell raised ValueError: no \(line 2\)") as caught:
        box.run_code("x", check=True)
    execution = caught.value.execution
    assert (execution.error.name, execution.logs.stdout) == ("ValueError", ["ä€😀\n"])
    assert box.run_code("x", check=True).success


@pytest.mark.parametrize("body", [b"", lines(OUT), lines(OUT)[:-5], lines(RAISED)])
def test_an_answer_that_ends_early_is_the_sandbox_s_end(scripted: Scripted, body: bytes) -> None:
    box, _ = scripted(answer(body))
    with pytest.raises(ContainerNotReadyError, match="ended during the call"):
        box.run_code("x")


@pytest.mark.parametrize(
    "line",
    [
        b"no json\n",
        b"[]\n",
        b'{"type":"unheard of"}\n',
        b'{"type":"result","text":5}\n',
        b'{"type":"stdout","text":"\xff"}\n',
        b'{"type":"stdout","text":"\\ud800"}\n',
        b'{"type":"result","json":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        b'{"type":"result","chart":[]}\n',
    ],
    ids=["text", "list", "type", "field", "bytes", "surrogate", "depth", "chart"],
)
def test_an_answer_that_is_none_is_an_error_of_ours(scripted: Scripted, line: bytes) -> None:
    box, _ = scripted(answer(line + lines(DONE)))
    with pytest.raises(SandboxNetworkError, match="not what this client understands"):
        box.run_code("x")


@pytest.mark.parametrize("refused", [InterpreterNotReadyError, ContainerNotReadyError, ServiceUnavailableError])
def test_a_cell_that_has_not_begun_is_sent_again_and_one_that_may_have_is_not(
    scripted: Scripted, refused: type[ServiceUnavailableError]
) -> None:
    again = refusal(refused("starting", begun=False, retryAfter=0.01))
    box, script = scripted(again, again, answer(lines(RESULT, DONE)))
    assert box.run_code("x").text == "42"
    assert script.calls == ["POST /api/execute/code"] * 3
    calls: list[Callable[[Any], object]] = [lambda box: box.run_code("x"), lambda box: box.create_code_context()]
    for call in calls:
        box, script = scripted(refusal(refused("starting", retryAfter=0.01)))
        with pytest.raises(refused):
            call(box)
        assert len(script.calls) == 1
    box, script = scripted(None)
    with pytest.raises(ContainerNotReadyError):
        box.run_code("x")
    assert len(script.calls) == 1


LISTING = {
    "contexts": [
        {
            "id": "c",
            "language": "python",
            "cwd": "/workspace",
            "status": "idle",
            "sessionId": "default",
            "pid": 7,
            "createdAt": "2025-01-01T00:00:00Z",
            "lastUsed": "2025-01-02T00:00:00Z",
            "executionCount": 3,
            "version": "Python 3",
            "unheardOf": 1,
        }
    ],
    "count": 1,
    "timestamp": "2025-01-01T00:00:00Z",
}


def test_lists_are_asked_for_again_after_a_failure(scripted: Scripted) -> None:
    listing = answer(json.dumps(LISTING).encode())
    box, script = scripted(None, listing, None, listing, answer(b'{"contexts":[],"count":0,"timestamp":""}'))
    [context] = box.list_code_contexts()
    assert (context.id, context.execution_count, context.notes, context.lost) == ("c", 3, [], [])
    assert context.last_used.isoformat() == "2025-01-02T00:00:00+00:00"
    context.refresh()
    with pytest.raises(ContextNotFoundError, match="Context c not found"):
        context.refresh()
    assert script.calls == ["GET /api/contexts"] * 5


@pytest.mark.parametrize("call", ["interrupt", "restart", "fork", "delete"])
def test_what_changes_a_context_is_done_once(scripted: Scripted, call: str) -> None:
    box, script = scripted(answer(json.dumps(LISTING).encode()), None)
    [context] = box.list_code_contexts()
    with pytest.raises(ContainerNotReadyError):
        getattr(context, call)()
    method, rest = ("DELETE", "") if call == "delete" else ("POST", f"/{call}")
    assert script.calls[1:] == [f"{method} /api/contexts/c{rest}"]


BAD: list[tuple[str, Any, str]] = [
    ("create_code_context", {"language": "ruby"}, "'python', 'javascript' or 'typescript', not 'ruby'"),
    ("create_code_context", {"language": None}, "not None"),
    ("create_code_context", {"cwd": 5}, "cwd is"),
    ("create_code_context", {"cwd": ""}, "path is empty"),
    ("create_code_context", {"env_vars": {"1": "x"}}, "environment variable name '1'"),
    ("create_code_context", {"env_vars": "A=b"}, "env_vars is a mapping"),
    ("create_code_context", {"timeout": 0}, "timeout is"),
    ("run_code", {"code": 5}, "code is a str, not int"),
    ("run_code", {"code": "\ud800"}, "code has a character that UTF-8 can't encode"),
    ("run_code", {"code": "x", "language": "Python"}, "language is"),
    ("run_code", {"code": "x", "context": 5}, "context is a code context or the id of one, not int"),
    ("run_code", {"code": "x", "context": "../x"}, "context id '../x'"),
    ("run_code", {"code": "x", "env_vars": {"A": 1}}, r"env_vars\['A'\] is a str"),
    ("run_code", {"code": "x", "timeout": "1"}, "timeout is a number of seconds"),
    ("run_code", {"code": "x", "check": 1}, "check is True or False"),
    ("run_code", {"code": "x", "on_result": 1}, "on_result is a function"),
    ("run_code_stream", {"code": b"x"}, "code is a str, not bytes"),
    ("delete_code_context", {"context": None}, "context is a code context"),
    ("delete_code_context", {"context": ""}, "context id ''"),
    ("interrupt", {"language": "ruby"}, "language is"),
    ("interrupt", {"context": "c", "language": "python"}, "not both"),
    ("restart", {"context": ".."}, r"context id '\.\.'"),
]


@pytest.mark.parametrize(("call", "given", "words"), BAD, ids=[f"{call}-{given}" for call, given, _ in BAD])
def test_a_wrong_argument_is_refused_before_anything_is_sent(
    scripted: Scripted, call: str, given: dict[str, Any], words: str
) -> None:
    box, script = scripted()
    with pytest.raises(InvalidRequestError, match=words):
        getattr(box, call)(**given)
    assert script.calls == []


def test_the_log_tells_of_each_cell_and_of_no_secret(scripted: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    secret = "s3cret-s3cret"
    raised = RAISED | {"ename": secret, "evalue": secret}
    box, _ = scripted(
        answer(lines({"type": "stdout", "text": secret}, DONE)),
        answer(lines(raised, DONE)),
        answer(lines(TIMED_OUT | {"evalue": secret}, DONE)),
    )
    with caplog.at_level(logging.DEBUG, "sandcove"):
        box.run_code(secret, env_vars={"A": secret})
        list(box.run_code_stream(secret, context="c"))
        with pytest.raises(ExecutionTimeoutError):
            box.run_code(secret, language="javascript")
    assert secret not in caplog.text
    told = [record.getMessage().rpartition(" after ")[0] or record.getMessage() for record in caplog.records]
    assert [line for line in told if line.startswith("context")] == [
        "context default-python: a cell ended",
        "context c: a cell raised",
        "context default-javascript: a cell failed (EXECUTION_TIMEOUT)",
    ]
