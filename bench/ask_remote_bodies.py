"""A gigabyte into a sandbox and out of it through the TCP server with a key, against the direct way."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.harness import Options, Row, Samples, alternate
from bench.large import Moves
from bench.plain_http import on_unix
from bench.rooms import on_tcp

QUESTION = "upload and download over TCP with a key"


def ask(options: Options) -> Iterator[Row]:
    from sandcove import Sandbox
    from sandcove.home import Home

    moves = Moves(options.times(1 << 30, 1 << 25))
    with tempfile.TemporaryDirectory(prefix="sc-", dir="/tmp") as made, on_tcp() as remote:
        source, target = Path(made, "source"), Path(made, "target")
        moves.make(source)
        with on_unix(str(Home(remote.home).server_socket)) as connection:
            server = json.loads(connection.call("GET", "/v1/server"))["pid"]
        sides = {"ours": Sandbox("bench", url=remote.url, api_key=remote.key), "direct": Sandbox("bench")}
        actions = {}
        for side, sandbox in sides.items():
            up, down = partial(sandbox.upload, source, "large"), partial(sandbox.download, "large", target)
            actions[f"up {side}"] = moves.timed([server], up, lambda: sides["direct"].stat("large").size)
            actions[f"down {side}"] = moves.timed([server], down, lambda: target.stat().st_size)
        found = alternate(actions, times=options.times(3, 1), warm_up=0)
    for way in ("up", "down"):
        title = f"{moves.size / 2**30:g} GiB {way} over TCP with a key"
        yield Row(title, "MB/s", found[f"{way} ours"], "the agent's socket", found[f"{way} direct"], least=200)
    yield Row(f"{QUESTION}: memory of the server over idle", "MB", Samples(moves.rises), most=20)
