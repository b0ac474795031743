"""A gigabyte into a sandbox and out of it: how fast, and whether memory stays flat meanwhile."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import processes
from bench.harness import Options, Row, Samples, alternate
from bench.rooms import own_home

QUESTION = "upload and download of a large file"
BLOCK = 1 << 20


def ask(options: Options) -> Iterator[Row]:
    from sandcove import Sandbox

    size = options.times(1 << 30, 1 << 25)
    rises: list[float] = []

    def moved(action: Callable[[], object], result: Callable[[], int]) -> Callable[[], float]:
        def measure() -> float:
            with processes.peak_memory(watched) as peak:
                begin = time.perf_counter()
                action()
                took = time.perf_counter() - begin
            rises.append(peak.over_idle)
            assert result() == size
            return size / 1e6 / took

        return measure

    with tempfile.TemporaryDirectory(prefix="sc-", dir="/tmp") as made, own_home() as home, Sandbox() as sandbox:
        source, target, copy = (Path(made, name) for name in ("source", "target", "copy"))
        block = os.urandom(BLOCK)
        with open(source, "wb") as file:
            file.writelines(block for _ in range(size // BLOCK))
        sandbox.ping()
        agents = processes.agents(processes.of_sandbox(home, sandbox.id)) if os.geteuid() == 0 else []
        watched = [os.getpid(), *agents]
        found = alternate(
            {
                "upload": moved(lambda: sandbox.upload(source, "large"), lambda: sandbox.stat("large").size),
                "download": moved(lambda: sandbox.download("large", target), lambda: target.stat().st_size),
                "copy": moved(lambda: shutil.copyfile(source, copy), lambda: copy.stat().st_size),
            },
            times=options.times(3, 1),
            warm_up=0,
        )
    name = f"of {size / 2**30:g} GiB"
    for way in ("upload", "download"):
        yield Row(f"{way} {name}", "MB/s", found[way], "shutil.copyfile, no sandbox", found["copy"])
    yield Row(f"{QUESTION}: memory of agent or client over idle", "MB", Samples(rises), most=20)
