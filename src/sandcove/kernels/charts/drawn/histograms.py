"""What makes bars a histogram, and histograms that are drawn as outlines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sandcove.kernels.charts.drawn.areas import unfolded
from sandcove.kernels.charts.drawn.artists import hex_color, is_a, vertices
from sandcove.kernels.charts.drawn.plots import Plot

if TYPE_CHECKING:
    from sandcove.kernels.charts.drawn.bars import Bars

__all__ = ["edges_adjoin", "edges_of", "read_outlines", "statistic_of"]

_NEAR = 1e-6
_LEAST_FILLED = 0.79
"""Part of a bin that its bars take at least."""


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
    if all(edges_adjoin(bars) for bars in found):
        return [_bin_edges(bars, adjoining=True) for bars in found]
    if len(found) > 1:
        counted = _look_counted(found) or _at_odd_places(found)
        return _group_edges(found) if counted and _fill_bins(found) else None
    bars = found[0]
    return [_bin_edges(bars, adjoining=False)] if len(bars) > 2 and _even(bars) and _look_counted(found) else None


def edges_adjoin(bars: Bars) -> bool:
    """Whether each bar begins where the one before it ends."""
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


def _at_odd_places(found: list[Bars]) -> bool:
    """Whether the middles of groups are no places where one would put bars: with many digits."""
    if any(len(bars) != len(found[0]) for bars in found):
        return False
    middle: Any = sum(bars.centers for bars in found) / len(found)
    return bool((abs(middle - middle.round(2)) > _NEAR).any())


def _fill_bins(found: list[Bars]) -> bool:
    """Whether the bars of a group fill their bin, or the four fifths of it that `hist` gives them."""
    first, last = found[0], found[-1]
    if any(len(bars) != len(first) or not _even(bars) for bars in found):
        return False
    step = first.centers[1] - first.centers[0]
    left = min(float(bars.starts[0]) for bars in found)
    right = max(float(bars.starts[0] + bars.widths[0]) for bars in found)
    return _LEAST_FILLED < (right - left) / float(step) < 1 + _NEAR and len(last) > 2


def _bin_edges(bars: Bars, *, adjoining: bool) -> Any:
    numpy: Any = sys.modules["numpy"]
    if adjoining or edges_adjoin(bars):
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
        elif is_a(patch, "Polygon") and not is_a(patch, "Rectangle"):
            points = vertices(patch.get_path())
            for across in (0, 1):
                found = _unfolded(points[:, across], points[:, 1 - across])
                if found is not None:
                    _add(plot, patch, *found, horizontal=across == 1)
                    break
    for collection in plot.left(plot.axes.collections):
        if is_a(collection, "PolyCollection") and len(collection.get_paths()) == 1 and collection.get_array() is None:
            _read_steps(plot, collection)
    outlines = [series for series in plot.series if series["type"] == "histogram"]
    if len(outlines) > 1 and plot.mode is None:
        plot.mode = "stacked" if any("base" in series for series in outlines) else "overlaid"
        for series in outlines:
            if (base := series.pop("base", None)) is not None:
                series["counts"] = series["counts"] - base


def _read_steps(plot: Plot, collection: Any) -> None:
    """Takes an area whose edge goes in steps, as `fill_between` with ``step`` and seaborn's `histplot` draw it."""
    found = unfolded(vertices(collection.get_paths()[0]))
    if found is None:
        return
    along, places, base, tops = found
    if (tops == tops[0]).all():
        base, tops = tops, base
    if len(places) < 5 or len(places) % 2 == 0 or (base != base[0]).any():
        return
    before = slice(1, None, 2), slice(2, None, 2)  # of each step the place comes twice: first with the height before
    same = (places[before[0]] == places[before[1]]).all()
    if same and (tops[:-1:2] == tops[1::2]).all() and (places[1:] >= places[:-1]).all():
        edges, counts = places[::2], tops[:-1:2]
        _add(plot, collection, edges, counts, horizontal=along == "y")


def _add(plot: Plot, patch: Any, edges: Any, counts: Any, base: Any = None, *, horizontal: bool) -> None:
    color = _color(patch)
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


def _color(artist: Any) -> str | None:
    if is_a(artist, "Collection"):
        faces = artist.get_facecolor()
        return hex_color(faces[0]) if len(faces) else None
    return (hex_color(artist.get_facecolor()) if artist.get_fill() else None) or hex_color(artist.get_edgecolor())


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
