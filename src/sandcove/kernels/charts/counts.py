"""What a browser computes of the values that it is sent: counts, bins, quartiles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["aggregated", "box_of", "nice_bins", "normalized", "place_in", "plotly_bins"]


_MOST_LOOKED_AT = 50_000
"""Values of which bins are made; of more every n-th."""


def _quantile(ordered: list[float], share: float, *, between: bool) -> float:
    """Interpolated between neighbours, a value standing for the middle of its part: plotly's ``linear``.

    Or `between` the first and the last, as numpy and Vega do it.
    """
    place = share * (len(ordered) - 1) if between else min(max(share * len(ordered) - 0.5, 0), len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def box_of(values: list[Any], *, between: bool = False, whole: bool = False) -> dict[str, Any]:
    """The five numbers of a box, its whiskers at most 1.5 boxes long, and what lies beyond them.

    Args:
        values: what is no number is left out.
        between: quartiles are shares of the way from the first to the last value.
        whole: the whiskers go from the least to the greatest.
    """
    ordered = sorted(float(value) for value in values if isinstance(value, (int, float)) and math.isfinite(value))
    if not ordered:
        return {"min": None, "q1": None, "median": None, "q3": None, "max": None, "outliers": []}
    q1, median, q3 = (_quantile(ordered, share, between=between) for share in (0.25, 0.5, 0.75))
    reach = math.inf if whole else 1.5 * (q3 - q1)
    within = [value for value in ordered if q1 - reach <= value <= q3 + reach] or ordered
    outliers = [value for value in ordered if value < within[0] or value > within[-1]]
    return {"min": within[0], "q1": q1, "median": median, "q3": q3, "max": within[-1], "outliers": outliers}


def nice_bins(low: float, high: float, most: int) -> list[float]:
    """Edges at round numbers, at most so many bins: a step of 1, 2 or 5 by a power of ten."""
    span = (high - low) or abs(low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(digit * power for digit in (1, 2, 5, 10, 20) if span / (digit * power) <= most + 1e-9)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def plotly_bins(
    values: list[float], most: int | None, bins: Mapping[str, Any] | None = None, *, plane: bool = False
) -> list[float]:
    """The edges that plotly chooses: of a size by how the values spread, and no value lies on many of them.

    Args:
        values: at least one.
        most: bins; None: by the spread.
        bins: ``start``, ``end`` and ``size``, where they are given.
        plane: whether they are one direction of bins in two.
    """
    if bins and all(isinstance(bins.get(key), (int, float)) for key in ("start", "end", "size")) and bins["size"] > 0:
        return _edges(float(bins["start"]), float(bins["size"]), float(bins["end"]) - 1e-9 * float(bins["size"]))
    low, high = min(values), max(values)
    values = [low, high, *values[:: -(-len(values) // _MOST_LOOKED_AT)]] if len(values) > _MOST_LOOKED_AT else values
    size = _nice((high - low) / most) if most else _size(values, plane)
    start = _moved((math.ceil(low / size) - 1) * size, size, values)
    return _edges(start, size, high)


def _size(values: list[float], plane: bool) -> float:
    distinct = sorted(set(values))
    least = min((after - before for before, after in itertools.pairwise(distinct)), default=1.0)
    power = 10.0 ** math.floor(math.log10(least))
    least = power * max((digit for digit in (0.9, 1.9, 4.9, 9.9) if digit <= least / power), default=0.9)
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return _nice(max(least, 2 * spread / len(values) ** (0.25 if plane else 0.4)))


def _nice(rough: float) -> float:
    if not (rough > 0 and math.isfinite(rough)):
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return float(f"{power * next((digit for digit in (2, 5) if rough / power <= digit), 10):.12g}")


def _moved(start: float, size: float, values: list[float]) -> float:
    """The start, moved so that whole numbers are in the middle of bins, and no others on their edges."""
    low = min(values)
    if all(value == int(value) for value in values):
        if size < 1:
            return low - 0.5 * size
        return start - 0.5 if start - 0.5 + size >= low else start - 0.5 + size

    def near(value: float) -> bool:
        return (1 + (value - start) * 100 / size) % 100 < 2

    if sum(near(value + size / 2) for value in values) < 0.1 * len(values) and (
        near(low) or near(max(values)) or sum(map(near, values)) > 0.3 * len(values)
    ):
        return start + size / 2 if start + size / 2 < low else start - size / 2
    return start


def _edges(start: float, size: float, high: float) -> list[float]:
    count = min(max(1 + math.floor((high - start) / size), 1), 10_000)
    return [float(f"{start + number * size:.12g}") for number in range(count + 1)]


def place_in(edges: list[float], value: float) -> int | None:
    """The bin of even edges that a value is in; None if it is outside."""
    at = math.floor((value - edges[0]) / (edges[1] - edges[0]) + 1e-9)
    return at if 0 <= at < len(edges) - 1 else None


def normalized(kind: str, counts: list[Any], edges: list[float] | None = None, *, running: bool = False) -> list[Any]:
    """Counts as shares (``percent``, ``probability``), by width (``density``), or both; summed up if `running`."""
    known = [count or 0 for count in counts]
    total = sum(known) if "p" in kind.replace("density", "") else 1
    width = edges[1] - edges[0] if edges and "density" in kind else 1
    if kind:
        counts = [count * (100 if kind == "percent" else 1) / (total * width) if total else 0 for count in known]
    if running:
        sums = itertools.accumulate(count or 0 for count in counts)
        return [value * width for value in sums] if "density" in kind else list(sums)
    return counts


def aggregated(kind: str, values: list[Any]) -> Any:
    """A number for many, by the name of the operation; None if it is none of the simple ones."""
    if kind == "count":
        return len(values)
    numbers = [value for value in values if isinstance(value, (int, float))]
    if kind == "distinct":
        return len(set(map(str, values)))
    if not numbers:
        return None
    if kind == "sum":
        return sum(numbers)
    if kind in ("mean", "average", "avg"):
        return sum(numbers) / len(numbers)
    if kind == "min":
        return min(numbers)
    if kind == "max":
        return max(numbers)
    if kind == "median":
        ordered = sorted(numbers)
        half = len(ordered) // 2
        return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    return None
