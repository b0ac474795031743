"""A small page of a service in a sandbox: how often a second, and how much later than directly, through a preview."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from bench.compare import Side, compare
from bench.harness import Options, Row
from bench.ways import ways

QUESTION = "a page of 1,000 bytes by a preview"
BARS = {1: {"most_added": 1.5}, 32: {"least_ratio": 0.3}, 256: {}}
"""By how many connections there are."""


def ask(options: Options) -> Iterator[Row]:
    with ways() as found:
        if found is None:
            return
        for count, bars in BARS.items():
            with ExitStack() as stack:
                sides = {
                    name: Side.of(
                        [stack.enter_context(way.connect()) for _ in range(count)], way.request("GET", "/page")
                    )
                    for name, way in found.by_name.items()
                }
                title = f"{QUESTION}, {count} connection{'s' * (count > 1)}"
                yield from compare(title, sides, options, **bars)
