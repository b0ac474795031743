"""A command through the TCP server with a key: how much later its result is there than on the direct way."""

from __future__ import annotations

from collections.abc import Iterator

from bench.harness import Options, Row, Samples, alternate, timed
from bench.rooms import on_tcp

QUESTION = "exec `true` over TCP with a key"


def ask(options: Options) -> Iterator[Row]:
    from sandcove import Sandbox

    with on_tcp() as remote:
        direct = Sandbox("bench")
        ours = Sandbox("bench", url=remote.url, api_key=remote.key)
        found = alternate(
            {"ours": timed(lambda: ours.exec("true")), "direct": timed(lambda: direct.exec("true"))},
            times=options.times(2000, 50),
            warm_up=20,
        )
    yield Row(QUESTION, "ms", found["ours"], "the agent's socket", found["direct"])
    added = [one - other for one, other in zip(found["ours"].values, found["direct"].values, strict=True)]
    yield Row(f"{QUESTION}: added to the direct way", "ms", Samples(added), most=1.0)
