"""Charts of altair's: what their Vega-Lite document says, and the rows that it holds.

A browser bins and aggregates the rows; what is simple of that is done here. After transformations of the rows, which
are a language of their own, the series say ``"transformed"`` and have what the rows had before.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

from sandcove.kernels.charts.counts import aggregated, box_of, nice_bins
from sandcove.kernels.charts.kinds import kind_of
from sandcove.kernels.charts.plain import text, unit_of

__all__ = ["chart_of_altair", "is_altair"]

_KINDS = {
    "line": "line",
    "trail": "line",
    "area": "area",
    "bar": "bar",
    "arc": "pie",
    "rect": "heatmap",
    "boxplot": "box",
    **dict.fromkeys(("point", "circle", "square", "tick", "text", "image"), "scatter"),
}
_AIDS = {"rule", "errorbar", "errorband"}
"""Marks that are no series beside others."""
_SPLITS = ("color", "fill", "stroke", "detail", "shape", "strokeDash", "xOffset", "yOffset")
"""Channels whose values make series."""
_NUMERIC = {"quantitative", "temporal"}
_NAMES = {"mean": "Average", "average": "Average", "count": "Count", "distinct": "Distinct"}

Row = Mapping[str, Any]


def is_altair(obj: Any) -> bool:
    """Whether it is a chart, of any composition."""
    kind = type(obj)
    return kind.__module__.startswith("altair.") and "altair" in sys.modules and hasattr(obj, "to_dict")


def chart_of_altair(obj: Any) -> dict[str, Any] | None:
    """The chart; None if it is another object of altair's."""
    document = obj.to_dict(validate=False)
    if not isinstance(document, dict) or "$schema" not in document:
        return None
    return _View(document, document.get("datasets") or {}).chart()


def _title(document: Row) -> str | None:
    told = document.get("title")
    if isinstance(told, Mapping):
        told = told.get("text")
    return text(" ".join(told) if isinstance(told, list) else told)


