"""Bars and histograms, from the containers that `bar` and `hist` leave."""

from __future__ import annotations

import copy
import sys
from typing import Any

from sandcove.kernels.charts.drawn.artists import hex_color, in_data, is_a, one_or_many
from sandcove.kernels.charts.drawn.errors import ends_of
from sandcove.kernels.charts.drawn.histograms import edges_adjoin, edges_of, statistic_of
from sandcove.kernels.charts.drawn.plots import Plot

__all__ = ["Bars", "read_bars"]

_NEAR = 1e-6
"""Part of a bar's width within which two edges are the same."""


class Bars:
    """One container of bars: positions, widths, bases and values as arrays of floats."""

    def __init__(self, container: Any, plot: Plot) -> None:
        numpy: Any = sys.modules["numpy"]
        self.patches = [patch for patch in container.patches if is_a(patch, "Rectangle")]
        self.container = container
        boxes = numpy.array(
            [(bar.get_x(), bar.get_y(), bar.get_width(), bar.get_height()) for bar in self.patches], dtype=float
        ).reshape(-1, 4)
        self.horizontal = container.orientation == "horizontal"
        across, along = (1, 0) if self.horizontal else (0, 1)
        self.starts, self.bases = boxes[:, across], boxes[:, along]
        self.widths, self.values = boxes[:, across + 2], boxes[:, along + 2]
        if (self.widths < 0).any():
            self.starts, self.widths = self.starts + numpy.minimum(self.widths, 0), abs(self.widths)
        self.centers = self.starts + self.widths / 2
        self.exact = getattr(container, "datavalues", None)
        self.colors = [
            (hex_color(bar.get_facecolor()) if bar.get_fill() else None) or hex_color(bar.get_edgecolor())
            for bar in self.patches
        ]
        label = str(container.get_label() or "_")
        first = str(self.patches[0].get_label() or "_") if self.patches else "_"
        self.from_hist = label.startswith("_") and not first.startswith("_")
        """`hist` puts the label on the first bar, `bar` on the container."""
        named = self.patches[0] if self.from_hist else container
        self.name = plot.name(named, self.colors[0]) if self.patches else None

    def only(self, chosen: Any, name: str | None) -> Bars:
        """Those of its bars that are chosen, by a mask."""
        part = copy.copy(self)
        for key in ("starts", "bases", "widths", "values", "centers"):
            setattr(part, key, getattr(self, key)[chosen])
        part.patches = [patch for patch, taken in zip(self.patches, chosen.tolist(), strict=False) if taken]
        part.colors = [color for color, taken in zip(self.colors, chosen.tolist(), strict=False) if taken]
        part.exact = None
        part.name = name
        return part

    def __len__(self) -> int:
        return len(self.patches)


def read_bars(plot: Plot) -> None:
    """Takes every container of bars, with its error bars."""
    found = []
    for container in plot.axes.containers:
        if is_a(container, "BarContainer") and len(container.patches) and in_data(container.patches[0], plot.axes):
            bars = Bars(container, plot)
            plot.take(*bars.patches)
            if len(bars) == len(container.patches):
                found += _by_name(bars, plot)
    if not found:
        return
    found = _joined(found, plot)
    edges = edges_of(found, plot)
    if edges is not None:
        _add_histograms(plot, found, edges)
    else:
        _add_bars(plot, found)


def _by_name(bars: Bars, plot: Plot) -> list[Bars]:
    """One for each name that the legend has for the colours of bars of one call, if it has one for each."""
    distinct = list(dict.fromkeys(bars.colors))
    names = [plot.legend.name(color) for color in distinct]
    if len(distinct) < 2 or None in names or len(set(names)) < 2:
        return [bars]
    numpy: Any = sys.modules["numpy"]
    own = [names[distinct.index(color)] for color in bars.colors]
    return [bars.only(numpy.array([name == each for each in own]), name) for name in dict.fromkeys(names)]


