"""A cell that only computes, in a context that is there."""

from __future__ import annotations

from collections.abc import Iterator

from bench import cells
from bench.harness import Options, Row, alternate, timed
from bench.jupyter import PEER, jupyter

QUESTION = "warm cell `1+1`"
MOST = {"python": 1.0, "javascript": 0.6, "typescript": 1.0}
"""Milliseconds."""


def ask(options: Options) -> Iterator[Row]:
    with cells.with_seed() as (own, theirs), jupyter() as kernel:
        for language, most in MOST.items():
            sides = {"ours": own} if theirs is None else {"ours": own, "seed": theirs}
            contexts = {name: cells.create(to, language) for name, to in sides.items()}
            measurements = {
                name: timed(lambda to=to, context=contexts[name]: cells.run(to, context, "1+1"))  # type: ignore[misc]
                for name, to in sides.items()
            }
            if language == "python":
                measurements["jupyter"] = timed(lambda: kernel.run("1+1"))
            found = alternate(measurements, options.times(300, 5), warm_up=30)
            question = f"{QUESTION}, {language}"
            for name, peer in (("jupyter", PEER), ("seed", cells.SEED)):
                if name in found:
                    yield Row(question, "ms", found["ours"], peer, found[name], most=most)
            if len(found) == 1:
                yield Row(question, "ms", found["ours"], most=most)
