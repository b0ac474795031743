"""A cell that only computes, in a context that is there: each in a row of them, as a loop of an agent runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench import cells
from bench.harness import Options, Row, alternate, timed
from bench.jupyter import PEER, jupyter

ROW = 10
QUESTION = f"warm cell `1+1`, each of {ROW} in a row"
MOST = {"python": 1.0, "javascript": 0.6, "typescript": 1.0}
"""Milliseconds."""


def row(action: Callable[[], object]) -> Callable[[], float]:
    """Milliseconds of each of several in a row."""

    def several() -> None:
        for _ in range(ROW):
            action()

    measure = timed(several)
    return lambda: measure() / ROW


def ask(options: Options) -> Iterator[Row]:
    with cells.with_seed() as (own, theirs), jupyter() as kernel:
        for language, most in MOST.items():
            sides = {"ours": own} if theirs is None else {"ours": own, "seed": theirs}
            contexts = {name: cells.create(to, language) for name, to in sides.items()}
            measurements = {
                name: row(lambda to=to, context=contexts[name]: cells.run(to, context, "1+1"))  # type: ignore[misc]
                for name, to in sides.items()
            }
            if language == "python":
                measurements["jupyter"] = row(lambda: kernel.run("1+1"))
            found = alternate(measurements, options.times(100, 2), warm_up=5)
            question = f"{QUESTION}, {language}"
            for name, peer in (("jupyter", PEER), ("seed", cells.SEED)):
                if name in found:
                    yield Row(question, "ms", found["ours"], peer, found[name], most=most)
            if len(found) == 1:
                yield Row(question, "ms", found["ours"], most=most)