def _joined(found: list[Bars], plot: Plot) -> list[Bars]:
    """One for containers without names that share no place: seaborn colours the bars of one series by such."""
    axis = plot.axis("y" if found[0].horizontal else "x")
    if len(found) < 2 or axis.scale != "category" or any(bars.name is not None for bars in found):
        return found
    numpy: Any = sys.modules["numpy"]
    centers = numpy.concatenate([bars.centers for bars in found])
    if len(numpy.unique(numpy.round(centers))) != len(centers):
        return found
    order = numpy.argsort(centers, kind="stable")
    first = found[0]
    for name in ("starts", "bases", "widths", "values", "centers"):
        setattr(first, name, numpy.concatenate([getattr(bars, name) for bars in found])[order])
    patches = [patch for bars in found for patch in bars.patches]
    colors = [color for bars in found for color in bars.colors]
    first.patches = [patches[place] for place in order]
    first.colors = [colors[place] for place in order]
    first.exact = None
    return [first]


def _add_histograms(plot: Plot, found: list[Bars], edges: list[Any]) -> None:
    axis = plot.axis("y" if found[0].horizontal else "x")
    for bars, bounds in zip(found, edges, strict=False):
        series = {
            "type": "histogram",
            "name": bars.name,
            "orientation": "horizontal" if bars.horizontal else "vertical",
            "edges": axis.values(bounds) if axis.scale == "date" else bounds,
            "counts": bars.values,
            **statistic_of(bars.values, bounds),
            "color": bars.colors[0],
        }
        plot.add(series, bars.patches[0])
    if len(found) > 1:
        plot.mode = "stacked" if _stacked(found) else "grouped" if _apart(found) else "overlaid"


def _add_bars(plot: Plot, found: list[Bars]) -> None:
    axis = plot.axis("y" if found[0].horizontal else "x")
    values = plot.axis("x" if found[0].horizontal else "y")
    stacked = _stacked(found)
    if len(found) > 1:
        plot.mode = "stacked" if stacked else "grouped" if _apart(found) else "overlaid"
    middles = _middles(found) if plot.mode == "grouped" else None
    for bars in found:
        places = bars.centers if middles is None else middles
        dated = values.scale == "date" and not stacked
        series: dict[str, Any] = {
            "type": "bar",
            "name": bars.name,
            "orientation": "horizontal" if bars.horizontal else "vertical",
            "categories": axis.names(places) or axis.values(places),
            "values": bars.values,
            **one_or_many(bars.colors),
        }
        if dated:  # a bar from one date to another, as on a Gantt chart
            series["values"] = values.values(bars.bases + bars.values)
            series["base"] = values.values(bars.bases)
        elif not stacked and (bars.bases != 0).any() and not _floor(bars, values):
            series["base"] = bars.bases
        series.update(_errors(plot, bars))
        if axis.scale == "category" and len(bars) > 1 and edges_adjoin(bars):
            _sum_up(series)
        plot.add(series, bars.patches[0])


def _sum_up(series: dict[str, Any]) -> None:
    """Of a histogram over names, which has more bins than names, the sum of each name's."""
    sums: dict[Any, float] = {}
    for name, value in zip(series["categories"], series["values"].tolist(), strict=False):
        sums[name] = sums.get(name, 0.0) + value
    if len(sums) < len(series["categories"]):
        series["categories"], series["values"] = list(sums), list(sums.values())


def _floor(bars: Bars, values: Any) -> bool:
    """Whether all begin at the same small base because their axis is logarithmic."""
    return bool(values.scale == "log" and (bars.bases == bars.bases[0]).all())


def _apart(found: list[Bars]) -> bool:
    """Whether bars of different containers stand side by side."""
    first = found[0]
    return any(
        len(bars) != len(first) or (abs(bars.centers - first.centers) > _NEAR * bars.widths).any() for bars in found[1:]
    )


