"""Files, against the server that Sandcove re-creates; that hangs on writes over 64 KB, so large ones are ours alone."""

from __future__ import annotations

import os
from collections.abc import Iterator

from bench.harness import Options, Row, alternate, timed
from bench.plain_http import Connection
from bench.rooms import own_home
from bench.seed import SESSION
from bench.sides import Sides, sides

QUESTION = "files: write, read, list"
LISTED = 1000


def ask(options: Options) -> Iterator[Row]:
    with sides() as all_:
        if all_ is not None:
            yield from _written(all_, 1024, options.times(300, 10), most_ratios=(0.15, 0.25))
            yield from _written(all_, 50_000, options.times(200, 10), most_ratios=(None, None))
            yield from _listed(all_, options.times(100, 5))
    yield from _large(options)


def _written(all_: Sides, size: int, times: int, most_ratios: tuple[float | None, float | None]) -> Iterator[Row]:
    content = "x" * size
    named = {"path": "/workspace/file", "sessionId": SESSION}

    def write(to: Connection) -> None:
        to.call("POST", "/api/write", {**named, "content": content})

    def read(to: Connection) -> None:
        assert content.encode() in to.call("POST", "/api/read", named)

    unit = f"{size / 1000:g} KB" if size % 1000 == 0 else f"{size // 1024} KiB"
    yield from all_.compare(f"write of {unit}", write, times, most_ratios[0])
    yield from all_.compare(f"read of {unit}", read, times, most_ratios[1])


def _listed(all_: Sides, times: int) -> Iterator[Row]:
    command = f"mkdir /workspace/many && touch $(seq -f /workspace/many/%g {LISTED})"
    all_.each(lambda to: to.call("POST", "/api/execute", {"id": SESSION, "command": command}))

    def list_(to: Connection) -> None:
        listed = to.call("POST", "/api/list-files", {"path": "/workspace/many", "sessionId": SESSION})
        assert listed.count(b'"relativePath"') == LISTED, listed[:500]

    yield from all_.compare(f"list of {LISTED:,} files", list_, times)


def _large(options: Options) -> Iterator[Row]:
    from sandcove import Sandbox

    data = os.urandom(10_000_000)
    with own_home(), Sandbox() as sandbox:

        def read() -> None:
            assert len(sandbox.read_file("large", encoding=None)) == len(data)

        found = alternate(
            {"write": timed(lambda: sandbox.write_file("large", data)), "read": timed(read)},
            times=options.times(50, 3),
        )
    for name, samples in found.items():
        yield Row(f"{name} of {len(data) / 1e6:g} MB by the SDK", "ms", samples, most=25)
