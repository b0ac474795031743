"""What a name may be: whatever is let through is safe where it goes (a DNS label, a path, the environment)."""

from __future__ import annotations

import os
import string
import subprocess
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandcove.errors import InvalidRequestError
from sandcove.wire.names import (
    MAX_COMMAND_BYTES,
    RESERVED_IDS,
    check_command,
    check_env,
    check_labels,
    check_path,
    check_sandbox_id,
    check_session_id,
)

T = TypeVar("T")

NEARLY_IDS = st.text(alphabet=string.ascii_lowercase + string.digits + "-", max_size=70)


def allowed(check: Callable[[T], object], value: T) -> bool:
    try:
        check(value)
    except InvalidRequestError as error:
        if len(error.message) > 400:
            raise AssertionError("the error repeats megabytes of what was wrong") from error
        return False
    return True


@given(st.text(max_size=80) | NEARLY_IDS)
@example("a\n")
@example("é")
@example("a" * 63)
@example("a" * 64)
def test_a_sandbox_id_is_a_dns_label_and_a_file_name(value: str) -> None:
    if allowed(check_sandbox_id, value):
        assert 1 <= len(value) <= 63
        assert set(value) <= set(string.ascii_lowercase + string.digits + "-")
        assert value[0] != "-" != value[-1]
        assert value not in RESERVED_IDS
    else:
        plain = set(value) <= set(string.ascii_lowercase + string.digits)
        assert not (plain and 1 <= len(value) <= 63 and value not in RESERVED_IDS)


@given(st.text(max_size=140) | st.text(alphabet="aZ9_.@:-", max_size=140))
@example("..")
@example("a/b")
@example("a\n")
def test_a_session_name_is_one_part_of_a_path(value: str) -> None:
    if allowed(check_session_id, value):
        assert os.path.basename(value) == value
        assert value not in ("", ".", "..")
        assert value.isascii() and value.isprintable() and not set(value) & set(" ?#%&=/\\")


@given(
    st.dictionaries(
        st.text(max_size=8) | st.from_regex(r"[A-Z_]{1,5}", fullmatch=True), st.text(max_size=20), max_size=4
    )
)
def test_an_environment_is_taken_by_the_kernel_unchanged(env: dict[str, str]) -> None:
    if not allowed(check_env, env):
        return
    for name in env:
        assert name.isascii() and name.isidentifier()
    for value in env.values():
        assert "\0" not in value


@pytest.mark.parametrize("size", [128 * 1024 - 3, 128 * 1024 - 2])
def test_the_limit_of_a_variable_is_the_kernels(size: int) -> None:
    env = {"A": "x" * size}
    if allowed(check_env, env):
        subprocess.run(["/bin/true"], env=env, check=True)
    else:
        with pytest.raises(OSError, match="too long"):
            subprocess.run(["/bin/true"], env=env, check=True)


@given(st.dictionaries(st.text(max_size=70), st.text(max_size=260), max_size=70))
def test_labels(labels: dict[str, str]) -> None:
    if allowed(check_labels, labels):
        assert len(labels) <= 64
        assert all(1 <= len(name) <= 63 and name.isascii() and "=" not in name for name in labels)
        assert all(len(value) <= 255 for value in labels.values())


@given(st.text(max_size=30))
def test_a_path(value: str) -> None:
    try:
        assert allowed(check_path, value) == (value != "" and "\0" not in value)
    except UnicodeEncodeError:
        assert any("\ud800" <= letter <= "\udfff" for letter in value)


@given(st.text(max_size=30) | st.lists(st.text(max_size=5), max_size=5))
def test_a_command(value: str | list[str]) -> None:
    ok = allowed(check_command, value)
    parts = [value] if isinstance(value, str) else value
    assert ok == (
        bool(parts) and bool(parts[0].strip() if isinstance(value, str) else parts[0]) and "\0" not in "".join(parts)
    )


def test_a_command_is_bounded_by_its_bytes() -> None:
    assert allowed(check_command, "é" * (MAX_COMMAND_BYTES // 2))
    assert not allowed(check_command, "é" * (MAX_COMMAND_BYTES // 2) + "x")
    assert not allowed(check_command, ["x"] * (MAX_COMMAND_BYTES + 1))
