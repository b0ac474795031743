"""The published npm client: code contexts, by its ``InterpreterClient`` and by the package's ``CodeInterpreter`` on it.

What its own code limits:
- it sends neither the timeout nor the environment of a cell, whatever its types say;
- of a result it passes on the seed's representations; ours are in the lines that ``runCodeStream`` gives;
- its ``CodeInterpreter`` keeps no execution count.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sandcove import Sandbox
from tests.e2e.npm.client import ClientError, NpmClient


@pytest.fixture
def context(npm: NpmClient) -> str:
    """The id of a Python context."""
    return npm.createCodeContext({"language": "python"})["id"]  # type: ignore[no-any-return]


def heard(npm: NpmClient, callback: str) -> list[Any]:
    """What the last call gave to a callback."""
    # The client swallows what fails in its own reading of a line, and says so on its console.
    assert "Error parsing execution result" not in npm.console
    return [value for name, value in npm.callbacks if name == callback]


def printed(npm: NpmClient, callback: str) -> str:
    return "".join(output["text"] for output in heard(npm, callback))


def test_a_context_is_created_listed_and_deleted(npm: NpmClient) -> None:
    made = npm.createCodeContext({"language": "python", "cwd": "/tmp", "envVars": {"GREETING": "hällo"}})
    assert (made["language"], made["cwd"]) == ("python", "/tmp")
    for moment in (made["createdAt"], made["lastUsed"]):
        assert abs(datetime.now(UTC) - datetime.fromisoformat(moment)) < timedelta(minutes=1)
    npm.runCodeStream.cell(made["id"], "import os; print(os.getcwd(), os.environ['GREETING'])", None)
    assert printed(npm, "onStdout") == "/tmp hällo\n"
    listed = {entry["id"]: entry for entry in npm.listCodeContexts()}
    assert listed[made["id"]].keys() == made.keys()
    assert listed[made["id"]]["cwd"] == "/tmp"
    npm.deleteCodeContext(made["id"])
    assert made["id"] not in {entry["id"] for entry in npm.listCodeContexts()}


def test_a_context_is_of_python_unless_it_says_else(npm: NpmClient) -> None:
    made = npm.createCodeContext()
    assert (made["language"], made["cwd"]) == ("python", "/workspace")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"language": "ruby"}, "ruby"), ({"cwd": "/no/such"}, "/no/such"), ({"envVars": {"1": "x"}}, "'1'")],
)
def test_a_context_that_can_t_be_is_an_error_with_the_reason(
    npm: NpmClient, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ClientError, match=words):
        npm.createCodeContext(options)


def test_what_a_cell_gives_is_told_to_the_callbacks(npm: NpmClient, context: str) -> None:
    npm.runCodeStream.cell(context, "import sys; print('ä€😀'); print('err', file=sys.stderr); {'a': [1, 2]}", "python")
    assert printed(npm, "onStdout") == "ä€😀\n"
    assert printed(npm, "onStderr") == "err\n"
    assert {type(output["timestamp"]) for output in heard(npm, "onStdout")} == {int}
    [result] = heard(npm, "onResult")
    assert (result["text"], result["json"]) == ("{'a': [1, 2]}", {"a": [1, 2]})
    assert result["formats"] == ["text", "json"]
    assert heard(npm, "onError") == []


def test_a_context_keeps_its_variables_to_itself(npm: NpmClient, context: str) -> None:
    other = npm.createCodeContext()["id"]
    npm.runCodeStream.cell(context, "kept = 41", None)
    npm.runCodeStream.cell(context, "kept + 1", None)
    assert [result["text"] for result in heard(npm, "onResult")] == ["42"]
    npm.runCodeStream.cell(other, "kept", None)
    assert [error["name"] for error in heard(npm, "onError")] == ["NameError"]


def test_an_error_of_a_cell_is_told_with_its_line(npm: NpmClient, context: str) -> None:
    npm.runCodeStream.cell(context, "x = 1\nx / 0", None)
    [error] = heard(npm, "onError")
    assert (error["name"], error["value"], error["lineNumber"]) == ("ZeroDivisionError", "division by zero", 2)
    assert any("ZeroDivisionError" in line for line in error["traceback"])
    npm.runCodeStream.cell(context, "x = ", None)
    assert [error["name"] for error in heard(npm, "onError")] == ["SyntaxError"]


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("javascript", "console.log('ä€😀'); ({ a: [1, 2] })"),
        ("typescript", "enum E { A }; console.log('ä€😀'); ({ a: [1, 2] })"),
    ],
)
def test_other_languages(npm: NpmClient, language: str, code: str) -> None:
    made = npm.createCodeContext({"language": language})
    assert made["language"] == language
    npm.runCodeStream.cell(made["id"], code, language)
    assert heard(npm, "onError") == []
    assert printed(npm, "onStdout") == "ä€😀\n"
    assert [result["json"] for result in heard(npm, "onResult")] == [{"a": [1, 2]}]
    npm.runCodeStream.cell(made["id"], "let x = 1;\nmissing", language)
    assert [(error["name"], error["lineNumber"]) for error in heard(npm, "onError")] == [("ReferenceError", 2)]


def test_a_cell_without_a_context_runs_in_the_language_s_own(npm: NpmClient) -> None:
    npm.runCodeStream.cell(None, "shared = 1", None)
    npm.runCodeStream.cell(None, "shared", "python")
    assert [result["text"] for result in heard(npm, "onResult")] == ["1"]
    npm.runCodeStream.cell(None, "typeof shared === 'undefined'", "javascript")
    assert [result["text"] for result in heard(npm, "onResult")] == ["true"]


def test_an_unknown_context_is_an_error_that_names_it(npm: NpmClient) -> None:
    calls: list[Callable[[], object]] = [
        lambda: npm.runCodeStream.cell("nobody", "1", None),
        lambda: npm.deleteCodeContext("nobody"),
        lambda: npm.interpreter.deleteCodeContext("nobody"),
    ]
    for call in calls:
        with pytest.raises(ClientError, match=r"^Context nobody not found$") as caught:
            call()
        assert caught.value.name == "ContextNotFoundError"


def test_output_that_is_not_ascii_comes_whole_wherever_the_network_cuts_it(npm: NpmClient, context: str) -> None:
    npm.runCodeStream.cell(context, "for _ in range(2000): print('ä€😀' * 50)", None)
    assert printed(npm, "onStdout") == ("ä€😀" * 50 + "\n") * 2000


def test_output_comes_while_the_cell_runs_and_leaving_interrupts_it(npm: NpmClient, context: str) -> None:
    waits = "import time\ntry:\n    print('begun')\n    time.sleep(1000)\nfinally:\n    ended = True"
    events = npm.interpreter.runCodeStream.lines(waits, {"context": {"id": context}}, until="begun")
    assert [event["type"] for event in events] == ["stdout"]
    npm.runCodeStream.cell(context, "ended", None)
    assert [result["text"] for result in heard(npm, "onResult")] == ["True"]


def test_a_stream_of_lines_has_all_that_the_wire_has(npm: NpmClient, context: str) -> None:
    events = npm.interpreter.runCodeStream.lines("print('ä'); 42", {"context": {"id": context}})
    assert events == [
        {"type": "stdout", "text": "ä\n"},
        {"type": "result", "text": "42", "main": True},
        {"type": "execution_complete", "execution_count": 1},
    ]
    with pytest.raises(ClientError, match="Context nobody not found"):
        npm.interpreter.runCodeStream.lines("1", {"context": {"id": "nobody"}})


def test_the_interpreter_s_own_execution(npm: NpmClient) -> None:
    made = npm.interpreter.createCodeContext({"language": "python"})
    code = "print('out'); 6 * 7"
    execution = npm.interpreter.runCode.cell(code, {"context": made})
    assert (execution["code"], execution["logs"]) == (code, {"stdout": ["out\n"], "stderr": []})
    assert [result["text"] for result in execution["results"]] == ["42"]
    assert printed(npm, "onStdout") == "out\n"
    failed = npm.interpreter.runCode("1 / 0", {"context": made})
    assert failed["error"]["name"] == "ZeroDivisionError"
    # Without a context it looks for one of the language among those that it has seen, else it makes one.
    npm.interpreter.runCode("kept = 1", {"context": made})
    [result] = npm.interpreter.runCode("typeof kept === 'undefined'", {"language": "javascript"})["results"]
    assert result["text"] == "true"
    assert made["id"] in {entry["id"] for entry in npm.interpreter.listCodeContexts()}
    npm.interpreter.deleteCodeContext(made["id"])
    assert made["id"] not in {entry["id"] for entry in npm.interpreter.listCodeContexts()}


def test_a_picture_and_its_chart(npm: NpmClient) -> None:
    pytest.importorskip("matplotlib")
    code = "import matplotlib.pyplot as plt\nplt.bar(['a', 'b'], [1, 2]); plt.title('Bars'); plt.show()"
    execution = npm.interpreter.runCode(code, {"context": npm.createCodeContext()})
    [result] = execution["results"]
    assert base64.b64decode(result["png"]).startswith(b"\x89PNG")
    assert (result["chart"]["type"], result["chart"]["title"]) == ("bar", "Bars")
    assert result["chart"]["library"] == "matplotlib"


@pytest.mark.slow
def test_a_cell_that_is_silent_for_long_keeps_its_stream(npm: NpmClient, context: str) -> None:
    npm.runCodeStream.cell(context, "import time; time.sleep(16); print('late')", None)
    assert printed(npm, "onStdout") == "late\n"


def test_the_python_sdk_and_the_npm_client_see_one_context(npm: NpmClient, box: Sandbox, context: str) -> None:
    npm.runCodeStream.cell(context, "from_npm = 1", None)
    assert box.run_code("from_npm", context=context).text == "1"
    made = box.create_code_context(timeout=30)
    box.run_code("from_python = 2", context=made)
    npm.runCodeStream.cell(made.id, "from_python", None)
    assert [result["text"] for result in heard(npm, "onResult")] == ["2"]
