"""From nothing to the first cell's result, the sandbox being there: what one waits for who opens a context."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench import cells
from bench.harness import Options, Row, alternate
from bench.jupyter import PEER, jupyter

QUESTION = "create a context and run its first cell"
DATA = """
import numpy as np, pandas as pd, matplotlib.pyplot as plt
frame = pd.DataFrame({"x": np.arange(5), "y": np.arange(5) ** 2})
float(frame["y"].sum())
"""
SCRIPTS = {
    "javascript": "[1, 2, 3].map(x => x * x)",
    # Declares nothing: the reference server hands processes on, and what contexts before have declared with them.
    "typescript": "[1, 2, 3].map((x: number): number => x * x)",
}


def by_jupyter() -> float:
    """Milliseconds from nothing to the result, without the kernel's end."""
    begin = time.perf_counter()
    with jupyter() as kernel:
        assert kernel.run(DATA)
        return (time.perf_counter() - begin) * 1e3


def ask(options: Options) -> Iterator[Row]:
    with cells.with_seed() as (own, theirs):
        measurements = {"ours": cells.first(own, "python", DATA), "jupyter": by_jupyter}
        if theirs is not None:
            measurements["seed"] = cells.first(theirs, "python", DATA)
        found = alternate(measurements, options.times(15, 2), warm_up=1)
        python = f"{QUESTION}: Python with numpy, pandas, matplotlib"
        yield Row(python, "ms", found["ours"], PEER, found["jupyter"], most_ratio=1 / 20, most=50)
        if theirs is not None:
            yield Row(python, "ms", found["ours"], cells.SEED, found["seed"])
        for language, code in SCRIPTS.items():
            measurements = {"ours": cells.first(own, language, code)}
            if theirs is not None:
                measurements["seed"] = cells.first(theirs, language, code)
            found = alternate(measurements, options.times(30, 2))
            question = f"{QUESTION}: {language}"
            if theirs is None:
                yield Row(question, "ms", found["ours"], most=60)
            else:
                yield Row(question, "ms", found["ours"], cells.SEED, found["seed"], most=60)
