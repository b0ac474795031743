"""Error bars, stems, and what lies under the points that they belong to."""

from __future__ import annotations

import bisect
import math
from typing import Any

from sandcove.kernels.charts.drawn.artists import is_a, vertices
from sandcove.kernels.charts.drawn.plots import Plot
from sandcove.kernels.charts.plain import column

__all__ = ["ends_of", "read_errors", "read_stems"]


def ends_of(container: Any, direction: str, places: Any) -> tuple[list[float | None] | None, list[float | None] | None]:
    """Lower and upper ends of the error bars in a direction, one for each of `places` on the other axis.

    Both None if there are no error bars in it.
    """
    stems = list(container.lines[2])
    wanted = [name for name, there in (("x", container.has_xerr), ("y", container.has_yerr)) if there]
    if direction not in wanted or len(stems) != len(wanted):
        return None, None
    along = 0 if direction == "x" else 1
    by_place: dict[float, list[tuple[float, float]]] = {}
    for path in stems[wanted.index(direction)].get_paths():
        points = vertices(path)
        if len(points) == 2:
            ends = sorted((float(points[0][along]), float(points[1][along])))
            by_place.setdefault(float(points[0][1 - along]), []).append((ends[0], ends[1]))
    known = sorted(place for place in by_place if math.isfinite(place))
    lows: list[float | None] = []
    highs: list[float | None] = []
    for place in column(places):
        waiting = by_place.get(place)
        if waiting is None and known and place is not None:
            at = bisect.bisect_left(known, place)
            nearest = min(known[max(at - 1, 0) : at + 1], key=lambda each: abs(each - place))
            waiting = by_place[nearest] if abs(nearest - place) < 1e-9 * max(1.0, abs(place)) else None
        ends_here = waiting.pop(0) if waiting else (None, None)
        lows.append(ends_here[0])
        highs.append(ends_here[1])
    return lows, highs


def read_errors(plot: Plot) -> None:
    """Takes what `errorbar` draws: a line or points, with ``y_low`` and ``y_high``, ``x_low`` and ``x_high``."""
    for container in plot.axes.containers:
        if not is_a(container, "ErrorbarContainer") or plot.is_taken(container):
            continue
        line = container.lines[0]
        children = [child for child in container.get_children() if child is not None]
        plot.take(*children)
        own = line is not None and (_stroked(line) or line.get_marker() not in ("None", "", " ", None))
        line = line if own else _beneath(plot, container, line) or line
        if line is None:
            continue
        plot.take(line)
        x, y = line.get_xdata(orig=False), line.get_ydata(orig=False)
        color = plot.line_color(line)
        series: dict[str, Any] = {
            "type": "scatter" if line.get_linestyle() in ("None", "", " ") else "line",
            "name": plot.name(container if own else line, color, line),
            "x": plot.x.values(x),
            "y": plot.y.values(y),
        }
        for direction, places in (("x", y), ("y", x)):
            low, high = ends_of(container, direction, places)
            if low is not None:
                series[f"{direction}_low"], series[f"{direction}_high"] = low, high
        series["color"] = color
        plot.add(series, line)


def _stroked(line: Any) -> bool:
    return line.get_linestyle() not in ("None", "", " ")


def _beneath(plot: Plot, container: Any, own: Any) -> Any:
    """The line through the middle of error bars that were drawn by themselves."""
    for line in plot.left(plot.axes.lines):
        points = line.get_xydata()
        if own is not None:
            other = own.get_xydata()
            if points.shape == other.shape and (points == other).all():
                return line
            continue
        for direction, along in (("x", 0), ("y", 1)):
            low, high = ends_of(container, direction, points[:, 1 - along])
            if low is None or high is None or not len(low) or None in low:
                continue
            within = zip(low, points[:, along].tolist(), high, strict=False)
            if all(a is not None and b is not None and a <= value <= b for a, value, b in within):
                return line
    return None


def read_stems(plot: Plot) -> None:
    """Takes what `stem` draws."""
    for container in plot.axes.containers:
        if not is_a(container, "StemContainer"):
            continue
        stems = container.stemlines
        plot.take(container.markerline, container.baseline, *(stems if isinstance(stems, (list, tuple)) else [stems]))
        line = container.markerline
        color = plot.line_color(line)
        series = {
            "type": "stem",
            "name": plot.name(container, color),
            "x": plot.x.values(line.get_xdata(orig=False)),
            "y": plot.y.values(line.get_ydata(orig=False)),
            "color": color,
        }
        plot.add(series, line)
