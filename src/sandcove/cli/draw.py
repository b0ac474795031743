"""Tables and progress bars. rich takes as long to import as a sandbox to start, so it is imported only to draw."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["checks", "progress", "size", "table"]

WORTH_A_BAR = 4 * 1024 * 1024
"""Bytes moved before a bar is drawn: less is over before it can be seen."""


def size(number: int) -> str:
    """So many bytes, in units of 1,024: ``17 B``, ``1.5 MiB``."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:,.4g} TiB"


def table(columns: list[str], rows: list[list[str]]) -> None:
    """A table on a terminal; columns apart by two blanks, without frame, where a program reads.

    A cell may have what untrusted code says in it: what is not printable is escaped, so that it stays text.
    """
    rows = [["".join(map(_printable, cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            drawn.add_column(column, overflow="fold")
        for row in rows:
            drawn.add_row(*(Text(cell) for cell in row))
        Console().print(drawn)
        return
    lines = [[column.upper() for column in columns], *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def checks(found: list[dict[str, Any]]) -> None:
    """What `doctor` found: each requirement, whether it holds, and the remedy where it does not."""
    rows = []
    for check in found:
        remedy = "" if check.get("ok") else str(check.get("remedy") or "")
        rows.append(
            ["ok" if check.get("ok") else "MISSING", str(check.get("name")), str(check.get("detail") or ""), remedy]
        )
    table(["", "requirement", "found", "remedy"], rows)


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """A function that draws how far a transfer is, on a terminal; None where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    bar: Any = None
    task: Any = None

    def moved(done: int, total: int | None) -> None:
        nonlocal bar, task
        if bar is None:
            if done < WORTH_A_BAR:
                return
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
            )
            bar = Progress(*columns, console=Console(stderr=True), transient=True)
            bar.start()
            task = bar.add_task(title, total=total)
        bar.update(task, completed=done)

    try:
        yield moved
    finally:
        if bar is not None:
            bar.stop()
