"""What a chart is, told from the types of its series."""

from __future__ import annotations

from typing import Any

__all__ = ["kind_of"]

_FIRST = ("pie", "candlestick", "box", "violin", "histogram", "bar", "heatmap", "hexbin", "contour", "surface")
"""Types that say what a chart is, whatever lies on it: a curve over bars, points over boxes."""
_LAST = ("image", "segments", "polygon", "unknown")
"""Types that say it only where there is nothing else: a background, a mark."""


def kind_of(series: list[dict[str, Any]]) -> str:
    """The type of a chart: of its leading series, otherwise of the one that was drawn first."""
    types = [each["type"] for each in series]
    for kind in _FIRST:
        if kind in types:
            return kind
    for kind in types:
        if kind not in _LAST:
            return str(kind)
    return str(types[0]) if types else "unknown"