def _stacked(found: list[Bars]) -> bool:
    """Whether bars begin where those of a container before end, at the same place."""
    tops: dict[tuple[float, float], None] = {}
    stacked = 0
    for bars in found:
        ends = [
            (round(center, 6), round(end, 9))
            for center, end in zip(bars.centers.tolist(), (bars.bases + bars.values).tolist(), strict=False)
        ]
        starts = zip(bars.centers.tolist(), bars.bases.tolist(), strict=False)
        stacked += sum(base != 0 and (round(center, 6), round(base, 9)) in tops for center, base in starts)
        # Seaborn draws the top of a stack first.
        stacked += sum(end != (end[0], 0.0) and end in _bases(found, bars) for end in ends) if not tops else 0
        tops.update(dict.fromkeys(ends))
    return stacked > 0


def _bases(found: list[Bars], but: Bars) -> set[tuple[float, float]]:
    return {
        (round(center, 6), round(base, 9))
        for bars in found
        if bars is not but
        for center, base in zip(bars.centers.tolist(), bars.bases.tolist(), strict=False)
        if base != 0
    }


def _middles(found: list[Bars]) -> Any:
    """The middle of each group, for containers that differ by an offset only; None for others."""
    first = found[0]
    if any(len(bars) != len(first) for bars in found):
        return None
    offsets = [bars.centers - first.centers for bars in found]
    if any((abs(offset - offset[0]) > _NEAR * first.widths).any() for offset in offsets):
        return None
    # Further apart than bars of one container, or than bars that touch, they are no group.
    shifts = [float(offset[0]) for offset in offsets]
    gaps = abs(first.centers[1:] - first.centers[:-1])
    room = float(gaps.min()) if len(gaps) else (len(found) - 1) * 1.05 * float(first.widths[0])
    if max(shifts) - min(shifts) >= room * (1 - _NEAR):
        return None
    middle: Any = first.centers + sum(float(offset[0]) for offset in offsets) / len(found)
    # Sums of halves leave traces in the last digits.
    return middle.round(9)


def _errors(plot: Plot, bars: Bars) -> dict[str, Any]:
    """The ends of the error bars: the container's own, or the loose lines that seaborn draws."""
    container = bars.container.errorbar
    if container is not None:
        plot.take(*container.get_children())
        plot.take(container)
        direction = "x" if bars.horizontal else "y"
        low, high = ends_of(container, direction, bars.centers)
        return {"low": low, "high": high} if low is not None else {}
    return _loose_container(plot, bars) or _loose_errors(plot, bars)


def _loose_container(plot: Plot, bars: Bars) -> dict[str, Any]:
    """The ends of error bars that `errorbar` drew over the bars."""
    along = "x" if bars.horizontal else "y"
    tops = (bars.bases + bars.values).tolist()
    for container in plot.axes.containers:
        if not is_a(container, "ErrorbarContainer") or any(map(plot.is_taken, container.lines[2])):
            continue
        low, high = ends_of(container, along, bars.centers)
        if low is None or high is None or len(low) != len(tops):
            continue
        if all(a is not None and b is not None and a <= top <= b for a, top, b in zip(low, tops, high, strict=False)):
            plot.take(container, *(child for child in container.get_children() if child is not None))
            return {"low": low, "high": high}
    return {}


def _loose_errors(plot: Plot, bars: Bars) -> dict[str, Any]:
    lows: list[float | None] = [None] * len(bars)
    highs: list[float | None] = [None] * len(bars)
    across, along = (1, 0) if bars.horizontal else (0, 1)
    starts, ends = bars.starts.tolist(), (bars.starts + bars.widths).tolist()
    tops = (bars.bases + bars.values).tolist()
    for line in plot.left(plot.axes.lines):
        points = line.get_xydata()
        if len(points) not in (2, 8) or not str(line.get_label()).startswith("_"):
            continue
        stem = points[3:5].tolist() if len(points) == 8 else points.tolist()
        if stem[0][across] != stem[1][across]:
            continue
        low, high = sorted((stem[0][along], stem[1][along]))
        for place, (start, end, top) in enumerate(zip(starts, ends, tops, strict=False)):
            if start <= stem[0][across] <= end and low <= top <= high:
                lows[place], highs[place] = low, high
                plot.take(line)
                break
    return {"low": lows, "high": highs} if any(low is not None for low in lows) else {}
