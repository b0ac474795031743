"""The way out of a sandbox: what the proxy lets through a second, and what it adds to a request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.harness import Options, Row, Samples
from bench.rooms import own_home

QUESTION = "egress"
PROXY = 61080


def ask(options: Options) -> Iterator[Row]:
    from sandcove import Sandbox

    size = options.times(500_000_000, 20_000_000)
    program = Path(__file__).with_name("egress_source.py")
    before = os.environ.get("SANDCOVE_EGRESS_PRIVATE")
    os.environ["SANDCOVE_EGRESS_PRIVATE"] = "127.0.0.1"
    source = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    try:
        assert source.stdout is not None
        port = int(source.stdout.readline())
        with own_home(), Sandbox(egress=["public"]) as sandbox:
            sandbox.write_file("/tmp/ask.py", program.read_text())

            def inside(*words: int) -> list[float]:
                command = ["python3", "/tmp/ask.py", *map(str, (port, PROXY, *words))]
                found: list[float] = json.loads(sandbox.exec(command, timeout=120, check=True).stdout)
                return found

            def outside(*words: int) -> list[float]:
                command = [sys.executable, str(program), *map(str, (port, 0, *words))]
                asked = subprocess.run(command, check=True, capture_output=True, timeout=120)
                found: list[float] = json.loads(asked.stdout)
                return found

            through: list[float] = []
            direct: list[float] = []
            for _ in range(options.times(5, 1)):
                through += inside(size, 1)
                direct += outside(size, 1)
            name = f"{QUESTION}: {size / 1e6:g} MB by CONNECT"
            yield Row(name, "MB/s", Samples(through), "without the proxy", Samples(direct), least=300)
            count = options.times(2000, 50)
            ours, plain = inside(0, count), outside(0, count)
            usual = Samples(plain).p50
            yield Row(f"{QUESTION}: a request", "ms", Samples(ours), "without the proxy", Samples(plain))
            added = [value - usual for value in ours]
            yield Row(f"{QUESTION}: what is added to a request", "ms", Samples(added), most=1.5)
    finally:
        source.kill()
        source.wait()
        if before is None:
            os.environ.pop("SANDCOVE_EGRESS_PRIVATE")
        else:
            os.environ["SANDCOVE_EGRESS_PRIVATE"] = before
