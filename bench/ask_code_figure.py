"""A cell that draws: from the code to the picture."""

from __future__ import annotations

from collections.abc import Iterator

from bench import cells
from bench.harness import Options, Row, alternate, timed
from bench.jupyter import PEER, jupyter

QUESTION = "a matplotlib figure as PNG"
IMPORT = "import matplotlib.pyplot as plt"
DRAW = """
figure, axes = plt.subplots()
axes.plot([1, 2, 3, 4], [1, 4, 9, 16], label="squares")
axes.set_title("Squares"); axes.set_xlabel("x"); axes.legend()
plt.show()
"""


def ask(options: Options) -> Iterator[Row]:
    with cells.with_seed() as (own, theirs), jupyter() as kernel:
        kernel.run(f"%matplotlib inline\n{IMPORT}")
        sides = {"ours": own} if theirs is None else {"ours": own, "seed": theirs}
        contexts = {name: cells.create(to) for name, to in sides.items()}
        for name, to in sides.items():
            cells.run(to, contexts[name], IMPORT)

        def by_us() -> None:
            assert b'"png"' in cells.run(own, contexts["ours"], DRAW)

        measurements = {"ours": timed(by_us), "jupyter": timed(lambda: kernel.run(DRAW))}
        if theirs is not None:
            measurements["seed"] = timed(lambda: cells.run(theirs, contexts["seed"], DRAW))
        found = alternate(measurements, options.times(30, 2))
        for name, peer in (("jupyter", PEER), ("seed", cells.SEED)):
            if name in found:
                yield Row(QUESTION, "ms", found["ours"], peer, found[name])
