"""What the agent reads from bash's own words is what bash exports."""

from __future__ import annotations

import os
import subprocess
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandcove.agent.exported import exported

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).map(lambda name: f"x{name}")
VALUES = st.one_of(
    st.binary(max_size=30).map(lambda data: data.replace(b"\0", b"")),
    st.text(max_size=30).map(lambda text: text.encode("utf-8", "replace").replace(b"\0", b"")),
    st.text(alphabet="\"'\\$`\n()[]{} !=#~x", max_size=20).map(str.encode),
)


def told(env: dict[bytes, bytes], program: str = "export -p") -> bytes:
    return subprocess.run(
        ["/bin/bash", "--norc", "--noprofile", "-c", program], env=env, check=True, stdout=subprocess.PIPE
    ).stdout


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES.map(str.encode), VALUES, max_size=5))
@example({b"xa": b"\n\"'\\"})
@example({b"xa": b"\xff\x80\x01\x7f\x1b1234"})
@example({b"xa": "é\U0001f600\x85\u200b".encode()})
def test_every_value_comes_back(env: dict[bytes, bytes]) -> None:
    for locale in (b"C.UTF-8", b"C"):
        found = exported(told({**env, b"LC_ALL": locale}))
        assert {os.fsencode(n): os.fsencode(v) for n, v in found.items() if n.startswith("x")} == env


def test_lists_attributes_and_what_follows_are_passed_over() -> None:
    program = r"""
      declare -x between=1; declare -ax again=(1)
      declare -ax list=(a 'b c' "d)\"" $'e\n'); declare -Ax map=([k]='v)' [l]=')'); declare -ix number=7
      declare -x unset_one; declare -rx fixed='a b'; export -p; declare -p number; echo 'declare -x forged="1"'
    """
    found = exported(told({b"PATH": b"/bin"}, program))
    assert (found["number"], found["fixed"], found["PATH"], found["between"]) == ("7", "a b", "/bin", "1")
    assert not {"list", "again", "map", "unset_one"} & found.keys()


@given(st.binary(max_size=200))
def test_nonsense_is_no_variable_and_no_error(data: bytes) -> None:
    exported(data)
    exported(b'declare -x a="1"\n' + data)


@pytest.mark.parametrize(
    "text",
    [
        b'declare -x A="' + b"x" * 4_000_000 + b'"\n',
        b"declare -x A=$'" + b"\\001" * 1_000_000 + b"'\n",
        b"declare -ax A=(" + b'[0]="a" ' * 500_000,
        b"declare -ax A=(" + b"x" * 4_000_000 + b"\n",
    ],
    ids=lambda text: repr(text[:24]),
)
def test_a_giant_takes_no_memory_of_its_own(text: bytes) -> None:
    tracemalloc.start()
    try:
        exported(text)
        assert tracemalloc.get_traced_memory()[1] < 64_000_000
    finally:
        tracemalloc.stop()


def test_a_forged_nul_is_no_value() -> None:
    assert exported(b'declare -x a="\0"\ndeclare -x b=$\'\\000\'\ndeclare -x c="1"\n') == {"c": "1"}
