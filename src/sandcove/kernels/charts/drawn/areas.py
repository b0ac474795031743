"""Filled areas: between curves, stacked, and bands around a line."""

from __future__ import annotations

import sys
from typing import Any

from sandcove.kernels.charts.drawn.artists import hex_color, is_a, vertices
from sandcove.kernels.charts.drawn.plots import Plot

__all__ = ["read_areas", "unfolded"]

_MOST_STACKED = 100
"""Areas of which it is looked whether they stand on each other: each is compared with each."""


def unfolded(points: Any) -> tuple[str, Any, Any, Any] | None:
    """Direction, places, and both curves of a polygon that `fill_between` or `fill_betweenx` has made.

    Its corners are a start, the first curve, an end, the second curve backwards, and, closed, the start again.
    """
    count = len(points)
    if count > 3 and (points[0] == points[-1]).all():
        count -= 1
    if count < 6 or count % 2:
        return None
    size = (count - 2) // 2
    there, back = points[1 : size + 1], points[size + 2 : count][::-1]
    for across, direction in ((0, "x"), (1, "y")):
        if (there[:, across] == back[:, across]).all() and (there[:, across] != there[0, across]).any():
            return direction, there[:, across], there[:, 1 - across], back[:, 1 - across]
    return None


class Area:
    """What one call of `fill_between` drew: all its pieces, with NaN between them."""

    def __init__(self, collection: Any) -> None:
        numpy: Any = sys.modules["numpy"]
        gap = numpy.array([numpy.nan])
        self.direction = ""
        parts: list[list[Any]] = [[], [], []]
        for path in collection.get_paths():
            found = unfolded(vertices(path))
            if found is None or self.direction not in ("", found[0]):
                self.direction = ""
                return
            self.direction = found[0]
            for part, values in zip(parts, found[1:], strict=False):
                if part:
                    part.append(gap)
                part.append(values)
        if not self.direction:
            return
        self.places, first, second = (numpy.concatenate(part) for part in parts)
        self.low, self.high = numpy.fmin(first, second), numpy.fmax(first, second)
        self.flat = _is_flat(second)
        """Whether it stands on a straight base: then the top is what is told, also where it is below."""
        if not self.flat and _is_flat(first):
            self.flat, first, second = True, second, first
        self.top, self.base = (first, second) if self.flat else (self.high, self.low)


def _is_flat(curve: Any) -> bool:
    numpy: Any = sys.modules["numpy"]
    known = curve[~numpy.isnan(curve)]
    return bool(len(known)) and bool((known == known[0]).all())


def read_areas(plot: Plot) -> None:
    """Takes what `fill_between` and `stackplot` draw, and the lines that are an area's edge."""
    found = []
    for collection in plot.left(plot.axes.collections):
        if is_a(collection, "PolyCollection") and collection.get_array() is None and len(collection.get_paths()):
            area = Area(collection)
            if area.direction:
                found.append((collection, area))
    stacked = _stacked([area for _, area in found])
    if stacked:
        plot.mode = "stacked"
    for collection, area in found:
        plot.take(collection)
        faces = collection.get_facecolor()
        color = hex_color(faces[0]) if len(faces) else None
        if not stacked and not area.flat and _band(plot, area):
            continue
        series = _series(plot, collection, area, color)
        if stacked:
            series["x" if area.direction == "y" else "y"] = area.high - area.low
            series.pop("base", None)
        plot.add(series, collection)


def _series(plot: Plot, collection: Any, area: Area, color: str | None) -> dict[str, Any]:
    along, other = ("x", "y") if area.direction == "x" else ("y", "x")
    edge = _edge(plot, area) if area.flat or plot.mode == "stacked" else None
    series: dict[str, Any] = {
        "type": "area",
        "name": plot.name(collection, color) or (plot.name(edge, plot.line_color(edge)) if edge is not None else None),
        along: plot.axis(along).values(area.places),
        other: plot.axis(other).values(area.top),
        "color": color,
    }
    if not area.flat or area.base[0] != 0:
        series["base"] = plot.axis(other).values(area.base)
    if edge is not None:
        plot.take(edge)
    if area.direction == "y":
        series["orientation"] = "horizontal"
    return series


def _edge(plot: Plot, area: Area) -> Any:
    """The line along the top of an area."""
    numpy: Any = sys.modules["numpy"]
    for line in plot.left(plot.axes.lines):
        points = line.get_xydata()
        if area.direction == "y":
            points = points[:, ::-1]
        if len(points) == len(area.places) and len(points) > 2:
            same = numpy.array_equal(points[:, 0], area.places)
            if same and numpy.allclose(points[:, 1], area.top, rtol=1e-9, equal_nan=True):
                return line
    return None


def _stacked(areas: list[Area]) -> bool:
    """Whether each stands on another, but for the lowest."""
    numpy: Any = sys.modules["numpy"]
    if len(areas) < 2:
        return False
    first = areas[0]
    if len(areas) > _MOST_STACKED or any(
        area.direction != first.direction or len(area.places) != len(first.places) for area in areas
    ):
        return False
    standing = 0
    for area in areas:
        others = [other.high for other in areas if other is not area]
        standing += any(numpy.allclose(area.low, high, rtol=1e-9, equal_nan=True) for high in others)
    return standing >= len(areas) - 1


def _band(plot: Plot, area: Area) -> bool:
    """Joins a band of uncertainty to the line that runs within it, as its ``y_low`` and ``y_high``."""
    numpy: Any = sys.modules["numpy"]
    across = 0 if area.direction == "x" else 1
    for line in plot.left(plot.axes.lines):
        points = line.get_xydata()
        if len(points) != len(area.places) or not numpy.array_equal(points[:, across], area.places):
            continue
        values = points[:, 1 - across]
        slack = 1e-9 * (1 + abs(values))
        inside = (
            (values >= area.low - slack) & (values <= area.high + slack) | numpy.isnan(values) | numpy.isnan(area.low)
        )
        edge = numpy.allclose(values, area.high, equal_nan=True) or numpy.allclose(values, area.low, equal_nan=True)
        if not inside.all() or edge:
            continue
        direction = "y" if area.direction == "x" else "x"
        own = plot.line_color(line)
        series: dict[str, Any] = {
            "type": "line",
            "name": plot.name(line, own, line),
            "x": plot.x.values(points[:, 0]),
            "y": plot.y.values(points[:, 1]),
            f"{direction}_low": area.low,
            f"{direction}_high": area.high,
            "color": own,
        }
        plot.take(line)
        plot.add(series, line)
        return True
    return False
