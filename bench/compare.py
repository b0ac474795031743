"""Load on ours, on nginx and on a direct connection in turn, and the rows that come of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from bench.harness import Options, Row, Samples
from bench.load import Load, offer, size_of_answer

__all__ = ["Side", "compare"]


class Side(NamedTuple):
    """Connections to one contender, and what `offer` sends on them."""

    connections: Sequence[socket.socket]
    request: bytes
    size: int

    @classmethod
    def of(cls, connections: Sequence[socket.socket], request: bytes) -> Side:
        """With the size that answers to this request have; every connection has answered once when it returns."""
        sizes = {size_of_answer(each, request) for each in connections}
        assert len(sizes) == 1, f"answers of different sizes: {sizes}"
        return cls(connections, request, sizes.pop())


def compare(
    question: str,
    sides: Mapping[str, Side],
    options: Options,
    least_ratio: float | None = None,
    most_added: float | None = None,
) -> Iterator[Row]:
    """Rows for what a second brings, against nginx and against the direct connection, and for the latency that ours and
    nginx add to the direct one.

    Args:
        sides: ``ours``, ``direct``, and ``nginx`` if there is one.
        least_ratio: the bar of our rate to nginx's.
        most_added: the bar of the milliseconds that ours adds at the median.
    """
    rounds = _rounds(sides, options)

    def rates(name: str) -> Samples | None:
        return Samples([load.rate for load in rounds[name]]) if name in rounds else None

    def added(name: str, share: float) -> Samples | None:
        if name not in rounds:
            return None
        pairs = zip(rounds[name], rounds["direct"], strict=True)
        return Samples(
            [load.latencies.percentile(share) - direct.latencies.percentile(share) for load, direct in pairs]
        )

    ours = rates("ours")
    assert ours is not None
    yield Row(question, "/s", ours, "nginx", rates("nginx"), least_ratio=least_ratio)
    yield Row(question, "/s", ours, "direct", rates("direct"))
    for share, most in ((0.5, most_added), (0.99, None)):
        late = added("ours", share)
        assert late is not None
        yield Row(
            f"{question}: p{100 * share:g} added", "ms", late, "nginx, both to direct", added("nginx", share), most=most
        )


def _rounds(sides: Mapping[str, Side], options: Options) -> dict[str, list[Load]]:
    """The load in turn on each side, so that noise of the machine meets all alike; the first round is dropped."""
    found: dict[str, list[Load]] = {name: [] for name in sides}
    seconds = 0.05 if options.quick else 0.5
    for turn in range(1 + options.times(15, 2)):
        for name, side in sides.items():
            load = offer(side.connections, side.request, side.size, seconds)
            if turn:
                found[name].append(load)
    return found
