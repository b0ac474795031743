"""An axis: what positions on it stand for."""

from __future__ import annotations

import itertools
import sys
from typing import Any

from sandcove.kernels.charts.drawn.artists import is_a
from sandcove.kernels.charts.plain import array_of, column, text, unit_of

__all__ = ["Axis"]

_MOST_TICKS = 2000


class Axis:
    """The axis of one direction of axes: ``x``, ``y`` or ``z``."""

    def __init__(self, axes: Any, name: str) -> None:
        self.axes = axes
        self.name = name
        self._axis = getattr(axes, f"{name}axis")
        self._others = _sharing(axes, name)
        every = [self._axis, *(getattr(other, f"{name}axis") for other in self._others)]
        # Of axes that share positions only the one that was drawn to first may know what they stand for.
        self._converter = next((found for found in map(_converter, every) if found is not None), None)
        self._units = next((found for axis in every if (found := axis.units) is not None), None)
        self.scale = self._scale()
        self._known = self._known_categories()
        self._ticks: dict[float, str] | None = None
        self.categories: list[str] | None = list(self._known.values()) if self._known else None
        """Those that are known or were used, in their order."""

    def _scale(self) -> str:
        if is_a(self._converter, "StrCategoryConverter"):
            return "category"
        if self.name == "x" and getattr(self.axes, "freq", None) is not None and "pandas" in sys.modules:
            return "period"
        formatter = self._axis.get_major_formatter()
        if is_a(self._converter, "DateConverter") or is_a(self._converter, "_SwitchableDateConverter"):
            return "date"
        if any(is_a(formatter, name) for name in ("DateFormatter", "AutoDateFormatter", "ConciseDateFormatter")):
            return "date"
        scale = str(self._axis.get_scale())
        return _behaviour(self._axis.get_transform()) or scale if scale.startswith("function") else scale

    def _known_categories(self) -> dict[float, str]:
        mapping = getattr(self._units, "_mapping", None)
        if self.scale != "category" or not mapping:
            return {}
        return {float(place): text(name) or "" for name, place in mapping.items()}

    @property
    def tick_labels(self) -> dict[float, str]:
        """The labels that were set by hand, by position; empty where matplotlib makes them of the numbers."""
        if self._ticks is None:
            self._ticks = self._fixed_ticks()
        return self._ticks

    def _fixed_ticks(self) -> dict[float, str]:
        locator, formatter = self._axis.get_major_locator(), self._axis.get_major_formatter()
        if not is_a(locator, "FixedLocator"):
            return {}
        places = [float(place) for place in locator.locs][:_MOST_TICKS]
        labels: list[Any]
        if is_a(formatter, "FixedFormatter"):
            labels = list(formatter.seq)
        else:
            # What `set_ticklabels` leaves: a function with the labels bound to it.
            bound = getattr(getattr(formatter, "func", None), "args", None)
            if not bound or not isinstance(bound[0], dict):
                return {}
            labels = [bound[0].get(place, "") for place in locator.locs]
        told = [text(getattr(label, "get_text", lambda label=label: label)()) for label in labels]
        return {place: label for place, label in zip(places, told, strict=False) if label}

    def values(self, positions: Any) -> Any:
        """What positions stand for: numbers, dates as datetime64 or text, names of categories."""
        if self.scale == "category":
            return self.names(positions) or positions
        if self.scale == "date":
            return _dates(positions)
        if self.scale == "period":
            return self._periods(positions)
        return self._named(positions)

    def names(self, positions: Any) -> list[str] | None:
        """The categories that lie at, or nearest to, these positions; None if there are none for some of them."""
        labels = self._known or self.tick_labels
        if not labels:
            return None
        places = sorted(labels)
        gaps = [after - before for before, after in itertools.pairwise(places)]
        reach = max(0.5 * min((gap for gap in gaps if gap > 0), default=1.0), 1e-9)
        found = []
        known: dict[float, str] = {}
        for position in column(positions):
            if not isinstance(position, (int, float)):
                return None
            name = known.get(position)
            if name is None:
                near = labels.get(round(position))
                place = (
                    float(round(position)) if near is not None else min(places, key=lambda each: abs(each - position))
                )
                if abs(place - position) > reach * 1.000001:
                    return None
                name = known[position] = labels[place]
            found.append(name)
        if self.categories is None:
            self.categories = [labels[place] for place in places]
        return found

    def _named(self, positions: Any) -> Any:
        """Names where every position is a whole number with a label that is no number; otherwise the positions."""
        labels = self.tick_labels
        if not labels or len(positions) == 0 or len(positions) > _MOST_TICKS or any(map(_is_number, labels.values())):
            return positions
        found = []
        for position in column(positions):
            if position is None or position != int(position) or position not in labels:
                return positions
            found.append(labels[position])
        if self.categories is None:
            self.categories = [labels[place] for place in sorted(labels)]
        return found

    def _periods(self, positions: Any) -> Any:
        """Pandas puts a time series at the ordinals of its periods."""
        pandas: Any = sys.modules["pandas"]
        ordinals = [int(position) for position in column(positions) if position is not None]
        if len(ordinals) != len(positions):
            return positions
        return pandas.PeriodIndex.from_ordinals(ordinals, freq=self.axes.freq).to_timestamp().to_numpy()

    def label(self) -> str | None:
        """What is written at the axis, otherwise at another of its column or row that it shares, or at the figure."""
        for axes in (self.axes, *(other for other in self._others if _in_line(self.axes, other, self.name))):
            axis = getattr(axes, f"{self.name}axis")
            if (axis.label.get_visible() or self._others) and (told := text(axis.get_label_text())):
                return told
        whole = getattr(self.axes.figure, f"_sup{self.name}label", None)
        return text(whole.get_text()) if whole is not None else None

    def describe(self) -> dict[str, Any]:
        """The axis in a chart's layout."""
        label = self.label()
        scale = "date" if self.scale == "period" else self.scale
        if scale == "linear" and self.categories is not None:
            scale = "category"
        told: dict[str, Any] = {"label": label, "scale": scale, "unit": unit_of(label)}
        if self.categories is not None:
            told["categories"] = self.categories
        else:
            low, high = getattr(self.axes, f"get_{self.name}lim")()
            told["limits"] = column(self.values(array_of([low, high])))
            if scale != "date" and self.tick_labels and len(self.tick_labels) <= 100:
                told["ticks"] = [{"value": place, "label": label} for place, label in sorted(self.tick_labels.items())]
        return told


