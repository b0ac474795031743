"""A chart made fit for the wire: JSON only, and no larger than is useful.

The readers of each library leave arrays, frames and numbers of any kind in a chart; here they become JSON. A series
that is too long keeps every n-th of its points, so that its course stays; ``truncated`` and ``length`` say so.
"""

from __future__ import annotations

from typing import Any

from sandcove.kernels.charts.plain import array_of, is_column, plain

__all__ = ["LONGEST_SERIES", "MOST_POINTS", "MOST_SERIES", "bounded"]

LONGEST_SERIES = 10_000
"""Points of one series, cells of one heatmap."""
MOST_POINTS = 100_000
"""Points of all series of a figure together."""
MOST_SERIES = 1_000
"""Series of a figure."""
_WHOLE = {"edges", "outliers", "levels", "x_edges", "y_edges"}
"""What does not run along the points of its series."""
_SMALLEST = 10
"""Points of each series that are kept however many there are."""


def bounded(chart: dict[str, Any]) -> dict[str, Any]:
    """The chart as JSON values, its series thinned to the bounds. Marks the outermost chart too."""
    leaves = list(_leaves(chart))
    kept = 0
    for leaf in leaves:
        series = leaf["data"]
        if kept + len(series) > MOST_SERIES:
            leaf["length"] = len(series)
            leaf["truncated"] = True
            del series[max(MOST_SERIES - kept, 0) :]
        kept += len(series)
    limit = _fair([_size(series) for leaf in leaves for series in leaf["data"]])
    for leaf in leaves:
        leaf["data"] = [_thinned(series, limit) for series in leaf["data"]]
        if any(series.get("truncated") for series in leaf["data"]):
            leaf["truncated"] = True
    if any(leaf.get("truncated") for leaf in leaves):
        chart["truncated"] = True
    _make_plain(chart)
    return chart


def _leaves(chart: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [leaf for subplot in chart.get("subplots", ()) for leaf in _leaves(subplot)]
    return [chart, *inner]


def _fair(sizes: list[int]) -> int:
    """The most points a series may have so that all together stay within the bound: short ones are left whole."""
    remaining = MOST_POINTS
    ordered = sorted(min(size, LONGEST_SERIES) for size in sizes)
    for place, size in enumerate(ordered):
        share = remaining // (len(ordered) - place)
        if size > share:
            return max(share, _SMALLEST)
        remaining -= size
    return LONGEST_SERIES


def _columns(series: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of each column of a series, by its key."""
    found = {}
    for key, value in series.items():
        if value is None or isinstance(value, (str, int, float, dict)) or not is_column(value):
            continue
        shape = getattr(value, "shape", None)
        if shape is None:
            shape = (len(value), len(value[0])) if key == "values" and _is_table(value) else (len(value),)
        found[key] = shape
    return found


def _is_table(value: Any) -> bool:
    return len(value) > 0 and isinstance(value, (list, tuple)) and is_column(value[0])


def _size(series: dict[str, Any]) -> int:
    columns = _columns(series)
    return max((shape[0] * shape[1] if len(shape) > 1 else shape[0] for shape in columns.values()), default=0)


def _thinned(series: dict[str, Any], limit: int) -> dict[str, Any]:
    """A series with as many points as `limit` allows."""
    columns = _columns(series)
    tables = [shape for shape in columns.values() if len(shape) > 1]
    if tables:
        return _thinned_table(series, columns, tables[0], limit)
    longest = max((shape[0] for shape in columns.values()), default=0)
    if longest <= limit:
        return series
    length = max((shape[0] for key, shape in columns.items() if key not in _WHOLE), default=longest)
    step = -(-length // limit)
    thin = dict(series)
    for key, (size,) in columns.items():
        if "edges" in series:  # bins that are left out would leave their neighbours' edges wrong
            thin[key] = series[key][: limit + (key == "edges")]
        elif size == length:
            thin[key] = series[key][::step]
        elif size > limit:
            thin[key] = series[key][:: -(-size // limit)]
    return {**thin, "truncated": True, "length": length}


def _thinned_table(
    series: dict[str, Any], columns: dict[str, tuple[int, ...]], shape: tuple[int, ...], limit: int
) -> dict[str, Any]:
    rows, across = shape[:2]
    step = 1
    while -(-rows // step) * -(-across // step) > limit:
        step += 1
    if step == 1:
        return series
    # What is long in one direction only is not thinned in the other.
    down = min(step, max(rows // _SMALLEST, 1))
    along = min(max(-(-(-(-rows // down) * across) // limit), 1), across)
    thin = dict(series)
    for key, size in columns.items():
        if len(size) > 1:
            thin[key] = array_of(series[key])[::down, ::along]
        elif key in ("x", "x_edges"):
            thin[key] = series[key][::along]
        elif key in ("y", "y_edges"):
            thin[key] = series[key][::down]
    return {**thin, "truncated": True, "length": [rows, across]}


def _make_plain(chart: dict[str, Any]) -> None:
    chart["data"] = [{key: plain(value) for key, value in series.items()} for series in chart["data"]]
    chart["title"] = plain(chart.get("title"))
    chart["layout"] = plain(chart.get("layout", {}))
    for subplot in chart.get("subplots", ()):
        _make_plain(subplot)
