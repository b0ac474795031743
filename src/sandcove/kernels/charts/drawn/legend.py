"""A legend: what colours and dashes are called. Seaborn names its hues and styles nowhere else."""

from __future__ import annotations

from typing import Any

from sandcove.kernels.charts.drawn.artists import hex_color, is_a
from sandcove.kernels.charts.plain import text

__all__ = ["Legend"]


class _Part:
    """The entries below one heading: what differs between them is what they explain."""

    def __init__(self) -> None:
        self.colors: dict[str | None, set[str]] = {}
        self.dashes: dict[Any, set[str]] = {}

    def add(self, handle: Any, name: str) -> None:
        """An entry."""
        self.colors.setdefault(_color(handle), set()).add(name)
        self.dashes.setdefault(_dashes(handle), set()).add(name)

    def name(self, color: str | None, line: Any) -> str | None:
        """What a colour is called here, or, where all are of one colour, the dashes of a line."""
        if len(self.colors) > 1 or line is None or len(self.dashes) < 2:
            found = self.colors.get(color, set()) if color is not None else set()
            if len(found) < 2 or line is None:
                return _only(found)
            return _only(found & self.dashes.get(_dashes(line), set()))
        return _only(self.dashes.get(_dashes(line), set()))


class Legend:
    """The legend of axes, or of their figure where they have none."""

    def __init__(self, axes: list[Any]) -> None:
        self.title: str | None = None
        self.names: list[str] = []
        self._parts = [_Part()]
        found = [each.get_legend() for each in axes if each.get_legend() is not None]
        if not found and axes:
            found = list(getattr(axes[0].get_figure(), "legends", ())) or _shared(axes[0])
        for legend in found:
            self._read(legend)

    def _read(self, legend: Any) -> None:
        self.title = self.title or text(legend.get_title().get_text())
        for handle, name in _entries(legend):
            if not _is_seen(handle):  # a heading, as seaborn makes them
                self._parts.append(_Part())
                continue
            self.names.append(name)
            self._parts[-1].add(handle, name)

    def __bool__(self) -> bool:
        return bool(self.names)

    def name(self, color: str | None, line: Any = None) -> str | None:
        """What an artist of this colour is called: of a legend of several parts what each of them says."""
        told = [part.name(color, line) for part in self._parts]
        return ", ".join(dict.fromkeys(name for name in told if name is not None)) or None

    def describe(self) -> dict[str, Any]:
        """The legend in a chart's layout."""
        return {"title": self.title, "names": self.names}


def _entries(legend: Any) -> list[tuple[Any, str]]:
    handles = getattr(legend, "legend_handles", None) or getattr(legend, "legendHandles", [])
    pairs = zip(handles, legend.get_texts(), strict=False)
    return [(handle, name) for handle, label in pairs if (name := text(_without_markup(label.get_text()))) is not None]


def _without_markup(label: str) -> str:
    """A number as `legend_elements` writes it, without the commands around it."""
    start, end = "$\\mathdefault{", "}$"
    inner = label[len(start) : -len(end)]
    return inner if label.startswith(start) and label.endswith(end) and "{" not in inner else label


def _shared(axes: Any) -> list[Any]:
    """The legend of axes that share an axis with these, if it explains colours rather than that axes' own labels."""
    for name in "xy":
        shared = getattr(axes, f"get_shared_{name}_axes", None)
        for other in shared().get_siblings(axes) if shared is not None else ():
            legend = other.get_legend()
            if other is axes or legend is None:
                continue
            own = set(other.get_legend_handles_labels()[1])
            if not own.intersection(label.get_text() for label in legend.get_texts()):
                return [legend]
    return []


def _is_seen(handle: Any) -> bool:
    if not is_a(handle, "Line2D"):
        return bool(handle.get_visible())
    marked = handle.get_marker() not in ("None", "", " ", None) and handle.get_markersize() > 0
    return marked or (handle.get_linewidth() > 0 and handle.get_linestyle() not in ("None", "", " "))


def _only(names: set[str]) -> str | None:
    return next(iter(names)) if len(names) == 1 else None


def _dashes(handle: Any) -> Any:
    """What tells the dashes of a line from others, whatever its width; None of what is no line."""
    if not is_a(handle, "Line2D"):
        return None
    pattern = getattr(handle, "_unscaled_dash_pattern", None)
    if pattern is None or not pattern[1]:
        return handle.get_linestyle() if handle.get_linestyle() in ("None", "", " ") else "-"
    return tuple(round(float(each), 6) for each in pattern[1])


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
