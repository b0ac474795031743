"""What Python cells raise."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernels.driver import Driver


def error_of(python: Driver, code: str, **options: Any) -> dict[str, Any]:
    cell = python.run(code, **options)
    assert [kind for kind, _ in cell.events][-2:] == ["error", "done"], cell.events
    error = cell.error
    assert error is not None
    text = "\n".join(error["traceback"])
    assert "\x1b" not in text
    assert "sandcove" not in text
    assert all("\n" not in line for line in error["traceback"])
    assert python.run("1 + 1").result["text"] == "2"
    return error


@pytest.mark.parametrize(
    ("code", "name", "value", "line"),
    [
        ("x = 1\n1/0", "ZeroDivisionError", "division by zero", 2),
        ("def f():\n    return g()\ndef g():\n    raise ValueError('bad')\n\nf()", "ValueError", "bad", 4),
        ("import json\njson.loads('{')", "JSONDecodeError", None, 2),
        ("x = 1\ny = (", "SyntaxError", None, 2),
        ("if True:\nx = 1", "IndentationError", None, 2),
        ("x = 1\nreturn 5", "SyntaxError", None, 2),
        ("exec('1 +')", "SyntaxError", None, 1),
        ("import sys\nsys.exit('x')", "SystemExit", "x", 2),
        ("exit(3)", "SystemExit", "3", 1),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", "", 1),
        ("def f(): f()\nf()", "RecursionError", None, 1),
        ("assert 1 == 2, 'no'", "AssertionError", "no", 1),
        ("raise BaseException('base')", "BaseException", "base", 1),
        ("class E(Exception):\n    def __str__(self): raise OSError\nraise E", "E", "<str() of this E failed>", 3),
        ("class E(Exception):\n    def __str__(self): return 5\nraise E", "E", "<str() of this E failed>", 3),
        ("undefined", "NameError", "name 'undefined' is not defined", 1),
        ("import nowhere_at_all", "ModuleNotFoundError", "No module named 'nowhere_at_all'", 1),
        ("'\\ud800'.encode()", "UnicodeEncodeError", None, 1),
        ("raise ValueError('\\udc80')", "ValueError", "\\udc80", 1),
        ("raise ValueError('x' * 1_000_000)", "ValueError", None, 1),
        ("import asyncio\nasync def f():\n    1/0\nawait f()", "ZeroDivisionError", "division by zero", 3),
        ("for i in range(3):\n    pass\nelse:\n    [][1]", "IndexError", "list index out of range", 4),
    ],
)
def test_an_error_says_what_where_and_why(
    any_python: Driver, code: str, name: str, value: str | None, line: int
) -> None:
    error = error_of(any_python, code)
    assert error["ename"] == name
    assert value is None or error["evalue"] == value
    assert error["lineNumber"] == line
    assert name in error["traceback"][-1] or any(name in text for text in error["traceback"])
    assert sum(map(len, error["traceback"])) < 1_500_000


def test_what_was_shown_before_an_error_is_kept(any_python: Driver) -> None:
    cell = any_python.run("print('a')\ndisplay(1)\n1/0\nprint('b')")
    assert [kind for kind, _ in cell.events] == ["stdout", "result", "error", "done"]


def test_a_function_of_an_earlier_cell_is_named(any_python: Driver) -> None:
    any_python.run("\n\ndef f():\n    raise ValueError('deep')")
    error = error_of(any_python, "x = 1\nf()")
    assert error["lineNumber"] == 2
    text = "\n".join(error["traceback"])
    assert "line 4" in text
    assert "raise ValueError('deep')" in text


def test_causes_are_told(any_python: Driver) -> None:
    error = error_of(any_python, "try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise ValueError('second') from e")
    text = "\n".join(error["traceback"])
    assert "ZeroDivisionError" in text
    assert "direct cause" in text


def test_groups_of_errors_are_told(any_python: Driver) -> None:
    error = error_of(any_python, "raise ExceptionGroup('several', [ValueError('a'), TypeError('b')])")
    assert error["ename"] == "ExceptionGroup"
    text = "\n".join(error["traceback"])
    assert "ValueError: a" in text
    assert "TypeError: b" in text


def test_memory_that_is_not_there_is_an_error(any_python: Driver) -> None:
    any_python.run("import resource\nresource.setrlimit(resource.RLIMIT_AS, (2 << 30, resource.RLIM_INFINITY))")
    assert error_of(any_python, "x = bytearray(4 << 30)")["ename"] == "MemoryError"
    error = error_of(any_python, "x = []\nwhile True: x.append(bytearray(10 << 20))")
    assert error["ename"] == "MemoryError"
    assert error["lineNumber"] == 2


def test_an_unhandled_error_in_a_thread_is_printed(any_python: Driver) -> None:
    cell = any_python.run("import threading\nt = threading.Thread(target=lambda: 1/0)\nt.start()\nt.join()")
    assert "ZeroDivisionError" in cell.stderr
    assert cell.error is None
    assert any_python.run("import sys\nt = threading.Thread(target=sys.exit)\nt.start()\nt.join()").error is None


def test_an_exception_whose_text_never_comes_can_be_interrupted(any_python: Driver) -> None:
    code = "class E(Exception):\n    def __str__(self):\n        print('now')\n        while True: pass\nraise E"

    def on_event(kind: str, value: Any) -> None:
        if kind == "stdout":
            any_python.interrupt()

    cell = any_python.run(code, on_event=on_event, within=20)
    assert cell.error is not None
    assert cell.error["ename"] == "E"


def test_a_missing_magic_is_an_error(python: Driver) -> None:
    error = error_of(python, "x = 1\n%nothing_like_this")
    assert (error["ename"], error["lineNumber"]) == ("UsageError", 2)
    assert error["traceback"] == ["UsageError: Line magic function `%nothing_like_this` not found."]


def test_the_last_error_can_be_looked_at(python: Driver) -> None:
    python.run("def f(n):\n    return 1 / n\nf(0)")
    assert "ZeroDivisionError" in python.run("%tb").stderr
    assert python.run("%debug", within=20).all("done")


def test_os_exit_ends_the_kernel(any_python: Driver) -> None:
    with pytest.raises(EOFError):
        any_python.run("import os\nos._exit(1)")


def test_a_crash_ends_the_kernel_and_says_where(any_python: Driver) -> None:
    with pytest.raises(EOFError, match=r"(?s)Segmentation fault.*(cell|ipython-input)"):
        any_python.run("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
