"""Box plots, from the order in which `bxp` draws: box, whiskers, caps, median, mean, outliers.

No container holds them all in every version, and seaborn and pandas draw by the same call, so the order is what is
certain.
"""

from __future__ import annotations

import math
from typing import Any

from sandcove.kernels.charts.drawn.artists import hex_color, in_data, is_a, vertices
from sandcove.kernels.charts.drawn.plots import Plot

__all__ = ["read_boxes"]

_PLAIN, _NOTCHED = (5, 6), (11, 12)
"""Corners of a box: the first again at its end, and once more where the path says that it is closed."""


def read_boxes(plot: Plot) -> None:
    """Takes the artists of each box plot."""
    children = [child for child in plot.children if is_a(child, "Line2D") or is_a(child, "PathPatch")]
    place = 0
    while place < len(children) - 3:
        taken = _read_box(plot, children, place)
        place += taken or 1


def _read_box(plot: Plot, children: list[Any], start: int) -> int:
    """How many artists from `start` on are a box plot; 0 if they are none."""
    box = children[start]
    corners = _corners(box, plot)
    if corners is None:
        return 0
    first, second = _points(children[start + 1]), _points(children[start + 2])
    if first is None or second is None or len(first) != 2 or len(second) != 2:
        return 0
    # The whiskers lie on one line, along the direction of the values.
    across = next(
        (side for side in (0, 1) if len({first[0][side], first[1][side], *(p[side] for p in second)}) == 1), None
    )
    if across is None:
        return 0
    along = 1 - across
    sides = [corner[along] for corner in corners]
    q1, q3, low, high = first[0][along], second[0][along], first[1][along], second[1][along]
    if not ({q1, q3} <= set(sides) and q1 <= q3) and not math.isnan(q1):
        return 0
    position = first[0][across]
    place = start + 3
    stats: dict[str, Any] = {"min": low, "q1": q1, "median": None, "q3": q3, "max": high}
    for end in (low, high):  # caps
        cap = _points(children[place]) if place < len(children) else None
        after = _points(children[place + 1]) if place + 1 < len(children) else None
        if cap and len(cap) == 2 and _level(cap, along) == end and after and len(after) == 2:
            place += 1
    median = _points(children[place]) if place < len(children) else None
    if median and len(median) == 2 and (level := _level(median, along)) is not None and q1 <= level <= q3:
        stats["median"] = level
        place += 1
    place, outliers = _rest(children, place, along, position, stats)
    _add(plot, box, position, along, stats, outliers)
    plot.take(*children[start:place])
    return place - start


def _rest(
    children: list[Any], place: int, along: int, position: float, stats: dict[str, Any]
) -> tuple[int, list[float]]:
    """The mean and the outliers, which there may be after the median."""
    outliers: list[float] = []
    for _ in range(2):
        points = _points(children[place]) if place < len(children) and is_a(children[place], "Line2D") else None
        if points is None or any(point[1 - along] != position for point in points):
            if points and len(points) == 2 and _level(points, along) is not None and "mean" not in stats:
                middle = (points[0][1 - along] + points[1][1 - along]) / 2
                if abs(middle - position) < 1e-9 and children[place].get_label() != "_nolegend_":
                    stats["mean"] = points[0][along]
                    place += 1
                    continue
            break
        marks = children[place].get_linestyle() in ("None", "", " ")
        if not marks:
            break
        inside = len(points) == 1 and stats["min"] <= points[0][along] <= stats["max"]
        if inside and "mean" not in stats:
            stats["mean"] = points[0][along]
        else:
            outliers = [point[along] for point in points]
        place += 1
        if not inside:
            break
    return place, outliers


def _add(plot: Plot, box: Any, position: float, along: int, stats: dict[str, Any], outliers: list[float]) -> None:
    axis = plot.axis("y" if along == 0 else "x")
    color = hex_color(box.get_facecolor()) if is_a(box, "Patch") else hex_color(box.get_color())
    names = axis.names([position])
    name = plot.name(box, color)
    before = plot.series[-1] if plot.series else None
    if name is None and before is not None and before["type"] == "box" and before["color"] == color:
        name = before["name"]  # one call's label is on the first of its boxes
    series: dict[str, Any] = {
        "type": "box",
        "name": name,
        "category": names[0] if names else axis.values([position])[0],
        "orientation": "vertical" if along else "horizontal",
        **stats,
        "outliers": outliers,
        "color": color,
    }
    plot.add(series, box)


def _corners(artist: Any, plot: Plot) -> list[list[float]] | None:
    if is_a(artist, "PathPatch"):
        if plot.is_taken(artist) or not in_data(artist, plot.axes):
            return None
        points = vertices(artist.get_path())
    elif is_a(artist, "Line2D") and not plot.is_taken(artist):
        points = artist.get_xydata()
    else:
        return None
    if len(points) not in _PLAIN + _NOTCHED:
        return None
    found: list[list[float]] = points.tolist()
    return found if found[0] == found[-1] or found[0] == found[-2] or found[0][0] != found[0][0] else None


def _points(artist: Any) -> list[list[float]] | None:
    if not is_a(artist, "Line2D") or is_a(artist, "AxLine"):
        return None
    found: list[list[float]] = artist.get_xydata().tolist()
    return found


def _level(points: list[list[float]], along: int) -> float | None:
    """The value at which a line across lies."""
    return points[0][along] if points[0][along] == points[1][along] else None
