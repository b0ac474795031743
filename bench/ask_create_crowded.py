"""The same with many sandboxes alive: whether a create pays for those that are there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from bench.crowd import crowd
from bench.harness import Options, Row, Samples, alternate, timed
from bench.rooms import bare_bwrap, first_result, own_home

QUESTION = "create to first exec result, a crowd alive"


def ask(options: Options) -> Iterator[Row]:
    size = options.times(300, 10)
    times = options.times(50, 5)

    async def with_crowd() -> tuple[Samples, Samples]:
        async with crowd(size):
            # In a thread: the crowd's leases live on this loop, and the measured call is the sync SDK's.
            found = await asyncio.to_thread(
                alternate, {"ours": first_result, "bwrap": timed(bare_bwrap("/bin/true"))}, times
            )
            return found["ours"], found["bwrap"]

    with own_home():
        alone = alternate({"ours": first_result}, times)["ours"]
        crowded, bwrap = asyncio.run(with_crowd())
    yield Row(f"{QUESTION}: {size}", "ms", crowded, "ours alone", alone, most_ratio=1.5)
    yield Row(f"{QUESTION}: {size}", "ms", crowded, "bwrap /bin/true, same crowd", bwrap)
