"""Pies and rings."""

from __future__ import annotations

from typing import Any

from sandcove.kernels.charts.drawn.artists import hex_color, is_a
from sandcove.kernels.charts.drawn.plots import Plot
from sandcove.kernels.charts.plain import column, text

__all__ = ["read_wedges"]


def read_wedges(plot: Plot) -> None:
    """Takes the wedges of `pie`; those of one radius are one series.

    The numbers themselves are kept from matplotlib 3.11 on; before, the values are the shares.
    """
    wedges = [patch for patch in plot.left(plot.axes.patches) if is_a(patch, "Wedge")]
    kept = {}
    for container in plot.axes.containers:
        if is_a(container, "PieContainer"):
            kept[id(container.wedges[0]) if container.wedges else 0] = column(container.values)
    rings: list[list[Any]] = []
    for wedge in wedges:
        ring = rings[-1] if rings else None
        # The center moves with `explode`; the radius is what all of one call share.
        if ring is None or (ring[-1].r, ring[-1].width) != (wedge.r, wedge.width) or id(wedge) in kept:
            rings.append([wedge])
        else:
            ring.append(wedge)
    for ring in rings:
        shares = [round((wedge.theta2 - wedge.theta1) / 360, 6) for wedge in ring]
        labels = [text(wedge.get_label()) for wedge in ring]
        colors = [hex_color(wedge.get_facecolor()) for wedge in ring]
        named = [None if label is None or label.startswith("_") else label for label in labels]
        values = kept.get(id(ring[0]))
        series: dict[str, Any] = {
            "type": "pie",
            "name": None,
            "labels": [label or plot.legend.name(color) for label, color in zip(named, colors, strict=False)],
            "values": values if values is not None and len(values) == len(shares) else shares,
            "shares": shares,
            "colors": colors,
        }
        if ring[0].width is not None:
            series["hole"] = round(1 - ring[0].width / ring[0].r, 6)
        _name_by_legend(plot, series)
        plot.take(*ring)
        plot.add(series, ring[0])


def _name_by_legend(plot: Plot, series: dict[str, Any]) -> None:
    """Names wedges from a legend that has as many entries, where they have none of their own."""
    if not any(series["labels"]) and len(plot.legend.names) == len(series["labels"]):
        series["labels"] = list(plot.legend.names)
