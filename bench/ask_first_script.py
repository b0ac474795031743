"""The first script of the day: nothing runs yet, the SDK starts the server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from bench.harness import Options, Row, Samples, alternate, timed
from bench.rooms import bare_bwrap, own_home

QUESTION = "first script of the day, no server running"

SCRIPT = """
import time
from sandcove import Sandbox
begin = time.perf_counter()
with Sandbox() as sandbox:
    assert sandbox.exec("true").exit_code == 0
    print((time.perf_counter() - begin) * 1e3)
"""


def ask(options: Options) -> Iterator[Row]:
    from_inside: list[float] = []

    def script() -> float:
        with own_home():
            begin = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
            whole = (time.perf_counter() - begin) * 1e3
        from_inside.append(float(done.stdout))
        return whole

    times, warm_up = options.times(15, 2), 1
    found = alternate(
        {"ours": script, "python": timed(bare_bwrap(sys.executable, "-c", "pass"))}, times=times, warm_up=warm_up
    )
    inside = Samples(from_inside[warm_up:])
    yield Row(f"{QUESTION}: Sandbox() to first result", "ms", inside, most=1000)
    yield Row(f"{QUESTION}: the whole process", "ms", found["ours"], "bwrap python3 -c pass", found["python"])
