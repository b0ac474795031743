"""From nothing to the first command's result, the server being warm."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from bench.harness import Options, Row, alternate, timed
from bench.rooms import bare_bwrap, first_result, own_home

QUESTION = "create to first exec result, server warm"


def ask(options: Options) -> Iterator[Row]:
    with own_home():
        found = alternate(
            {
                "ours": first_result,
                "bwrap": timed(bare_bwrap("/bin/true")),
                "python": timed(bare_bwrap(sys.executable, "-c", "pass")),
            },
            times=options.times(100, 5),
        )
    yield Row(QUESTION, "ms", found["ours"], "bwrap /bin/true", found["bwrap"], most_ratio=5)
    yield Row(QUESTION, "ms", found["ours"], "bwrap python3 -c pass", found["python"])
