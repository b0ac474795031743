"""A command that prints a lot: how fast it arrives, and whether memory stays flat meanwhile."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

from bench import processes
from bench.harness import Options, Row, Samples, alternate
from bench.rooms import own_home

QUESTION = "stream of stdout"


def ask(options: Options) -> Iterator[Row]:
    from sandcove import Sandbox

    size = options.times(100_000_000, 5_000_000)
    command = f"head -c {size} /dev/zero | tr '\\0' x"
    rises: list[float] = []

    def rate(begin: float, received: int) -> float:
        assert received == size, f"{received} of {size} bytes arrived"
        return size / 1e6 / (time.perf_counter() - begin)

    def ours() -> float:
        received = 0
        with processes.peak_memory([os.getpid(), *agents]) as peak:
            begin = time.perf_counter()
            for event in sandbox.exec_stream(command):
                if event.type == "stdout":
                    received += len(event.data)
            found = rate(begin, received)
        rises.append(peak.over_idle)
        return found

    def pipe() -> float:
        received = 0
        begin = time.perf_counter()
        with subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            buffer = bytearray(1 << 20)
            while count := os.readv(child.stdout.fileno(), [buffer]):
                received += count
        return rate(begin, received)

    with own_home() as home, Sandbox() as sandbox:
        agents = processes.agents(processes.of_sandbox(home, sandbox.info().id))
        found = alternate({"ours": ours, "pipe": pipe}, times=options.times(10, 2), warm_up=1)
    name = f"{QUESTION}, {size / 1e6:g} MB"
    yield Row(name, "MB/s", found["ours"], "bash by a pipe, no sandbox", found["pipe"], least=150)
    yield Row(f"{name}: memory of agent or client over idle", "MB", Samples(rises), most=20)
