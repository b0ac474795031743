"""What a live Python context costs in memory that has pandas imported and used."""

from __future__ import annotations

import os
from collections.abc import Iterator

from bench import cells, processes
from bench.harness import Options, Row, Samples
from bench.jupyter import PEER, jupyter
from bench.rooms import own_home

QUESTION = "memory (PSS) of a live Python context with pandas imported"
USE = "import os, pandas as pd\nframe = pd.DataFrame({'a': range(1000)}); frame.describe()\nos.getpid()"


def ask(options: Options) -> Iterator[Row]:
    if os.geteuid() != 0:
        return  # an ordinary user may not look into agents
    size = 5 if options.quick else 50
    before = processes.available_memory()
    with jupyter() as kernel:
        kernel.run(USE)
        peer = before - processes.available_memory()
    with own_home() as folder, cells.in_home(folder) as (own, name):
        cells.run(own, cells.create(own), USE)
        members = processes.of_sandbox(folder, name)
        first = processes.proportional_memory(processes.of_home(folder))
        for _ in range(size):
            cells.run(own, cells.create(own), USE)
        added = processes.of_sandbox(folder, name) - members
        assert len(added) == size, f"{len(added)} of {size} contexts live"
        each = (processes.proportional_memory(processes.of_home(folder)) - first) / size
    yield Row(f"{QUESTION}, {size} beyond the first", "MB", Samples([each]), PEER, Samples([peer]), most=15)
