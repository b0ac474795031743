"""Lines, and markers without one."""

from __future__ import annotations

import sys
from typing import Any

from sandcove.kernels.charts.drawn.artists import hex_color, is_a, vertices
from sandcove.kernels.charts.drawn.plots import Plot

__all__ = ["read_line_collections", "read_lines"]

_MOST_LINES = 200
"""Lines of one collection that are told as series of their own."""


def read_lines(plot: Plot) -> None:
    """Takes the lines of `plot`, `step`, and markers that have no line."""
    lines = [line for line in plot.left(plot.axes.lines) if not is_a(line, "AxLine") and _has_points(line)]
    for line in lines:
        if plot.is_taken(line):
            continue
        x, y = line.get_xdata(orig=False), line.get_ydata(orig=False)
        color = plot.line_color(line)
        marks = line.get_linestyle() in ("None", "", " ")
        if marks and line.get_marker() in ("None", "", " ", None):
            continue
        series: dict[str, Any] = {
            "type": "scatter" if marks else "line",
            "name": plot.name(line, color, line),
            "x": plot.x.values(x),
            "y": plot.y.values(y),
            "color": color,
        }
        if line.get_drawstyle().startswith("steps"):
            series["steps"] = line.get_drawstyle()[6:] or "pre"
        elif not marks and len(x) > 2:
            series.update(_loose_errors(plot, lines, line))
        plot.take(line)
        plot.add(series, line)


def _has_points(line: Any) -> bool:
    """Whether anything of it is seen: seaborn draws lines of nothing but NaN, for values that are not there."""
    numpy: Any = sys.modules["numpy"]
    points = line.get_xydata()
    return bool((~numpy.isnan(points)).all(axis=1).any()) if len(points) else False


def _loose_errors(plot: Plot, lines: list[Any], line: Any) -> dict[str, Any]:
    """Ends of vertical lines of two points through this line's points, of its colour: error bars of seaborn."""
    if line.get_marker() in ("None", "", " ", None):
        return {}
    points = line.get_xydata()
    found: dict[int, tuple[float, float]] = {}
    for other in lines:
        stem = other.get_xydata()
        if len(stem) == 8:
            stem = stem[3:5]
        if len(stem) != 2 or other is line or plot.is_taken(other) or other.get_color() != line.get_color():
            continue
        for across in (0, 1):
            if stem[0][across] == stem[1][across]:
                (low, high) = sorted((float(stem[0][1 - across]), float(stem[1][1 - across])))
                for place, point in enumerate(points):
                    inside = low <= point[1 - across] <= high
                    if place not in found and abs(point[across] - stem[0][across]) < 1e-9 and inside:
                        found[place] = (low, high)
                        plot.take(other)
                        break
                break
    if not found:
        return {}
    direction = "y" if plot.x.scale == "category" or plot.y.scale != "category" else "x"
    ends = [found.get(place, (None, None)) for place in range(len(points))]
    return {f"{direction}_low": [low for low, _ in ends], f"{direction}_high": [high for _, high in ends]}


def read_line_collections(plot: Plot) -> None:
    """Takes `vlines`, `hlines` and other collections of lines: segments, events, or lines of many points."""
    for collection in plot.left(plot.axes.collections):
        if is_a(collection, "EventCollection"):
            direction = "x" if collection.is_horizontal() else "y"
            other = plot.axis("y" if direction == "x" else "x")
            offset = float(collection.get_lineoffset())
            names = other.names([offset])
            color = hex_color(collection.get_edgecolor()[0])
            series = {
                "type": "events",
                "name": plot.name(collection, color) or (names[0] if names else None),
                direction: plot.axis(direction).values(_floats(collection.get_positions())),
                "offset": offset,
                "color": color,
            }
            plot.take(collection)
            plot.add(series, collection)
        elif is_a(collection, "LineCollection"):
            _read_collection(plot, collection)


def _floats(values: Any) -> Any:
    numpy: Any = sys.modules["numpy"]
    return numpy.asarray(values, dtype=float)


def _read_collection(plot: Plot, collection: Any) -> None:
    numpy: Any = sys.modules["numpy"]
    paths = [vertices(path) for path in collection.get_paths()]
    paths = [points for points in paths if len(points) > 1]
    if not paths:
        return
    plot.take(collection)
    colors = collection.get_edgecolor()
    color = hex_color(colors[0]) if len(colors) == 1 else None
    name = plot.name(collection, color)
    if all(len(points) == 2 for points in paths):
        ends = numpy.array(paths)
        chained = len(paths) > 2 and (ends[1:, 0] == ends[:-1, 1]).all()
        if chained:  # one line whose pieces have colours of their own
            points = numpy.concatenate([ends[:, 0], ends[-1:, 1]])
            series = {"type": "line", "name": name, "x": plot.x.values(points[:, 0]), "y": plot.y.values(points[:, 1])}
            if (values := collection.get_array()) is not None:
                series["color_values"] = values
            plot.add({**series, "color": color}, collection)
            return
        series = {
            "type": "segments",
            "name": name,
            "x": plot.x.values(ends[:, 0, 0]),
            "y": plot.y.values(ends[:, 0, 1]),
            "x_end": plot.x.values(ends[:, 1, 0]),
            "y_end": plot.y.values(ends[:, 1, 1]),
            "color": color,
        }
        plot.add(series, collection)
        return
    values = collection.get_array()
    for place, points in enumerate(paths[:_MOST_LINES]):
        own = hex_color(colors[place % len(colors)]) if len(colors) else None
        series = {
            "type": "line",
            "name": name or plot.legend.name(own),
            "x": plot.x.values(points[:, 0]),
            "y": plot.y.values(points[:, 1]),
            "color": own,
        }
        if values is not None and place < len(values):
            series["color_value"] = values[place]
        if len(paths) > _MOST_LINES:
            series["truncated"] = True
        plot.add(series, collection)
