"""Whether seaborn has drawn axes. It leaves no mark of its own, but habits that nothing else has."""

from __future__ import annotations

import sys
from typing import Any

from sandcove.kernels.charts.drawn.artists import hex_color, is_a

__all__ = ["is_seaborn"]

_PALE = {"#3274a1", "#e1812c", "#3a923a", "#5875a4", "#cc8963", "#5f9e6e"}
"""The first colours of matplotlib's cycle and of seaborn's, as its bars and boxes have them: less saturated."""
_MAPS = {"rocket", "mako", "flare", "crest", "vlag", "icefire"}
"""Colour maps that seaborn brings."""


def is_seaborn(axes: Any) -> bool:
    """True where a habit of seaborn's is seen; a figure without any passes for matplotlib's."""
    if "seaborn" not in sys.modules:
        return False
    for container in axes.containers:
        if type(container).__module__.startswith("seaborn."):
            return True
        if is_a(container, "BarContainer") and len(container.patches):
            first = container.patches[0]
            if hex_color(first.get_facecolor()) in _PALE or _histogram_stroke(first):
                return True
    for line in axes.lines:
        # Lines that have white edges around markers that they do not have.
        if line.get_markeredgecolor() == "w" and line.get_markeredgewidth() == 0.75:
            return True
    for collection in axes.collections:
        name = getattr(getattr(collection, "cmap", None), "name", "")
        if collection.get_array() is not None and name.removesuffix("_r") in _MAPS:
            return True
        if is_a(collection, "PathCollection") and _points(collection):
            return True
        if is_a(collection, "PolyCollection") and _shape(collection):
            return True
    return False


def _histogram_stroke(bar: Any) -> bool:
    """`histplot` makes strokes as thin as its bars, in half-transparent colours."""
    return tuple(bar.get_facecolor())[3:] == (0.75,) and hex_color(bar.get_edgecolor()) is not None


def _points(collection: Any) -> bool:
    """`scatterplot` and its kin have white edges that grow with the points."""
    edges, widths, sizes = collection.get_edgecolor(), collection.get_linewidth(), collection.get_sizes()
    if not len(edges) or not len(widths) or not len(sizes):
        return False
    white = hex_color(edges[0]) == "#ffffff"
    size = float(sizes.max()) ** 0.5
    return white and any(abs(float(widths[0]) - share * size) < 1e-6 for share in (0.08, 0.1))


def _shape(collection: Any) -> bool:
    faces = collection.get_facecolor()
    return len(faces) == 1 and hex_color(faces[0]) in _PALE
