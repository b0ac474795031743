"""A command's output as a stream, to its end, against the server that Sandcove re-creates."""

from __future__ import annotations

from collections.abc import Iterator

from bench.harness import Options, Row
from bench.plain_http import Connection
from bench.seed import SESSION
from bench.sides import sides

QUESTION = "stream of `echo` to its end"


def ask(options: Options) -> Iterator[Row]:
    def stream(to: Connection) -> None:
        events = to.call("POST", "/api/execute/stream", {"id": SESSION, "command": "echo printed"})
        assert b'"printed\\n"' in events and b'"complete"' in events, events

    with sides() as all_:
        if all_ is not None:
            yield from all_.compare(QUESTION, stream, options.times(300, 10), most_ratio=0.2)
