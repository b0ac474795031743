"""What makes bars a histogram, and histograms that are drawn as outlines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sandcove.kernels.charts.drawn.artists import hex_color, is_a, vertices
from sandcove.kernels.charts.drawn.plots import Plot

if TYPE_CHECKING:
    from sandcove.kernels.charts.drawn.bars import Bars

__all__ = ["edges_of", "read_outlines", "statistic_of"]

_NEAR = 1e-6


def edges_of(found: list[Bars], plot: Plot) -> list[Any] | None:
    """The edges of each container's bins, if all are histograms.

    Bins adjoin, on a numeric axis; a label, by where `hist` puts it, tells too. Bins with gaps, or several data sets
    side by side, are told from bars by what `hist` leaves: heights that are counts but floats, or that sum to one.
    """
    axis = plot.axis("y" if found[0].horizontal else "x")
    if axis.scale == "category" or any(len(bars) < 2 for bars in found):
        return None
    if axis.tick_labels and axis.names(found[0].centers):
        return None
    if all(bars.from_hist for bars in found):
        side = len(found) > 1 and (found[0].starts != found[1].starts).any()
        return _group_edges(found) if side else [_bin_edges(bars, adjoining=False) for bars in found]
    if all(_adjoin(bars) for bars in found):
        return [_bin_edges(bars, adjoining=True) for bars in found]
    if len(found) > 1:
        return _group_edges(found) if _look_counted(found) and _fill_bins(found) else None
    bars = found[0]
    return [_bin_edges(bars, adjoining=False)] if len(bars) > 2 and _even(bars) and _look_counted(found) else None


def _adjoin(bars: Bars) -> bool:
    ends = bars.starts + bars.widths
    return bool((abs(ends[:-1] - bars.starts[1:]) <= _NEAR * bars.widths[1:]).all())


def _even(bars: Bars) -> bool:
    steps = bars.centers[1:] - bars.centers[:-1]
    return bool((steps > 0).all() and (abs(steps - steps[0]) <= _NEAR * steps[0]).all())


def _look_counted(found: list[Bars]) -> bool:
    """Whether heights are what `hist` makes: floats that are counts, or densities."""
    for bars in found:
        exact = bars.exact
        if getattr(getattr(exact, "dtype", None), "kind", "") != "f" or not _even(bars):
            return False
        counts = bool((bars.values == bars.values.round()).all() and (bars.values >= 0).all())
        width = float(bars.centers[1] - bars.centers[0])
        if not counts and abs(float(bars.values.sum()) * width - 1) > _NEAR:
            return False
        whole = bool((bars.centers == bars.centers.round()).all()) and abs(width - 1) < _NEAR
        if whole:  # bars at 0, 1, 2, ...
            return False
    return True


def _fill_bins(found: list[Bars]) -> bool:
    """Whether the bars of a group fill the four fifths of their bin that `hist` gives them."""
    first, last = found[0], found[-1]
    if any(len(bars) != len(first) or not _even(bars) for bars in found):
        return False
    step = first.centers[1] - first.centers[0]
    left = min(float(bars.starts[0]) for bars in found)
    right = max(float(bars.starts[0] + bars.widths[0]) for bars in found)
    return abs((right - left) / float(step) - 0.8) < 1e-3 and len(last) > 2


def _bin_edges(bars: Bars, *, adjoining: bool) -> Any:
    numpy: Any = sys.modules["numpy"]
    if adjoining or _adjoin(bars):
        return numpy.append(bars.starts, bars.starts[-1] + bars.widths[-1])
    steps = bars.centers[1:] - bars.centers[:-1]
    between = bars.centers[:-1] + steps / 2
    return numpy.concatenate([[bars.centers[0] - steps[0] / 2], between, [bars.centers[-1] + steps[-1] / 2]])


def _group_edges(found: list[Bars]) -> list[Any]:
    numpy: Any = sys.modules["numpy"]
    middle = sum(bars.centers for bars in found) / len(found)
    step = middle[1:] - middle[:-1]
    edges = numpy.concatenate([[middle[0] - step[0] / 2], middle[:-1] + step / 2, [middle[-1] + step[-1] / 2]])
    return [edges for _ in found]


def statistic_of(counts: Any, edges: Any) -> dict[str, str]:
    """``density`` where the bins' areas sum to one, ``probability`` where their heights do, otherwise ``count``."""
    if not len(counts) or bool((counts == counts.round()).all()):
        return {"stat": "count"}
    if abs(float((counts * (edges[1:] - edges[:-1])).sum()) - 1) < _NEAR:
        return {"stat": "density"}
    total = float(counts.sum())
    if abs(total - 1) < _NEAR:
        return {"stat": "probability"}
    return {"stat": "percent"} if abs(total - 100) < 100 * _NEAR else {}


def read_outlines(plot: Plot) -> None:
    """Takes the polygons of `hist` with ``histtype="step"`` or ``"stepfilled"``, and what `stairs` draws."""
    for patch in plot.left(plot.axes.patches):
        if is_a(patch, "StepPatch"):
            values, edges, _ = patch.get_data()
            _add(plot, patch, edges, values, horizontal=patch.orientation == "horizontal")
        elif is_a(patch, "Polygon"):
            points = vertices(patch.get_path())
            for across in (0, 1):
                found = _unfolded(points[:, across], points[:, 1 - across])
                if found is not None:
                    _add(plot, patch, *found, horizontal=across == 1)
                    break
    outlines = [series for series in plot.series if series["type"] == "histogram"]
    if len(outlines) > 1 and plot.mode is None:
        plot.mode = "stacked" if any("base" in series for series in outlines) else "overlaid"
        for series in outlines:
            if (base := series.pop("base", None)) is not None:
                series["counts"] = series["counts"] - base


def _add(plot: Plot, patch: Any, edges: Any, counts: Any, base: Any = None, *, horizontal: bool) -> None:
    color = (hex_color(patch.get_facecolor()) if patch.get_fill() else None) or hex_color(patch.get_edgecolor())
    series = {
        "type": "histogram",
        "name": plot.name(patch, color),
        "orientation": "horizontal" if horizontal else "vertical",
        "edges": edges,
        "counts": counts,
        **statistic_of(counts, edges),
        "color": color,
    }
    if base is not None and (base != 0).any():
        series["base"] = base
    plot.take(patch)
    plot.add(series, patch)


def _unfolded(along: Any, heights: Any) -> tuple[Any, Any, Any] | None:
    """Edges, tops and bases of an outline: each edge twice, up at the first, down at the last, back if filled."""
    edges_twice = along
    back = None
    turn = next((place for place in range(1, len(along)) if along[place] < along[place - 1]), None)
    if turn is not None:
        edges_twice = along[:turn]
        back = heights[turn:]
    count = len(edges_twice)
    if count < 4 or count % 2 or (edges_twice[::2] != edges_twice[1::2]).any():
        return None
    tops = heights[1 : count - 1]
    if (tops[::2] != tops[1::2]).any():
        return None
    edges = edges_twice[::2]
    base = None
    if back is not None:
        size = len(edges) - 1
        base = back[: 2 * size : 2][::-1]
        if len(base) != size:
            return None
    elif heights[0] != heights[-1]:
        return None
    return edges, tops[::2], base
