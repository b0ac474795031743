"""Alternated runs of ours and the peer's, percentiles, and the rows of the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Options", "Row", "Samples", "UnavailableError", "alternate", "timed"]

Unit = Literal["ms", "MB/s", "MB", "/s"]


class UnavailableError(Exception):
    """A peer can't be had here; the message says why."""


@dataclass(frozen=True)
class Options:
    """How long to measure: `quick` shows that it works, its figures say little."""

    quick: bool = False

    def times(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True)
class Samples:
    """Measured values in the unit of their row, in the order in which they were measured."""

    values: Sequence[float]

    def percentile(self, share: float) -> float:
        """The value under which `share` (0 to 1) of the samples lie: the nearest measured one, not interpolated."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def p50(self) -> float:
        return self.percentile(0.5)

    @property
    def p95(self) -> float:
        return self.percentile(0.95)


@dataclass(frozen=True)
class Row:
    """One line of the table: a question, our answer, the peer's, and the bar that was set.

    The bar is about the ratio of the medians (ours to the peer's), or about our median itself.
    """

    name: str
    unit: Unit
    ours: Samples
    peer_name: str = ""
    peer: Samples | None = None
    most_ratio: float | None = None
    least_ratio: float | None = None
    most: float | None = None
    least: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours.p50 / self.peer.p50 if self.peer else None

    @property
    def bar(self) -> str:
        """The bar in words; empty without one."""
        bars = [
            f"<= {self.most_ratio:g}x" if self.most_ratio is not None else "",
            f">= {self.least_ratio:g}x" if self.least_ratio is not None else "",
            f"<= {self.most:g} {self.unit}" if self.most is not None else "",
            f">= {self.least:g} {self.unit}" if self.least is not None else "",
        ]
        return ", ".join(bar for bar in bars if bar)

    @property
    def holds(self) -> bool | None:
        """Whether the bar is kept; None without one, or without the peer that it is about."""
        of_peer = self.most_ratio is not None or self.least_ratio is not None
        if not self.bar or (of_peer and self.peer is None):
            return None
        return not (
            (self.most_ratio is not None and self.ratio is not None and self.ratio > self.most_ratio)
            or (self.least_ratio is not None and self.ratio is not None and self.ratio < self.least_ratio)
            or (self.most is not None and self.ours.p50 > self.most)
            or (self.least is not None and self.ours.p50 < self.least)
        )

    def to_json(self) -> dict[str, Any]:
        """Everything, the single values too."""
        derived = {"ratio": self.ratio, "bar": self.bar, "holds": self.holds}
        for who, samples in (("ours", self.ours), ("peer", self.peer)):
            if samples:
                derived |= {f"{who}_p50": samples.p50, f"{who}_p95": samples.p95}
        return asdict(self) | derived


def timed(action: Callable[[], object]) -> Callable[[], float]:
    """`action` as a measurement: milliseconds from its call to its return."""

    def measure() -> float:
        begin = time.perf_counter()
        action()
        return (time.perf_counter() - begin) * 1e3

    return measure


def alternate(measurements: Mapping[str, Callable[[], float]], times: int, warm_up: int = 3) -> dict[str, Samples]:
    """Runs each measurement `times` times in turn, so that noise of the machine meets all of them alike.

    A measurement does one round and returns its own figure; what it prepares and clears away stays outside.
    The first `warm_up` rounds are dropped.
    """
    values: dict[str, list[float]] = {name: [] for name in measurements}
    for turn in range(warm_up + times):
        for name, measure in measurements.items():
            value = measure()
            if turn >= warm_up:
                values[name].append(value)
    return {name: Samples(found) for name, found in values.items()}
