"""Axes and their twins, read into one chart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandcove.kernels.charts.drawn.artists import hex_color, in_data
from sandcove.kernels.charts.drawn.axis import Axis
from sandcove.kernels.charts.drawn.legend import Legend
from sandcove.kernels.charts.plain import text

__all__ = ["Plot", "Reader"]


class Plot:
    """The axes that are read: their artists, of which those are taken that a reader has understood."""

    def __init__(self, axes: Any, legend: Legend) -> None:
        self.axes = axes
        self.legend = legend
        self.x = Axis(axes, "x")
        self.y = Axis(axes, "y")
        self.z = Axis(axes, "z") if hasattr(axes, "zaxis") else None
        self.children = list(axes.get_children())
        self.order = {id(child): place for place, child in enumerate(self.children)}
        self.series: list[dict[str, Any]] = []
        self.places: list[int] = []
        """When the artist of each series was drawn."""
        self._taken: set[int] = set()
        self.mode: str | None = None
        self.failed: list[str] = []

    def axis(self, name: str) -> Axis:
        """The axis of a direction."""
        return self.x if name == "x" else self.y

    def take(self, *artists: Any) -> None:
        """They are understood: no other reader sees them."""
        self._taken.update(id(artist) for artist in artists)

    def is_taken(self, artist: Any) -> bool:
        """Whether a reader has understood it."""
        return id(artist) in self._taken

    def left(self, artists: Any) -> list[Any]:
        """Those of these artists that are not taken, visible, and in data coordinates."""
        return [
            artist
            for artist in artists
            if id(artist) not in self._taken and artist.get_visible() and in_data(artist, self.axes)
        ]

    def name(self, artist: Any, color: str | None = None, line: Any = None) -> str | None:
        """Its label, otherwise what the legend calls its colour, and its dashes if it is a line."""
        label = artist.get_label()
        if label is not None and not str(label).startswith("_") and str(label):
            return text(label)
        return self.legend.name(color, line)

    def add(self, series: dict[str, Any], artist: Any) -> None:
        """A series is found; it is ordered by when its artist was drawn."""
        self.series.append(series)
        self.places.append(self.order.get(id(artist), len(self.order)))

    def ordered(self) -> list[dict[str, Any]]:
        """The series in the order in which they were drawn."""
        return [self.series[place] for place in sorted(range(len(self.series)), key=self.places.__getitem__)]

    def read(self, readers: tuple[Reader, ...]) -> None:
        """Lets each reader take what it understands. What one fails on is left to the others."""
        for reader in readers:
            try:
                reader(self)
            except Exception as problem:  # noqa: BLE001 - whatever is odd in user's artists, the rest is told
                self.failed.append(f"{reader.__name__}: {type(problem).__name__}")

    def title(self) -> str | None:
        """The title, in the middle or at a side."""
        for place in ("center", "left", "right"):
            if told := text(self.axes.get_title(loc=place)):
                return told
        return None

    def layout(self) -> dict[str, Any]:
        """The axes as they are in the layout of a chart."""
        told: dict[str, Any] = {"x": self.x.describe(), "y": self.y.describe()}
        if self.z is not None:
            told["z"] = self.z.describe()
        projection = str(getattr(self.axes, "name", "rectilinear"))
        if projection != "rectilinear":
            told["projection"] = projection
        return told

    def line_color(self, line: Any) -> str | None:
        """The colour that a line is known by: of its markers where it has no stroke."""
        if line.get_linestyle() in ("None", "", " "):
            return hex_color(line.get_markerfacecolor()) or hex_color(line.get_markeredgecolor())
        return hex_color(line.get_color())


Reader = Callable[[Plot], None]
