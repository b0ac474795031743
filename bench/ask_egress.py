"""The way out of a sandbox: what the proxy lets through a second, and what it adds to a request."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.debian import program as debian
from bench.harness import Options, Row, Samples, UnavailableError
from bench.rooms import own_home

QUESTION = "egress"
PROXY = 61080
TINYPROXY = "tinyproxy, from outside"
_CONFIG = """
Port {port}
Listen 127.0.0.1
Timeout 600
MaxClients 100
Allow 127.0.0.1
LogLevel Error
LogFile "{folder}/log"
PidFile "{folder}/pid"
"""


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

            def outside(proxy: int, *words: int) -> list[float]:
                command = [sys.executable, str(program), *map(str, (port, proxy, *words))]
                asked = subprocess.run(command, check=True, capture_output=True, timeout=120)
                found: list[float] = json.loads(asked.stdout)
                return found

            with tinyproxy_or_none() as peer:
                through: list[float] = []
                direct: list[float] = []
                peers: list[float] = []
                for _ in range(options.times(5, 1)):
                    through += inside(size, 1)
                    direct += outside(0, size, 1)
                    peers += outside(peer, size, 1) if peer else []
                name = f"{QUESTION}: {size / 1e6:g} MB by CONNECT"
                yield Row(name, "MB/s", Samples(through), "without the proxy", Samples(direct), least=300)
                if peer:
                    yield Row(name, "MB/s", Samples(through), TINYPROXY, Samples(peers))
                for kind, how in ((0, "over a kept connection"), (-1, "over a new connection")):
                    count = options.times(500, 20)
                    through, direct, peers = [], [], []
                    for _ in range(4):
                        through += inside(kind, count)
                        direct += outside(0, kind, count)
                        peers += outside(peer, kind, count) if peer and kind else []
                    usual = Samples(direct).p50
                    added = Samples([value - usual for value in through])
                    what = f"{QUESTION}: added to a request {how}"
                    if peers:
                        theirs = Samples([value - usual for value in peers])
                        yield Row(what, "ms", added, TINYPROXY, theirs, most=1.5)
                    else:
                        yield Row(what, "ms", added, most=1.5)
    finally:
        source.kill()
        source.wait()
        if before is None:
            os.environ.pop("SANDCOVE_EGRESS_PRIVATE")
        else:
            os.environ["SANDCOVE_EGRESS_PRIVATE"] = before


@contextmanager
def tinyproxy_or_none() -> Iterator[int | None]:
    """The port of one that runs; None, and a line that says why, when there is none here."""
    try:
        path = debian("tinyproxy", "-v", "tinyproxy-bin")
    except UnavailableError as error:
        print(f"left out, tinyproxy can't be had here: {error}", file=sys.stderr)
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="tinyproxy-", dir="/tmp") as folder:
        config = Path(folder, "tinyproxy.conf")
        config.write_text(_CONFIG.format(port=port, folder=folder))
        with subprocess.Popen([str(path), "-d", "-c", str(config)], stdout=subprocess.DEVNULL) as process:
            try:
                _answers(port)
                yield port
            finally:
                process.terminate()


def _answers(port: int) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
