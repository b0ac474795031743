"""The layout of the source: small files, each with a docstring and a list of what is public."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

import sandcove

SOURCE = Path(sandcove.__file__).parent
ROOT = Path(__file__).parents[2]
FILES = sorted(SOURCE.rglob("*.py"))


def lines(path: Path) -> int:
    return len(path.read_bytes().splitlines())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_says_what_it_is_and_is_not_long(path: Path) -> None:
    assert lines(path) <= 500, "over 500 lines: split it by noun"
    assert ast.get_docstring(ast.parse(path.read_bytes())), "no docstring"


def test_the_median_file_is_short() -> None:
    assert statistics.median(lines(path) for path in FILES) < 200


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "misc"])
def test_no_file_is_named_after_nothing(name: str) -> None:
    assert not [path for path in FILES if path.stem == name or name in path.parts]


@pytest.mark.parametrize("word", ["Manager", "Service", "Handler", "Provider", "Factory"])
def test_no_class_is_called_by_a_word_that_says_nothing(word: str) -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ClassDef):
                assert not node.name.endswith(word), f"{path}: {node.name}"


def test_every_script_is_executable_and_stops_at_errors() -> None:
    scripts = [ROOT / "scripts" / name for name in ("setup", "demo", "test", "check", "bench")]
    for script in [*scripts, ROOT / ".ci" / "run"]:
        assert script.stat().st_mode & 0o111, f"{script} is not executable"
        assert "set -" in script.read_text(), f"{script} goes on after errors"
