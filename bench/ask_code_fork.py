"""A live copy of a context that holds 100 MB, against the only other way to a second one: to build it again."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bench import cells
from bench.harness import Options, Row, alternate, timed

QUESTION = "fork of a live context that holds a 100 MB array"
BUILD = "import numpy as np\nheld = np.arange(12_500_000, dtype=float)\nheld.nbytes"


def ask(options: Options) -> Iterator[Row]:
    with cells.ours() as own:
        context = cells.create(own)
        cells.run(own, context, BUILD)
        made: list[str] = []

        def copy() -> None:
            made.append(json.loads(own.call("POST", f"/api/contexts/{context}/fork"))["id"])

        def fork() -> float:
            took = timed(copy)()
            copied = made.pop()
            assert b"100000000" in cells.run(own, copied, "held.nbytes")
            cells.delete(own, copied)
            return took

        found = alternate({"ours": fork, "again": cells.first(own, "python", BUILD)}, options.times(40, 2))
        yield Row(QUESTION, "ms", found["ours"], "a new context that makes the array", found["again"], most=40)
