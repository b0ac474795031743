"""Many sandboxes, asleep, listed through the TCP server with a key."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing

from bench.crowd import AT_ONCE
from bench.harness import Options, Row, alternate, timed
from bench.rooms import on_tcp

QUESTION = "sandboxes listed over TCP with a key"
FEW = 10


def ask(options: Options) -> Iterator[Row]:
    from sandcove import list_sandboxes
    from sandcove.home import Home

    many = options.times(500, 12)
    with on_tcp() as remote:
        asyncio.run(_create(many))

        def listed(labels: dict[str, str] | None, count: int) -> None:
            assert len(list_sandboxes(labels, url=remote.url, api_key=remote.key)) == count

        with closing(sqlite3.connect(Home(remote.home).registry)) as registry:

            def queried() -> None:
                assert len(registry.execute("select * from sandboxes").fetchall()) == many

            found = alternate(
                {
                    "ours": timed(lambda: listed(None, many)),
                    "few": timed(lambda: listed({"few": "True"}, FEW)),
                    "query": timed(queried),
                },
                times=options.times(200, 10),
            )
    yield Row(f"{many} {QUESTION}", "ms", found["ours"], f"{FEW} of them, by a label", found["few"])
    yield Row(f"{many} {QUESTION}", "ms", found["ours"], "a query of SQLite, in this process", found["query"])


async def _create(many: int) -> None:
    from sandcove import AsyncSandbox

    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            sandbox = AsyncSandbox(f"bench-{number}", labels={"few": str(number < FEW)})
            await sandbox.ping()
            await sandbox.sleep()

    async with asyncio.TaskGroup() as tasks:
        for number in range(many):
            tasks.create_task(one(number))
