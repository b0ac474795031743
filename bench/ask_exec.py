"""A command in a session that is there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from bench.harness import Options, Row, alternate, timed
from bench.rooms import own_home

QUESTION = "exec `true`, same session"


def ask(options: Options) -> Iterator[Row]:
    from sandcove import Sandbox

    with own_home(), Sandbox() as sandbox:
        found = alternate(
            {
                "ours": timed(lambda: sandbox.exec("true")),
                "bash": timed(lambda: subprocess.run(["bash", "-c", "true"], check=True)),
            },
            times=options.times(2000, 50),
            warm_up=20,
        )
    yield Row(QUESTION, "ms", found["ours"], 'subprocess.run(["bash", "-c", "true"])', found["bash"], most=1.0)
