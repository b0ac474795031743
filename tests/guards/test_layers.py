"""Imports point one way; see "One direction" in ARCHITECTURE.md."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import sandcove

SOURCE = Path(sandcove.__file__).parent

BASE = {"errors", "home", "linux", "seccomp", "trees", "waiting", "_version"}
"""Files at the top that every layer may use. They use nothing but each other."""

WEB = {"asgi", "calls"}
"""What the web applications share. It loads the web framework, so the client has nothing of it."""

MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(BASE, BASE),
    "wire": BASE,
    **dict.fromkeys(WEB, BASE | WEB | {"wire"}),
    "kernels": BASE | {"wire"},
    "agent": BASE | WEB | {"wire", "kernels"},
    "runtimes": BASE | {"wire"},
    "server": BASE | WEB | {"wire", "runtimes"},
    "client": BASE | {"wire"},
    "cli": BASE | {"wire", "client"},
    "__init__": BASE | {"client"},
}

EXCEPTIONS: dict[tuple[str, str], str] = {}
"""(file, what it imports besides) -> why."""


def imports(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports, wherever in it: ``sandcove.wire.models``."""
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "sandcove")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sandcove":
            assert node.module is not None
            if node.module == "sandcove":
                yield from (f"sandcove.{alias.name}" for alias in node.names)
            else:
                yield node.module


def layer(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


FILES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_imports_only_its_own_layer_and_those_below(file: Path) -> None:
    own = layer(file.parts)
    allowed = MAY_IMPORT[own] | {own}
    for module in imports(SOURCE / file):
        target = module.split(".")[1]
        assert target in allowed or (str(file), target) in EXCEPTIONS, f"{file} imports {module}"


def test_the_exceptions_are_needed() -> None:
    for file, target in EXCEPTIONS:
        assert any(module.split(".")[1] == target for module in imports(SOURCE / file)), (file, target)


KERNELS_BESIDES = {"traitlets"}
"""What kernels use of a library that another one brings: IPython is configured by it."""


def libraries(files: list[Path]) -> set[str]:
    """What the files import that is neither Python's own nor ours."""
    found = set()
    for file in files:
        for node in ast.walk(ast.parse((SOURCE / file).read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            found |= {name.split(".")[0] for name in names}
    return found - set(sys.stdlib_module_names) - {"sandcove"}


def test_what_is_imported_is_declared_and_explained_and_the_other_way_round() -> None:
    in_kernel = {"python", "charts"}
    kernels = [file for file in FILES if file.parts[0] == "kernels" and file.parts[1] in in_kernel]
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]

    def names(lines: list[str]) -> set[str]:
        return {re.split(r"[^a-z-]", line)[0] for line in lines}

    extras = project["optional-dependencies"]
    declared, extra = (
        names(project["dependencies"]) | names(extras["server"]) | names(extras["asgi"]) | names(extras["secrets"]),
        names(extras["interpreter"]),
    )
    assert {name.replace("-", "_") for name in declared} == libraries([file for file in FILES if file not in kernels])
    assert {name.casefold() for name in libraries(kernels)} - KERNELS_BESIDES <= extra
    explained = (root / "ARCHITECTURE.md").read_text()
    assert all(f"| {library} |" in explained for library in declared | extra)
