"""What `import sandcove` costs a script."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

from bench.harness import Options, Row, alternate

QUESTION = "import, a fresh process each"


def _importing(module: str) -> Callable[[], float]:
    program = f"import time; b = time.perf_counter(); import {module}; print((time.perf_counter() - b) * 1e3)"
    line = [sys.executable, "-c", program]
    return lambda: float(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


def ask(options: Options) -> Iterator[Row]:
    found = alternate(
        {"ours": _importing("sandcove"), "peer": _importing("urllib.request")}, times=options.times(30, 3), warm_up=1
    )
    yield Row(f"{QUESTION}: sandcove", "ms", found["ours"], "urllib.request", found["peer"], most=100)
