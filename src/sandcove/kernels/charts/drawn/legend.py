"""A legend: what colours are called. Seaborn names its hues nowhere else."""

from __future__ import annotations

from typing import Any

from sandcove.kernels.charts.drawn.artists import hex_color, is_a
from sandcove.kernels.charts.plain import text

__all__ = ["Legend"]


class Legend:
    """The legend of axes, or of their figure where they have none."""

    def __init__(self, axes: list[Any]) -> None:
        self.title: str | None = None
        self.names: list[str] = []
        self._by_color: dict[str, str] = {}
        found = [each.get_legend() for each in axes if each.get_legend() is not None]
        if not found and axes:
            found = list(getattr(axes[0].get_figure(), "legends", ()))
        for legend in found:
            self._read(legend)

    def _read(self, legend: Any) -> None:
        self.title = self.title or text(legend.get_title().get_text())
        handles = getattr(legend, "legend_handles", None) or getattr(legend, "legendHandles", [])
        for handle, label in zip(handles, legend.get_texts(), strict=False):
            name = text(label.get_text())
            color = _color(handle)
            if name is None:
                continue
            self.names.append(name)
            if color is not None:
                self._by_color.setdefault(color, name)

    def __bool__(self) -> bool:
        return bool(self.names)

    def name(self, color: str | None) -> str | None:
        """What a colour is called."""
        return self._by_color.get(color) if color is not None else None

    def describe(self) -> dict[str, Any]:
        """The legend in a chart's layout."""
        return {"title": self.title, "names": self.names}


def _color(handle: Any) -> str | None:
    if is_a(handle, "Line2D"):
        marked = handle.get_linestyle() in ("None", "", " ") and handle.get_marker() not in ("None", "", None)
        return hex_color(handle.get_markerfacecolor() if marked else handle.get_color())
    if is_a(handle, "Patch"):
        face = hex_color(handle.get_facecolor()) if handle.get_fill() else None
        return face or hex_color(handle.get_edgecolor())
    if is_a(handle, "Collection"):
        for colors in (handle.get_facecolor(), handle.get_edgecolor()):
            if len(colors):
                return hex_color(colors[0])
    return None
