"""A gigabyte into a sandbox and out of it through the TCP server with a key, against the direct way."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import processes
from bench.harness import Options, Row, Samples, alternate
from bench.plain_http import on_unix
from bench.rooms import on_tcp

QUESTION = "upload and download over TCP with a key"
BLOCK = 1 << 20


def ask(options: Options) -> Iterator[Row]:
    from sandcove import Sandbox
    from sandcove.home import Home

    size = options.times(1 << 30, 1 << 25)
    rises: list[float] = []

    def moved(action: Callable[[], object], result: Callable[[], int]) -> Callable[[], float]:
        def measure() -> float:
            with processes.peak_memory([server]) as peak:
                begin = time.perf_counter()
                action()
                took = time.perf_counter() - begin
            rises.append(peak.over_idle)
            assert result() == size
            return size / 1e6 / took

        return measure

    with tempfile.TemporaryDirectory(prefix="sc-", dir="/tmp") as made, on_tcp() as remote:
        source, target = Path(made, "source"), Path(made, "target")
        block = os.urandom(BLOCK)
        with open(source, "wb") as file:
            file.writelines(block for _ in range(size // BLOCK))
        with on_unix(str(Home(remote.home).server_socket)) as connection:
            server = json.loads(connection.call("GET", "/v1/server"))["pid"]
        sides = {"ours": Sandbox("bench", url=remote.url, api_key=remote.key), "direct": Sandbox("bench")}
        actions = {}
        for side, sandbox in sides.items():
            up, down = partial(sandbox.upload, source, "large"), partial(sandbox.download, "large", target)
            actions[f"up {side}"] = moved(up, lambda: sides["direct"].stat("large").size)
            actions[f"down {side}"] = moved(down, lambda: target.stat().st_size)
        found = alternate(actions, times=options.times(3, 1), warm_up=0)
    for way in ("up", "down"):
        title = f"{size / 2**30:g} GiB {way} over TCP with a key"
        yield Row(title, "MB/s", found[f"{way} ours"], "the agent's socket", found[f"{way} direct"], least=200)
    yield Row(f"{QUESTION}: memory of the server over idle", "MB", Samples(rises), most=20)
