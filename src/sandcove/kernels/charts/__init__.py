"""Charts as data: the numbers, names and scales that a figure was drawn from.

`chart_of` is called by the kernel with each figure that it shows. What it returns is the ``chart`` of a result:

- ``type``: ``line``, ``scatter``, ``area``, ``bar``, ``histogram``, ``pie``, ``box``, ``violin``, ``heatmap``,
  ``contour``, ``hexbin``, ``surface``, ``candlestick``, ``map``, ``treemap``, ``sunburst``, ``image``, ``subplots`` or
  ``unknown``.
- ``title``, ``library`` (``matplotlib``, ``seaborn``, ``plotly``, ``altair``).
- ``layout``: ``x``, ``y`` (and ``z``, ``x2``, ``y2``, ``colorbar``), each with ``label``, ``scale`` (``linear``,
  ``log``, ``category``, ``date``, ...), ``unit`` (what the label has in brackets at its end) and ``categories``.
- ``data``: the series, each with a ``type`` and ``name`` of its own and the columns of its type; see docs/charts.md.
- ``mode``: ``grouped``, ``stacked`` or ``overlaid``, of several series of bars.
- ``subplots``: the charts of a figure that has several; then ``data`` is empty.
- ``truncated``, ``length``: what was too long to be told whole, and how long it was.

A file or folder for each library: `drawn` (what matplotlib draws), `plotly`, `altair`.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

from sandcove.kernels.charts.altair import chart_of_altair, is_altair
from sandcove.kernels.charts.bounds import bounded
from sandcove.kernels.charts.drawn.figure import chart_of_figure
from sandcove.kernels.charts.plotly import chart_of_plotly, is_plotly

__all__ = ["chart_of"]


def chart_of(obj: Any) -> dict[str, Any] | None:
    """The chart of a figure of matplotlib, seaborn, plotly or altair as JSON values; None for anything else."""
    figure = _figure(obj)
    library = (
        "matplotlib" if figure is not None else "plotly" if is_plotly(obj) else "altair" if is_altair(obj) else None
    )
    if library is None:
        return None
    try:
        with warnings.catch_warnings():  # which the user may have made errors
            warnings.simplefilter("ignore")
            chart: dict[str, Any] | None
            if library == "matplotlib":
                chart = chart_of_figure(figure, library="matplotlib" if figure is obj else "seaborn")
            else:
                chart = chart_of_plotly(obj) if library == "plotly" else chart_of_altair(obj)
            return None if chart is None else bounded(chart)
    except Exception:  # noqa: BLE001 - a figure may be odd in any way, and is shown all the same
        return {"type": "unknown", "title": None, "library": library, "layout": {}, "data": []}


def _figure(obj: Any) -> Any:
    """Matplotlib's figure, also that of one of seaborn's grids."""
    module = sys.modules.get("matplotlib.figure")
    if module is None:
        return None
    if isinstance(obj, module.FigureBase):
        return obj
    if type(obj).__module__.startswith("seaborn."):
        figure = getattr(obj, "figure", None)
        return figure if isinstance(figure, module.FigureBase) else None
    return None
