"""Kernels for the tests of this folder: plain programs, no sandbox around them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kernels.driver import Driver
from tests.kernels.pythons import Cold, Warm, Zygote

MakePython = Callable[..., Driver]


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """A process that has imported all, from which kernels are forked."""
    with Zygote() as made:
        yield made


@pytest.fixture
def make_python(zygote: Zygote, tmp_path: Path) -> Iterator[MakePython]:
    """Makes warm Python kernels, which are ended with the test."""
    with ExitStack() as stack:

        def make(**options: object) -> Driver:
            return stack.enter_context(Warm(zygote, **{"cwd": tmp_path, **options}))  # type: ignore[arg-type]

        yield make


@pytest.fixture
def python(make_python: MakePython) -> Driver:
    """A warm Python kernel."""
    return make_python()


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that has its standard library and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    base = Path(sys.base_prefix) / "bin" / "python3"
    subprocess.run([str(base), "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin" / "python")


@pytest.fixture(params=["ipython", "plain"])
def any_python(
    request: pytest.FixtureRequest, make_python: MakePython, bare_python: str, tmp_path: Path
) -> Iterator[Driver]:
    """A kernel with IPython, warm, and one without, cold: what both do alike."""
    if request.param == "ipython":
        yield make_python()
    else:
        with Cold(bare_python, cwd=tmp_path) as made:
            yield made
