"""Analyses data in a sandbox: Python draws two panels of it and writes a file, JavaScript goes on with that file.

Run it: ``python -m examples.analyse [PICTURE]``. The picture is saved there, by default as ``sales.png``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sandcove import Sandbox

__all__ = ["analyse"]

DATA = """
import pandas as pd

sales = pd.DataFrame({
    "month": ["Jan", "Feb", "Mar", "Apr", "May", "Jun"],
    "north": [120, 135, 160, 155, 180, 210],
    "south": [90, 110, 105, 130, 125, 160],
})
sales["total"] = sales["north"] + sales["south"]
sales
"""
DRAW = """
import matplotlib.pyplot as plt

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
left.plot(sales["month"], sales["total"], marker="o")
left.set(title="Sales", xlabel="month", ylabel="total (1,000 EUR)")
right.bar(["north", "south"], [sales["north"].sum(), sales["south"].sum()])
right.set(title="By region", ylabel="sum (1,000 EUR)")
figure.tight_layout()
plt.show()
"""
WRITE = "sales.to_json('/workspace/sales.json', orient='records')"
GO_ON = """
const rows = JSON.parse(require("fs").readFileSync("/workspace/sales.json", "utf8"));
const best = rows.reduce((one, other) => (other.total > one.total ? other : one));
({ best: best.month, total: best.total, mean: rows.reduce((sum, row) => sum + row.total, 0) / rows.length })
"""


def analyse(picture: Path) -> object:
    """Does it all, saves the picture, and gives what JavaScript made of the data."""
    with Sandbox() as sandbox:
        table = sandbox.run_code(DATA, check=True)
        print(table.text)

        drawn = sandbox.run_code(DRAW, check=True).results[0]
        assert drawn.png is not None and drawn.chart is not None
        picture.write_bytes(drawn.png)
        for panel in drawn.chart.subplots:
            print(f"{panel.type}: {panel.title}")

        sandbox.run_code(WRITE, check=True)
        found = sandbox.run_code(GO_ON, language="javascript", check=True).json
        print(found)
        return found


if __name__ == "__main__":
    analyse(Path(sys.argv[1] if len(sys.argv) > 1 else "sales.png"))
