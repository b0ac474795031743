"""A chart as data: what a picture was drawn from."""

from __future__ import annotations

from typing import Any

__all__ = ["Chart"]


class Chart:
    """A chart as data.

    It was told by code in the sandbox, so nothing in it is more to be believed than what that code prints.

    Attributes:
        type: such as ``line``, ``bar``, ``scatter``, ``histogram``, ``pie``, ``box``, ``heatmap``, or ``unknown``.
        title: or None.
        library: what drew it, such as ``matplotlib``.
        layout: its axes, ``x`` and ``y`` among them: labels, units or scales.
        data: its series, each a dict with its points.
        subplots: the charts of a figure that has several; else empty.
        truncated: it had more points than are sent.
        raw: all of it, as the wire has it.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw

    @property
    def type(self) -> str:
        return str(self.raw.get("type") or "unknown")

    @property
    def title(self) -> str | None:
        title = self.raw.get("title")
        return None if title is None else str(title)

    @property
    def library(self) -> str:
        return str(self.raw.get("library") or "unknown")

    @property
    def layout(self) -> dict[str, Any]:
        layout = self.raw.get("layout")
        return layout if isinstance(layout, dict) else {}

    @property
    def data(self) -> list[dict[str, Any]]:
        return self._dicts("data")

    @property
    def subplots(self) -> list[Chart]:
        return [Chart(inner) for inner in self._dicts("subplots")]

    @property
    def truncated(self) -> bool:
        return self.raw.get("truncated") is True

    def _dicts(self, name: str) -> list[dict[str, Any]]:
        found = self.raw.get(name)
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []

    def __repr__(self) -> str:
        parts = f"{len(self.subplots)} subplots" if self.subplots else f"{len(self.data)} series"
        return f"<Chart {self.type} {'' if self.title is None else f'{self.title!r} '}of {parts}>"
