"""The public names: what they are, that they are documented, and that both halves of the SDK have the same."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sandcove
from sandcove.cli.main import parser
from sandcove.errors import error_tree

ROOT = Path(__file__).resolve().parents[2]
ASYNC_NAMES = {"aclose": "close", "__aenter__": "__enter__", "__aexit__": "__exit__"}
HALVES = [
    (sandcove.AsyncSandbox, sandcove.Sandbox),
    (sandcove.AsyncSession, sandcove.Session),
    (sandcove.AsyncProcess, sandcove.Process),
    (sandcove.AsyncCodeContext, sandcove.CodeContext),
    (sandcove.AsyncFetchResponse, sandcove.FetchResponse),
]
NO_COROUTINES = {"__init__", "exec_stream", "run_code_stream", "stream", "stream_process_logs"}
"""What gives a generator does nothing before that is asked."""
NOT_OF_A_SESSION = (
    {"id", "close", "ping", "info", "sleep", "wake", "destroy", "set_time_to_live", "create_token"}
    | {"set_egress", "get_egress_log", "set_limits", "get_usage", "set_secrets", "get_secrets"}
    | {f"{verb}_session{s}" for verb, s in (("create", ""), ("get", ""), ("list", "s"), ("delete", ""))}
)


def public(cls: type) -> dict[str, Any]:
    return {
        name: inspect.getattr_static(cls, name)
        for name in dir(cls)
        if not name.startswith("_") or name in ("__init__", "__enter__", "__exit__", "__aenter__", "__aexit__")
    }


def blocking(text: str) -> str:
    """An annotation of the asyncio half as the blocking half has it."""
    text = re.sub(r"AsyncGenerator\[(.*), None\]", r"Generator[\1, None, None]", text)
    return text.replace("Async", "")


def signature(function: Any) -> list[tuple[str, Any, Any, str]]:
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default, blocking(str(p.annotation))) for p in parameters]


def test_every_name_is_there_and_sorted() -> None:
    assert sandcove.__all__ == sorted(sandcove.__all__)
    for name in sandcove.__all__:
        assert getattr(sandcove, name) is not None
    assert set(sandcove.__all__) <= set(dir(sandcove))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = sandcove.Nothing


def test_every_error_is_public() -> None:
    assert {error.__name__ for error in error_tree()} <= set(sandcove.__all__)


@pytest.mark.parametrize(("asynchronous", "sync"), HALVES)
def test_both_halves_have_the_same_methods(asynchronous: type, sync: type) -> None:
    of_async = {ASYNC_NAMES.get(name, name): member for name, member in public(asynchronous).items()}
    of_sync = public(sync)
    assert of_async.keys() == of_sync.keys()
    for name, member in of_async.items():
        if inspect.isfunction(member):
            assert signature(member) == signature(of_sync[name]), name
            assert not inspect.iscoroutinefunction(of_sync[name])
            assert inspect.iscoroutinefunction(member) or name in NO_COROUTINES, name
    for maker, sync_maker in (
        (sandcove.get_async_sandbox, sandcove.get_sandbox),
        (sandcove.async_list_sandboxes, sandcove.list_sandboxes),
    ):
        assert signature(maker) == signature(sync_maker)


@pytest.mark.parametrize(("sandbox", "session"), [(half[i], other[i]) for half, other in [HALVES[:2]] for i in (0, 1)])
def test_a_session_has_every_method_of_a_sandbox_but_those_for_sessions_and_life(sandbox: type, session: type) -> None:
    missing = {ASYNC_NAMES.get(n, n) for n in public(sandbox)} - {ASYNC_NAMES.get(n, n) for n in public(session)}
    assert missing == NOT_OF_A_SESSION | {"__enter__", "__exit__"}


def test_every_public_name_has_a_docstring() -> None:
    for name in sandcove.__all__:
        value = getattr(sandcove, name)
        if inspect.isfunction(value):
            assert value.__doc__, name
        if not inspect.isclass(value):
            continue
        assert value.__doc__, name
        for member_name, member in public(value).items():
            if inspect.isfunction(member) and not member_name.startswith("_"):
                assert member.__doc__, f"{name}.{member_name}"


def test_every_public_name_is_in_the_documentation() -> None:
    text = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    errors = {error.__name__ for error in error_tree()}
    names = [name for name in sandcove.__all__ if name not in errors and name != "__version__"]
    names += [
        name
        for cls in (sandcove.Sandbox, sandcove.Session, sandcove.Process, sandcove.CodeContext)
        for name in public(cls)
        if not name.startswith("_")
    ]
    assert not [name for name in names if not re.search(rf"`[^`\n]*\b{name}\b", text)]


def test_every_command_and_option_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    actions = parser()._subparsers._group_actions[0]  # type: ignore[union-attr]
    commands: dict[str, Any] = dict(actions.choices or {})
    assert commands
    for name, command in commands.items():
        section = re.search(rf"^## `sandcove {name}\b.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section, f"docs/cli.md has no section for {name}"
        for action in command._actions:
            for option in action.option_strings:
                if option not in ("-h", "--help"):
                    assert f"`{option}" in section[0], f"{name} {option}"


def test_the_blocking_half_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "unasync.py", "--check"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
