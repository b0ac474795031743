"""Violins: shapes that are as wide as their data are dense."""

from __future__ import annotations

from typing import Any

from sandcove.kernels.charts.drawn.areas import unfolded
from sandcove.kernels.charts.drawn.artists import hex_color, in_data, is_a, vertices
from sandcove.kernels.charts.drawn.plots import Plot

__all__ = ["read_violins"]

_NEAR = 1e-6


def read_violins(plot: Plot) -> None:
    """Takes the shapes of `violinplot`, and the lines of statistics that lie within them."""
    found = []
    shapes = 0
    for collection in plot.left(plot.axes.collections):
        if is_a(collection, "PolyCollection") and len(collection.get_paths()) == 1 and collection.get_array() is None:
            shape = unfolded(vertices(collection.get_paths()[0]))
            if shape is not None:
                violin = _violin(plot, collection, *shape)
                if violin is not None:
                    found.append((collection, violin))
                shapes += violin is not None or bool((shape[2] != shape[3]).any())
    if len(found) < shapes:  # bands that happen to be even: a layer in the middle of a stack
        return
    for collection, violin in found:
        _read_statistics(plot, violin)
        plot.take(collection)
        plot.add({key: value for key, value in violin.items() if not key.startswith("_")}, collection)
    if found:
        for collection in plot.left(plot.axes.collections):
            if is_a(collection, "LineCollection"):
                plot.take(collection)


def _violin(plot: Plot, collection: Any, along: str, grid: Any, first: Any, second: Any) -> dict[str, Any] | None:
    vertical = along == "y"
    axis = plot.axis("x" if vertical else "y")
    middle = (first + second) / 2
    width = abs(second - first)
    if not float(width.max()) > 0:
        return None
    near = _NEAR * float(width.max())
    whole = bool((abs(middle - middle[0]) <= near).all())
    half = any(bool((abs(edge - edge[0]) <= near).all()) for edge in (first, second))
    if whole:
        position = float(middle[0])
    elif half and axis.scale == "category":
        position = float(first[0] if bool((abs(first - first[0]) <= near).all()) else second[0])
    else:
        return None
    if not vertical and axis.scale != "category" and position == 0:  # a band around zero
        return None
    if bool((abs(width - width[0]) <= near).all()):
        return None
    faces = collection.get_facecolor()
    if not len(faces) or hex_color(faces[0]) is None:
        faces = collection.get_edgecolor()
    color = hex_color(faces[0]) if len(faces) else None
    names = axis.names([position])
    return {
        "type": "violin",
        "name": plot.name(collection, color),
        "category": names[0] if names else position,
        "orientation": "vertical" if vertical else "horizontal",
        "grid": grid,
        "widths": width,
        "color": color,
        "_position": position,
        "_sides": (float(min(first.min(), second.min())), float(max(first.max(), second.max()))),
    }


def _read_statistics(plot: Plot, violin: dict[str, Any]) -> None:
    """What seaborn draws within: whiskers, box and median, or three lines at the quartiles."""
    across, along = (0, 1) if violin["orientation"] == "vertical" else (1, 0)
    left, right = violin["_sides"]
    position = violin["_position"]
    spans: list[tuple[float, float]] = []
    levels: list[float] = []
    points: list[float] = []
    for line in plot.axes.lines:
        corners = line.get_xydata()
        if plot.is_taken(line) or len(corners) not in (1, 2) or not str(line.get_label()).startswith("_"):
            continue
        sides = corners[:, across]
        # Split violins move the box aside by a transform, which is not of data alone.
        if not (left - _NEAR <= sides.min() and sides.max() <= right + _NEAR):
            continue
        if len(corners) == 1 and abs(sides[0] - position) < _NEAR:
            points.append(float(corners[0][along]))
        elif len(corners) == 2 and sides[0] == sides[1] and abs(sides[0] - position) < _NEAR:
            spans.append((float(corners[:, along].min()), float(corners[:, along].max())))
        elif len(corners) == 2 and corners[0][along] == corners[1][along] and in_data(line, plot.axes):
            levels.append(float(corners[0][along]))
        else:
            continue
        plot.take(line)
    violin["min"], violin["max"] = float(violin["grid"].min()), float(violin["grid"].max())
    if len(spans) == 2 and len(points) == 1:
        (low, high), (violin["q1"], violin["q3"]) = sorted(spans, key=lambda span: span[0] - span[1])
        violin["whisker_low"], violin["whisker_high"] = low, high
        violin["median"] = points[0]
    elif len(levels) == 3:
        violin["q1"], violin["median"], violin["q3"] = sorted(levels)
