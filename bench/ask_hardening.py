"""What the walls cost those who work inside them: the same programs in a sandbox, outside, and in runc."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

from bench.harness import Options, Row, UnavailableError, alternate
from bench.rooms import own_home
from bench.runc import runc

QUESTION = "a program inside"
PYTHON = "/usr/bin/python3"
PROGRAMS: dict[str, tuple[str, float | None]] = {
    "CPU": ("for _ in range(ROUNDS): sum(i * i for i in range(10_000)); hashlib.sha256(block).digest()", 0.98),
    "system calls, 4 KiB read and written each": (
        "for _ in range(ROUNDS * 60): os.write(out, os.read(zero, 4096)); os.lseek(zero, 0, 0)",
        0.85,
    ),
    "the cheapest system calls": (
        "for _ in range(ROUNDS * 100): os.getppid(); os.read(zero, 1); os.lseek(zero, 0, 0)",
        None,
    ),
    "opened and closed files of the system": (
        "for _ in range(ROUNDS * 15):\n fd = os.open('/usr/bin/env', 0); os.fstat(fd); os.read(fd, 999); os.close(fd)",
        None,
    ),
    "written and deleted files": (
        "for n in range(ROUNDS * 5):\n fd = os.open(path, 65); os.write(fd, block); os.close(fd); os.unlink(path)",
        None,
    ),
    "programs started": ("for _ in range(ROUNDS // 10): subprocess.run(['/bin/true'])", None),
}
"""What each does, and the least that its rate is to be of that outside."""
_AROUND = """
import hashlib, os, subprocess, time
path, block = '/tmp/bench', bytes(4096)
zero, out = os.open('/dev/zero', 0), os.open('/dev/null', 1)
begin = time.perf_counter()
{code}
print(ROUNDS / (time.perf_counter() - begin))
"""


def ask(options: Options) -> Iterator[Row]:
    from sandcove import Sandbox

    rounds = options.times(300, 20)
    with own_home(), Sandbox() as sandbox:
        try:
            with runc() as in_runc:
                yield from _ask(options, rounds, lambda line: sandbox.exec(line, check=True).stdout, in_runc)
        except UnavailableError as error:
            print(f"left out, runc can't be had here: {error}", file=sys.stderr)
            yield from _ask(options, rounds, lambda line: sandbox.exec(line, check=True).stdout, None)


def _ask(
    options: Options,
    rounds: int,
    inside: Callable[[list[str]], str],
    in_runc: Callable[[list[str]], str] | None,
) -> Iterator[Row]:
    for what, (code, least) in PROGRAMS.items():
        line = [PYTHON, "-c", _AROUND.format(code=code).replace("ROUNDS", str(rounds))]

        def outside(line: list[str] = line) -> float:
            return float(subprocess.run(line, check=True, capture_output=True, text=True).stdout)

        ways = {"ours": lambda line=line: float(inside(line)), "outside": outside}
        if in_runc is not None:
            ways["runc"] = lambda line=line: float(in_runc(line))
        found = alternate(ways, times=options.times(15, 2), warm_up=1)
        name = f"{QUESTION}: {what}"
        yield Row(name, "/s", found["ours"], "outside", found["outside"], least_ratio=least)
        if "runc" in found:
            yield Row(name, "/s", found["ours"], "runc", found["runc"])
