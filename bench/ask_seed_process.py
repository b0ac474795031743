"""The start of a background process, until its id is known, against the server that Sandcove re-creates."""

from __future__ import annotations

from collections.abc import Iterator

from bench.harness import Options, Row
from bench.seed import SESSION
from bench.sides import sides

QUESTION = "start of the process `true`"


def ask(options: Options) -> Iterator[Row]:
    body = {"command": "true", "sessionId": SESSION, "options": {"autoCleanup": True}}
    with sides() as all_:
        if all_ is not None:
            yield from all_.compare(
                QUESTION, lambda to: to.call("POST", "/api/process/start", body), options.times(300, 10), most_ratio=0.5
            )
