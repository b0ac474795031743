"""The kernels for Python run in any Python from 3.10 on, with nothing but its standard library."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sandcove.kernels

FOLDER = Path(sandcove.kernels.__file__).parent
FILES = sorted([*(FOLDER / "python").rglob("*.py"), *(FOLDER / "charts").rglob("*.py")])

OPTIONAL = {"python/shell.py": {"IPython", "traitlets"}}
"""What a file may import besides; it is itself imported where that is there."""

NEWER = {
    "Self",
    "assert_never",
    "ExceptionGroup",
    "BaseExceptionGroup",
    "StrEnum",
    "TaskGroup",
    "Runner",
    "batched",
    "add_note",
    "tomllib",
    "chdir",
    "timeout_at",
}
"""Names that the standard library has had only since 3.11."""


def imported(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """The modules that a file imports, and whether in a function."""
    inside = {id(child) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in inside
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", id(node) in inside


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_file_is_python_3_10_and_needs_only_the_standard_library(path: Path) -> None:
    tree = ast.parse(path.read_bytes(), feature_version=(3, 10))
    name = str(path.relative_to(FOLDER))
    for module, _ in imported(tree):
        top = module.split(".")[0]
        allowed = top in sys.stdlib_module_names or top in OPTIONAL.get(name, ())
        assert allowed or module.startswith(("sandcove.kernels.python", "sandcove.kernels.charts")), module
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not used & NEWER


LATE = {"python/main.py": {"sandcove.kernels.python.shell", "sandcove.kernels.python.warmup"}}
"""Of ours, what is imported in a function: all of it before any of the user's code."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_file_imports_ours_at_its_beginning(path: Path) -> None:
    """Before user code runs our modules are forgotten, so that the user's `sandcove` is what the sandbox has."""
    late = {m for m, inside in imported(ast.parse(path.read_bytes())) if inside and m.startswith("sandcove")}
    assert late == LATE.get(str(path.relative_to(FOLDER)), set())
