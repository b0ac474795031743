"""From nothing to the first command's result, the server being warm.

The server keeps one room made ahead. A create that comes alone takes it; of creates back to back, only the first does.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator

from bench.harness import Options, Row, alternate, timed
from bench.rooms import bare_bwrap, first_result, own_home

QUESTION = "create to first exec result, server warm"
IN_A_ROW = 8


def back_to_back() -> float:
    """Milliseconds of one create among several without a pause, the first left out: it has the room made ahead."""
    return statistics.mean([first_result() for _ in range(IN_A_ROW)][1:])


def ask(options: Options) -> Iterator[Row]:
    with own_home():
        # In this order: while Python starts, the server makes its next room, so that it does not hold bwrap up.
        found = alternate(
            {
                "alone": first_result,
                "python": timed(bare_bwrap(sys.executable, "-c", "pass")),
                "bwrap": timed(bare_bwrap("/bin/true")),
                "back to back": back_to_back,
                "python again": timed(bare_bwrap(sys.executable, "-c", "pass")),
            },
            times=options.times(100, 5),
        )
    alone, bwrap, python = found["alone"], found["bwrap"], found["python"]
    yield Row(QUESTION, "ms", alone, "bwrap /bin/true", bwrap, most_ratio=5)
    yield Row(QUESTION, "ms", alone, "bwrap python3 -c pass", python)
    yield Row(f"{QUESTION}, back to back", "ms", found["back to back"], "bwrap /bin/true", bwrap, most_ratio=5)
