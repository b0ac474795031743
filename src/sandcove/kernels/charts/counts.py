"""What a browser computes of the values that it is sent: counts, bins, quartiles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["aggregated", "box_of", "counted", "histogram_of", "nice_bins"]


def counted(values: list[Any]) -> tuple[list[Any], list[int]]:
    """The different values in the order of their first, and how often each is there."""
    counts: dict[Any, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return list(counts), list(counts.values())


def _quantile(ordered: list[float], share: float) -> float:
    """Interpolated between neighbours, a value standing for the middle of its part: plotly's ``linear``."""
    place = min(max(share * len(ordered) - 0.5, 0), len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def box_of(values: list[Any]) -> dict[str, Any]:
    """The five numbers of a box, its whiskers at most 1.5 boxes long, and what lies beyond them."""
    ordered = sorted(float(value) for value in values if isinstance(value, (int, float)))
    if not ordered:
        return {"min": None, "q1": None, "median": None, "q3": None, "max": None, "outliers": []}
    q1, median, q3 = (_quantile(ordered, share) for share in (0.25, 0.5, 0.75))
    reach = 1.5 * (q3 - q1)
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


def histogram_of(
    values: list[Any], most: int | None, bins: Mapping[str, Any] | None = None
) -> tuple[list[float], list[int]]:
    """Edges and counts.

    Args:
        most: bins; None: as many as the root of the values.
        bins: ``start``, ``end`` and ``size``, where they are given.
    """
    numbers = [float(value) for value in values]
    if not numbers:
        return [], []
    if bins and all(isinstance(bins.get(key), (int, float)) for key in ("start", "end", "size")) and bins["size"] > 0:
        count = min(max(math.ceil((bins["end"] - bins["start"]) / bins["size"]), 1), 10_000)
        edges = [bins["start"] + number * bins["size"] for number in range(count + 1)]
    else:
        edges = nice_bins(min(numbers), max(numbers), most or max(min(math.ceil(math.sqrt(len(numbers))), 100), 5))
    counts = [0] * (len(edges) - 1)
    step = edges[1] - edges[0]
    for number in numbers:
        at = math.floor((number - edges[0]) / step + 1e-9)
        if 0 <= at < len(counts):
            counts[at] += 1
        elif at == len(counts) and number <= edges[-1]:
            counts[-1] += 1
    return edges, counts


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
    if kind in ("mean", "average"):
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
