"""A gigabyte into a sandbox and out of it: how fast, and whether memory stays flat meanwhile."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import processes
from bench.harness import Options, Row, Samples, alternate
from bench.large import Moves
from bench.rooms import own_home

QUESTION = "upload and download of a large file"


def ask(options: Options) -> Iterator[Row]:
    from sandcove import Sandbox

    moves = Moves(options.times(1 << 30, 1 << 25))
    with tempfile.TemporaryDirectory(prefix="sc-", dir="/tmp") as made, own_home() as home, Sandbox() as sandbox:
        source, target, copy = (Path(made, name) for name in ("source", "target", "copy"))
        moves.make(source)
        sandbox.ping()
        agents = processes.agents(processes.of_sandbox(home, sandbox.id)) if os.geteuid() == 0 else []
        watched = [os.getpid(), *agents]
        timed = partial(moves.timed, watched)
        found = alternate(
            {
                "upload": timed(lambda: sandbox.upload(source, "large"), lambda: sandbox.stat("large").size),
                "download": timed(lambda: sandbox.download("large", target), lambda: target.stat().st_size),
                "copy": timed(lambda: shutil.copyfile(source, copy), lambda: copy.stat().st_size),
            },
            times=options.times(3, 1),
            warm_up=0,
        )
    name = f"of {moves.size / 2**30:g} GiB"
    for way in ("upload", "download"):
        yield Row(f"{way} {name}", "MB/s", found[way], "shutil.copyfile, no sandbox", found["copy"])
    yield Row(f"{QUESTION}: memory of agent or client over idle", "MB", Samples(moves.rises), most=20)