def _sharing(axes: Any, name: str) -> list[Any]:
    """The other axes whose axis of this direction is the same, in the order of their figure."""
    shared = getattr(axes, f"get_shared_{name}_axes", None)
    if shared is None:
        return []
    siblings = {id(each) for each in shared().get_siblings(axes)}
    return [each for each in axes.figure.axes if each is not axes and id(each) in siblings]


def _in_line(axes: Any, other: Any, name: str) -> bool:
    """Whether two axes of a grid stand in the same column, for ``x``, or the same row, for ``y``."""
    first, second = (each.get_subplotspec() if hasattr(each, "get_subplotspec") else None for each in (axes, other))
    if first is None or second is None:
        return False
    one, two = (spec.colspan if name == "x" else spec.rowspan for spec in (first, second))
    return bool(one.start < two.stop and two.start < one.stop)


def _converter(axis: Any) -> Any:
    get_converter = getattr(axis, "get_converter", None)
    return get_converter() if get_converter is not None else getattr(axis, "converter", None)


def _behaviour(transform: Any) -> str | None:
    """``linear`` or ``log``, as a scale by a function of the user's, or of seaborn's objects, behaves."""
    numpy: Any = sys.modules["numpy"]
    try:
        one, two, ten, hundred = (float(each) for each in transform.transform(numpy.array([1.0, 2.0, 10.0, 100.0])))
    except Exception:  # noqa: BLE001 - a function of the user's
        return None
    if numpy.allclose([(two - one) * 9, (two - one) * 99], [ten - one, hundred - one]) and two != one:
        return "linear"
    return "log" if two != one and numpy.isclose(hundred - ten, ten - one) else None


def _is_number(label: str) -> bool:
    try:
        float(label.replace("−", "-").replace("$", "").replace(",", "").rstrip("%"))
    except ValueError:
        return False
    return True


def _dates(positions: Any) -> Any:
    """Days since matplotlib's epoch, as datetime64 to the microsecond that a float still holds."""
    numpy: Any = sys.modules["numpy"]
    dates: Any = sys.modules.get("matplotlib.dates")
    days = numpy.asarray(positions, dtype=float)
    if dates is None or not days.size:
        return days
    epoch = numpy.datetime64(dates.get_epoch(), "us")
    missing = ~numpy.isfinite(days)
    # A float of days has about 1 us at present dates: rounded to 10 us, midnight is midnight.
    spans = (numpy.round(numpy.where(missing, 0.0, days) * 8_640_000_000) * 10).astype("timedelta64[us]")
    found = epoch + spans
    found[missing] = numpy.datetime64("NaT")
    return found
