"""Makes the page ``docs/notebook.md``: cells that run in a sandbox, and under each what it gave, pictures too.

Run it: ``python -m examples.notebook docs``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sandcove import Execution, Sandbox

__all__ = ["CELLS", "Cell", "notebook"]

HEAD = """# A notebook

Cells, and what they gave when `python -m examples.notebook docs` ran them in a sandbox. How to run yours:
[code contexts](code.md).
"""


@dataclass(frozen=True)
class Cell:
    """Words before a cell, and the cell."""

    words: str
    language: Literal["python", "javascript", "typescript"]
    code: str


CELLS = (
    Cell(
        "The last expression is shown. numpy, pandas and matplotlib cost nothing: they are imported already.",
        "python",
        """
import numpy as np
import pandas as pd

days = pd.date_range("2026-01-01", periods=120)
noise = np.random.default_rng(7).normal(0, 1.5, len(days))
weather = pd.DataFrame({"temperature": 8 + 10 * np.sin(np.arange(len(days)) / 40) + noise}, index=days)
weather.describe().round(2)
""",
    ),
    Cell(
        "A figure comes as a picture, and as data.",
        "python",
        """
import matplotlib.pyplot as plt

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
left.plot(weather.index, weather["temperature"], linewidth=1, label="measured")
left.plot(weather.index, weather["temperature"].rolling(14).mean(), label="14 days")
left.set(title="Temperature", ylabel="degrees (°C)")
left.tick_params(axis="x", rotation=30)
left.legend()
right.hist(weather["temperature"], bins=12)
right.set(title="How often", xlabel="degrees (°C)")
figure.tight_layout()
plt.show()
""",
    ),
    Cell(
        "IPython's own ways work: a line for the shell, a magic, `await` at the top.",
        "python",
        """
import asyncio

weather.to_csv("weather.csv")
!head -3 weather.csv
await asyncio.sleep(0.01)
{"days": len(weather), "warmest": str(weather["temperature"].idxmax().date())}
""",
    ),
    Cell(
        "JavaScript has a context of its own, and sees the same files.",
        "javascript",
        """
const fs = require("fs");
const lines = fs.readFileSync("weather.csv", "utf8").trim().split("\\n").slice(1);
const rows = lines.map((line) => Number(line.split(",")[1]));
({ rows: rows.length, above15: rows.filter((degrees) => degrees > 15).length })
""",
    ),
    Cell(
        "So has TypeScript.",
        "typescript",
        """
enum Feel { Cold, Mild, Warm }
const feel = (degrees: number): Feel => (degrees < 8 ? Feel.Cold : degrees < 15 ? Feel.Mild : Feel.Warm);
[3, 12, 20].map((degrees) => Feel[feel(degrees)])
""",
    ),
    Cell(
        "A cell that fails says where; the variables are still there.",
        "python",
        """
coldest = weather["temperature"].min()
weather["humidity"].mean()
""",
    ),
    Cell("", "python", "round(float(coldest), 2)"),
)


def notebook(folder: Path) -> str:
    """Runs all cells, writes their pictures below `folder`, and gives the page's text."""
    (folder / "pictures").mkdir(exist_ok=True)
    parts = [HEAD]
    with Sandbox() as sandbox:
        for number, cell in enumerate(CELLS, 1):
            execution = sandbox.run_code(cell.code.strip(), language=cell.language)
            if cell.words:
                parts.append(f"{cell.words}\n")
            parts.append(_block({"python": "py", "javascript": "js", "typescript": "ts"}[cell.language], cell.code))
            parts += _outputs(execution, folder, number)
    return "\n".join(parts)


def _outputs(execution: Execution, folder: Path, number: int) -> Iterator[str]:
    if printed := "".join(execution.logs.stdout):
        yield _block("text", printed)
    for result in execution.results:
        if result.png is None:
            yield _block("text", result.text or "")
            continue
        name = f"pictures/notebook-{number}.png"
        (folder / name).write_bytes(result.png)
        yield f"![What cell {number} drew]({name})\n"
        if result.chart is not None:
            charts = result.chart.subplots or [result.chart]
            yield _block("text", "\n".join(f"{chart.type}: {chart.title}" for chart in charts))
    if execution.error is not None:
        error = execution.error
        yield _block("text", f"{error.name}: {error.value} (line {error.line_number})")


def _block(kind: str, text: str) -> str:
    return f"```{kind}\n{text.strip()}\n```\n"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    (target / "notebook.md").write_text(notebook(target))
