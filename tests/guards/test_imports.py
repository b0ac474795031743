"""Importing the SDK is fast and light, in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ["asyncio", "rich", "starlette", "tarfile", "uvicorn", "uvloop", "subprocess", "ssl", "http.client", "email"]
OTHER_SIDE = ["sandcove.agent", "sandcove.kernels", "sandcove.runtimes", "sandcove.server"]

MEASURE = """\
import sys, time
start = time.perf_counter()
{code}
spent = time.perf_counter() - start
import json
print(json.dumps([spent, sorted(sys.modules)]))
"""


def fresh(code: str) -> tuple[float, set[str]]:
    """Seconds that `code` takes in a new interpreter, and what is imported after it."""
    line = [sys.executable, "-P", "-c", MEASURE.format(code=code)]
    spent, modules = json.loads(subprocess.run(line, check=True, capture_output=True, timeout=60).stdout)
    return spent, set(modules)


@pytest.mark.alone
def test_importing_sandcove_takes_under_100_ms() -> None:
    # The least of several: the machine has other things to do, which can only add.
    assert min(fresh("import sandcove")[0] for _ in range(7)) < 0.100


@pytest.mark.parametrize(
    "code",
    [
        "import sandcove",
        "import sandcove; sandcove.Sandbox('x')",
        "import sandcove.cli.main; sandcove.cli.main.parser()",
        "import sandcove.cli.run, sandcove.cli.sandboxes",
    ],
)
def test_heavy_modules_stay_out(code: str) -> None:
    _, modules = fresh(code)
    assert not modules & set(HEAVY)
    assert not [name for name in modules if name.startswith(tuple(OTHER_SIDE))]


def test_the_asyncio_half_is_loaded_when_it_is_used() -> None:
    _, modules = fresh("import sandcove; sandcove.AsyncSandbox")
    assert "asyncio" in modules
    assert not [name for name in modules if name.startswith(tuple(OTHER_SIDE))]


def test_the_whole_command_line_needs_nothing_of_the_server() -> None:
    _, modules = fresh("import sandcove.cli.cp, sandcove.cli.doctor, sandcove.cli.server, sandcove.client.launch")
    assert not modules & {"asyncio", "rich", "starlette", "uvicorn"}
    assert not [name for name in modules if name.startswith(tuple(OTHER_SIDE))]
