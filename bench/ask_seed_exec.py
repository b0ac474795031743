"""A command in a session that is there, against the server that Sandcove re-creates."""

from __future__ import annotations

from collections.abc import Iterator

from bench.harness import Options, Row
from bench.seed import SESSION
from bench.sides import sides

QUESTION = "exec `true`"


def ask(options: Options) -> Iterator[Row]:
    with sides() as all_:
        if all_ is None:
            return
        body = {"id": SESSION, "command": "true"}
        yield from all_.compare(
            QUESTION, lambda to: to.call("POST", "/api/execute", body), options.times(500, 10), most_ratio=0.35
        )