class _View:
    """A part of the document, with what it takes from those around it."""

    def __init__(self, document: Row, datasets: Row, around: _View | None = None) -> None:
        self.document = document
        self.datasets = datasets
        self.encoding: dict[str, Any] = {**(around.encoding if around else {}), **document.get("encoding", {})}
        own = document.get("data")
        self.rows: list[Row] = self._rows(own) if own else around.rows if around else []
        self.transformed: bool = bool(document.get("transform")) or (around is not None and around.transformed)

    def _rows(self, data: Row) -> list[Row]:
        found = self.datasets.get(data["name"], []) if "name" in data else data.get("values", [])
        return [row if isinstance(row, Mapping) else {"data": row} for row in found] if isinstance(found, list) else []

    def _inner(self, document: Row) -> _View:
        return _View(document, self.datasets, self)

    def chart(self) -> dict[str, Any]:
        """Several charts side by side, layers over each other, or one mark."""
        for key in ("hconcat", "vconcat", "concat"):
            if key in self.document:
                return self._side_by_side([self._inner(each).chart() for each in self.document[key]])
        if "facet" in self.document or "repeat" in self.document:
            return self._side_by_side(self._repeated())
        split = {key: self.encoding[key] for key in ("facet", "row", "column") if key in self.encoding}
        if split:
            return self._side_by_side(self._faceted(list(split.values()), self.document))
        layers = [self._inner(each) for each in self.document.get("layer", ())] or [self]
        layers = [inner for layer in layers for inner in layer.flat()]
        marks = [layer for layer in layers if layer.mark not in _AIDS] or layers
        data = [series for layer in marks for series in layer.series()]
        first = marks[0] if marks else self
        chart: dict[str, Any] = {
            "type": kind_of(data),
            "title": _title(self.document),
            "library": "altair",
            "layout": first.layout(),
            "data": data,
        }
        bars = [series for series in data if series["type"] == "bar"]
        if len(bars) > 1:
            offset = any("xOffset" in layer.encoding or "yOffset" in layer.encoding for layer in marks)
            chart["mode"] = "grouped" if offset else "stacked"
        return chart

    def flat(self) -> list[_View]:
        """The marks of layers in layers."""
        if "layer" not in self.document:
            return [self]
        return [each for inner in self.document["layer"] for each in self._inner(inner).flat()]

    def _side_by_side(self, charts: list[dict[str, Any]]) -> dict[str, Any]:
        told = [chart for chart in charts if chart["data"] or chart.get("subplots")]
        whole: dict[str, Any] = {
            "type": "subplots",
            "title": _title(self.document),
            "library": "altair",
            "layout": {},
            "data": [],
        }
        return {**whole, "subplots": told}

    def _faceted(self, channels: list[Row], inner: Row) -> list[dict[str, Any]]:
        fields = [str(channel["field"]) for channel in channels if "field" in channel]
        parts: dict[tuple[str, ...], list[Row]] = {}
        for row in self.rows:
            parts.setdefault(tuple(str(row.get(field)) for field in fields), []).append(row)
        found = []
        for names, rows in sorted(parts.items()):
            part = self._inner({key: value for key, value in inner.items() if key not in ("facet", "data", "title")})
            part.rows = rows
            for key in ("facet", "row", "column"):
                part.encoding.pop(key, None)
            found.append({**part.chart(), "title": ", ".join(names)})
        return found

    def _repeated(self) -> list[dict[str, Any]]:
        inner = self.document.get("spec", {})
        if "facet" in self.document:
            facet = self.document["facet"]
            return self._faceted([facet] if "field" in facet else list(facet.values()), inner)
        repeat = self.document["repeat"]
        ways: list[dict[str, str]] = [{"repeat": field} for field in repeat] if isinstance(repeat, list) else [{}]
        if isinstance(repeat, Mapping):
            for key, fields in repeat.items():
                ways = [{**way, key: field} for way in ways for field in fields]
        return [self._inner(_filled(inner, way)).chart() for way in ways]

    # --- one mark ---------------------------------------------------------------------------------------

    @property
    def mark(self) -> str:
        mark = self.document.get("mark", "")
        return str(mark.get("type", "") if isinstance(mark, Mapping) else mark)

    def channel(self, name: str) -> Row:
        """What is drawn along a channel; empty where nothing is."""
        found = self.encoding.get(name)
        return found if isinstance(found, Mapping) and ("field" in found or "aggregate" in found) else {}

    def layout(self) -> dict[str, Any]:
        """Its axes, and the scale of its colours."""
        if self.mark == "arc":
            return {}
        told = {name: self._axis(name) for name in ("x", "y") if self.channel(name)}
        color = self.channel("color")
        if color.get("type") == "quantitative" or "aggregate" in color:
            told["colorbar"] = self._axis("color")
        return told

    def _axis(self, name: str) -> dict[str, Any]:
        channel = self.channel(name)
        label = _label(channel)
        scale = (channel.get("scale") or {}).get("type")
        kind = channel.get("type")
        known = {"temporal": "date", "nominal": "category", "ordinal": "category"}
        told = {"label": label, "scale": scale or known.get(str(kind), "linear"), "unit": unit_of(label)}
        if told["scale"] == "category":
            found = {_told(row.get(_field(channel))): None for row in self.rows}
            told["categories"] = list(found)
        return told

    def series(self) -> list[dict[str, Any]]:
        """One for each value of what splits them; their rows aggregated where the channels say so."""
        kind = _KINDS.get(self.mark)
        if kind is None:
            kind = "map" if self.mark == "geoshape" else "unknown"
            return [{"type": kind, "name": None, "kind": self.mark}]
        if kind == "pie":
            return [self._marked(self._pie())]
        if kind == "heatmap":
            return [self._marked(self._heatmap())]
        split = next((c for c in map(self.channel, _SPLITS) if c and c.get("type") not in _NUMERIC), {})
        parts: dict[Any, list[Row]] = {}
        for row in self.rows:
            parts.setdefault(row.get(_field(split)) if split else None, []).append(row)
        found = []
        for name, rows in parts.items():
            own = {"type": kind, "name": _named(name)}
            found += [self._marked({**own, **series}) for series in self._of(kind, rows)]
        return found or [self._marked({"type": kind, "name": None})]

    def _marked(self, series: dict[str, Any]) -> dict[str, Any]:
        return {**series, "transformed": True} if self.transformed else series

    def _of(self, kind: str, rows: list[Row]) -> list[dict[str, Any]]:
        x, y = self.channel("x"), self.channel("y")
        if kind == "box":
            return self._boxes(rows)
        if kind == "bar" and (binned := self._histogram(rows)):
            return [binned]
        xs, ys = self._columns(("x", "y"), rows)
        if kind != "bar":
            if kind in ("line", "area") and all(isinstance(value, (int, float, str)) for value in xs):
                order = sorted(range(len(xs)), key=lambda at: (isinstance(xs[at], str), xs[at]))
                xs, ys = [xs[at] for at in order], [ys[at] for at in order] if ys else ys
            series: dict[str, Any] = {"x": xs, "y": ys}
            if (size := self.channel("size")) and "field" in size:
                series["sizes"] = [row.get(_field(size)) for row in rows]
            return [series]
        flat = y.get("type") not in _NUMERIC and "aggregate" not in y and bool(x)
        orientation = "horizontal" if flat and y else "vertical"
        categories, values = (ys, xs) if orientation == "horizontal" else (xs, ys)
        return [{"categories": categories, "values": values, "orientation": orientation}]

    def _columns(self, names: tuple[str, ...], rows: list[Row]) -> list[list[Any]]:
        """The values along channels; of rows that are alike in all others one value, where one is an aggregate."""
        channels = [self.channel(name) for name in names]
        if not any("aggregate" in channel for channel in channels):
            return [[_told(row.get(_field(c))) for row in rows] if c else [] for c in channels]
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in rows:
            key = tuple(_told(row.get(_field(c))) for c in channels if c and "aggregate" not in c)
            groups.setdefault(key, []).append(row)
        columns: list[list[Any]] = []
        at = 0
        for channel in channels:
            if not channel:
                columns.append([])
            elif "aggregate" in channel:
                kind = str(channel["aggregate"])
                columns.append([aggregated(kind, [row.get(_field(channel)) for row in own]) for own in groups.values()])
            else:
                columns.append([key[at] for key in groups])
                at += 1
        return columns

    def _histogram(self, rows: list[Row]) -> dict[str, Any] | None:
        for along, other in (("x", "y"), ("y", "x")):
            channel = self.channel(along)
            if not channel.get("bin") or channel.get("bin") == "binned":
                continue
            options = channel["bin"] if isinstance(channel["bin"], Mapping) else {}
            field = _field(channel)
            values = [float(v) for row in self.rows if isinstance(v := row.get(field), (int, float))]
            if not values:
                return None
            low, high = min(values), max(values)
            if options.get("step"):
                step = float(options["step"])
                edges = [low // step * step + n * step for n in range(int((high - low // step * step) // step) + 2)]
            else:
                edges = nice_bins(low, high, int(options.get("maxbins") or 10))
            bins: list[list[Row]] = [[] for _ in edges[1:]]
            step = edges[1] - edges[0]
            for row in rows:
                value = row.get(field)
                if isinstance(value, (int, float)):
                    bins[min(max(int((value - edges[0]) / step + 1e-9), 0), len(bins) - 1)].append(row)
            measure = self.channel(other)
            kind, of = str(measure.get("aggregate", "count")), _field(measure)
            counts = [aggregated(kind, [row.get(of) for row in own]) if own or kind == "count" else 0 for own in bins]
            orientation = "vertical" if along == "x" else "horizontal"
            return {"type": "histogram", "edges": edges, "counts": counts, "orientation": orientation}
        return None

    def _boxes(self, rows: list[Row]) -> list[dict[str, Any]]:
        x, y = self.channel("x"), self.channel("y")
        flat = x.get("type") == "quantitative" and y.get("type") != "quantitative"
        values, group = (x, y) if flat else (y, x)
        parts: dict[Any, list[Any]] = {}
        for row in rows:
            parts.setdefault(row.get(_field(group)) if group else None, []).append(row.get(_field(values)))
        orientation = "horizontal" if flat else "vertical"
        return [{"category": _told(name), "orientation": orientation, **box_of(own)} for name, own in parts.items()]

    def _pie(self) -> dict[str, Any]:
        label = next((c for c in map(self.channel, ("color", "fill", "order", "text")) if c), {})
        theta = self.channel("theta") or self.channel("radius")
        groups: dict[Any, list[Any]] = {}
        for row in self.rows:
            groups.setdefault(_told(row.get(_field(label))), []).append(row.get(_field(theta)))
        kind = str(theta.get("aggregate", "sum")) if theta else "count"
        values = [aggregated(kind, own) for own in groups.values()]
        return {"type": "pie", "name": None, "labels": list(groups), "values": values}

    def _heatmap(self) -> dict[str, Any]:
        color = self.channel("color") or self.channel("fill")
        across, up = self.channel("x"), self.channel("y")
        cells: dict[tuple[Any, Any], list[Any]] = {}
        for row in self.rows:
            key = (_told(row.get(_field(across))), _told(row.get(_field(up))))
            cells.setdefault(key, []).append(row.get(_field(color)))
        xs, ys = ({key[at]: None for key in cells} for at in (0, 1))
        kind = str(color.get("aggregate", "sum"))
        table = [[aggregated(kind, cells[x, y]) if (x, y) in cells else None for x in xs] for y in ys]
        return {"type": "heatmap", "name": None, "x": list(xs), "y": list(ys), "values": table}


def _field(channel: Row) -> str:
    return str(channel.get("field", ""))


def _named(value: Any) -> str | None:
    return None if value is None else text(value)


def _told(value: Any) -> Any:
    # Altair writes midnight of each date down.
    return re.sub(r"T00:00:00(\.0+)?$", "", value) if isinstance(value, str) else value


def _label(channel: Row) -> str | None:
    """What stands at an axis: its title, or what Vega-Lite makes of field and aggregate."""
    for holder in (channel, channel.get("axis") or {}, channel.get("legend") or {}):
        if isinstance(holder, Mapping) and "title" in holder:
            told = holder["title"]
            return text(" ".join(told) if isinstance(told, list) else told)
    kind, field = channel.get("aggregate"), _field(channel)
    if kind == "count":
        return "Count of Records"
    if isinstance(kind, str):
        return f"{_NAMES.get(kind, kind.capitalize())} of {field}"
    return text(f"{field} (binned)" if channel.get("bin") else field)


def _filled(document: Any, fields: Mapping[str, str]) -> Any:
    """The document with what it repeats over put in its place."""
    if isinstance(document, Mapping):
        if set(document) == {"repeat"}:
            return fields.get(str(document["repeat"]), "")
        return {key: _filled(value, fields) for key, value in document.items()}
    if isinstance(document, list):
        return [_filled(value, fields) for value in document]
    return document
