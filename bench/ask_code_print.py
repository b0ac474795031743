"""A cell that prints a great deal, line by line."""

from __future__ import annotations

from collections.abc import Iterator

from bench import cells
from bench.harness import Options, Row, alternate, timed
from bench.jupyter import PEER, jupyter

QUESTION = "10 MB of printed lines"
SIZE = 10_000_000
LINE = "x" * 99
PRINT = f"for _ in range({SIZE // 100}): print({LINE!r})"


def ask(options: Options) -> Iterator[Row]:
    with cells.ours() as own, jupyter() as kernel:
        context = cells.create(own)

        def by_us() -> None:
            assert cells.run(own, context, PRINT).count(b"x") >= SIZE // 100 * 99

        def by_jupyter() -> None:
            assert kernel.run(PRINT) == SIZE

        found = alternate({"ours": timed(by_us), "jupyter": timed(by_jupyter)}, options.times(10, 1), warm_up=1)
        yield Row(QUESTION, "ms", found["ours"], PEER, found["jupyter"])
