"""What one sandbox's excess costs its neighbours: their execs while it floods, forks, fills and spins."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.harness import Options, Row, Samples
from bench.rooms import own_home
from sandcove import Sandbox

QUESTION = "exec in a sandbox while a neighbour attacks"

BAR = 3.0
EXECS = 200
LIMITS: dict[str, float | str] = {"memory": "256m", "processes": 256, "disk": "2g", "logs": "64m"}
# Each ends by itself, and is bounded where nothing limits it: some hundred processes, some hundred megabytes.
ATTACKS = {
    "a CPU hog": """
import os, time
end = time.time() + 60
for _ in range(15):
    if os.fork() == 0:
        break
while time.time() < end:
    pass
""",
    "a fork bomb": """
import os, time
end = time.time() + 60
alive = 0
while time.time() < end:
    try:
        if os.fork() == 0:
            time.sleep(0.2)
            os._exit(0)
        alive += 1
    except OSError:
        alive += 1000
    while alive > 400:
        try:
            alive = alive - 1 if os.waitpid(-1, os.WNOHANG)[0] else 300
        except ChildProcessError:
            alive = 0
""",
    "a memory hog": """
import os, time
end = time.time() + 60
while time.time() < end:
    if os.fork() == 0:
        held = []
        for _ in range(512):
            held.append(bytearray(os.urandom(4096) * 256))
        os._exit(0)
    os.wait()
""",
    "a disk filler": """
import os, time
end = time.time() + 60
block = os.urandom(1 << 20)
while time.time() < end:
    with open("/workspace/full", "wb") as file:
        for _ in range(1024):
            file.write(block)
    os.unlink("/workspace/full")
""",
    "many files": """
import os, time
end = time.time() + 60
while time.time() < end:
    os.makedirs("/workspace/many", exist_ok=True)
    for number in range(20000):
        open(f"/workspace/many/{number}", "w").close()
    for number in range(20000):
        os.unlink(f"/workspace/many/{number}")
""",
    "a log flood": """
import os, time
end = time.time() + 60
while time.time() < end:
    os.write(1, b"flood" * 13000)
""",
}


def ask(options: Options) -> Iterator[Row]:
    rounds = options.times(5, 2)
    with own_home(), Sandbox(limits=LIMITS) as neighbour, Sandbox(limits=LIMITS) as attacker:
        p99s(neighbour, 1)
        for what, program in ATTACKS.items():
            quiet: list[float] = []
            loud: list[float] = []
            for _ in range(rounds):
                quiet += p99s(neighbour, 1)
                process = attacker.start_process(["python3", "-c", program])
                time.sleep(1)  # it is to be at its height
                loud += p99s(neighbour, 1)
                process.refresh()
                assert process.status == "running", f"{what} ended early: {process.logs().stderr[-500:]}"
                process.kill("SIGKILL")
                attacker.kill_all_processes()
            note = f"p99 of {EXECS} execs each"
            yield Row(f"{QUESTION}: {what}", "ms", Samples(loud), "quiet", Samples(quiet), most_ratio=BAR, note=note)


def p99s(sandbox: Sandbox, times: int) -> list[float]:
    """The 99th percentile of some execs, as often as asked, in ms."""
    found = []
    for _ in range(times):
        took = []
        for _ in range(EXECS):
            begin = time.perf_counter()
            sandbox.exec("true")
            took.append((time.perf_counter() - begin) * 1e3)
        found.append(Samples(took).percentile(0.99))
    return found
