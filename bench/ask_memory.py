"""What a live, idle sandbox costs in memory, all its processes counted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

from bench import processes
from bench.crowd import answering, crowd
from bench.harness import Options, Row, Samples
from bench.rooms import own_home

QUESTION = "memory (PSS) of a live idle sandbox"


def ask(options: Options) -> Iterator[Row]:
    if os.geteuid() != 0:
        return  # an ordinary user may not look into agents
    for size in (100, 300) if not options.quick else (5,):
        yield _with(size)


def _with(size: int) -> Row:
    async def measure() -> tuple[list[float], float, float]:
        async with crowd(1):  # the server and the zygote are there, and counted as there
            available = processes.available_memory()
        async with crowd(size) as members:
            answered = await answering(members)
            assert answered == size, f"{answered} of {size} sandboxes answered"
            names = [(await member.info()).id for member in members]
            each = [processes.proportional_memory(processes.of_sandbox(home, name)) for name in names]
            everything = processes.proportional_memory(processes.of_home(home))
            return each, everything, available - processes.available_memory()

    with own_home() as home:
        each, everything, taken = asyncio.run(measure())
    mean = sum(each) / size
    note = (
        f"mean {mean:.1f}; server, zygote and all {size} together {everything:,.0f} MB; the machine has "
        f"{taken / size:.1f} MB less available for each, kernel's included; all answered"
    )
    return Row(f"{QUESTION}, {size} alive", "MB", Samples(each), most=8, note=note)
