"""`scripts/bench`: asks the questions and prints the answers as one table."""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, cast

from rich.console import Console
from rich.table import Table

from bench.harness import Options, Row, Samples


class Question(Protocol):
    """A file ``ask_NAME.py``."""

    QUESTION: str
    ask: Callable[[Options], Iterator[Row]]


def questions() -> dict[str, Question]:
    """The questions by name, in the order of their names."""
    names = sorted(path.stem.removeprefix("ask_") for path in Path(__file__).parent.glob("ask_*.py"))
    return {name: cast(Question, importlib.import_module(f"bench.ask_{name}")) for name in names}


def machine() -> str:
    """What the figures were measured on, in one line."""
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return (
        f"{cores} cores, load {load:.1f}, Linux {platform.release()}, Python {platform.python_version()}, "
        f"{'root' if os.geteuid() == 0 else 'user'}"
    )


def table(rows: list[Row], title: str) -> Table:
    drawn = Table(title=title, title_justify="left", show_lines=False)
    drawn.add_column("question", ratio=3)
    drawn.add_column("ours p50", justify="right", no_wrap=True)
    drawn.add_column("p95", justify="right", no_wrap=True)
    drawn.add_column("peer", ratio=2)
    drawn.add_column("p50", justify="right", no_wrap=True)
    drawn.add_column("p95", justify="right", no_wrap=True)
    drawn.add_column("ratio", justify="right", no_wrap=True)
    drawn.add_column("bar", no_wrap=True)

    def figures(samples: Samples | None, unit: str) -> tuple[str, str]:
        return (f"{samples.p50:,.2f} {unit}", f"{samples.p95:,.2f}") if samples else ("", "")

    for row in rows:
        verdict = {None: "", True: "[green]kept[/]", False: "[red]missed[/]"}[row.holds]
        drawn.add_row(
            row.name + (f"\n[dim]{row.note}[/]" if row.note else ""),
            *figures(row.ours, row.unit),
            row.peer_name,
            *figures(row.peer, row.unit),
            f"{row.ratio:.2f}x" if row.ratio is not None else "",
            f"{row.bar} {verdict}".strip(),
        )
    return drawn


def main() -> int:
    known = questions()
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(known)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="a few rounds, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value to this file too")
    parser.add_argument("--list", action="store_true", help="name the questions and end")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    if arguments.list:
        for name, question in known.items():
            print(f"{name:16} {question.QUESTION}")
        return 0

    console = Console(width=None if sys.stdout.isatty() else 180)
    rows: list[Row] = []
    for name in arguments.names or known:
        console.print(f"[dim]{name}: {known[name].QUESTION} ...[/]")
        rows += known[name].ask(Options(quick=arguments.quick))
    title = f"Sandcove, {machine()}" + (" (quick: not to be quoted)" if arguments.quick else "")
    console.print(table(rows, title))
    if arguments.json:
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        report = {"machine": machine(), "quick": arguments.quick, "at": when, "rows": [row.to_json() for row in rows]}
        arguments.json.write_text(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
