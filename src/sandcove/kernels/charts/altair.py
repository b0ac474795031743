"""Charts of altair's: what their Vega-Lite document says, and the rows that it holds.

A browser bins and aggregates the rows; what is simple of that is done here. After transformations of the rows, which
are a language of their own, the series say ``"transformed"`` and have what the rows had before.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from typing import Any

from sandcove.kernels.charts.altair_channels import (
    NUMERIC,
    Row,
    bins_of,
    field_of,
    in_order,
    label_of,
    title_of,
    value_of,
)
from sandcove.kernels.charts.bounds import MOST_SERIES
from sandcove.kernels.charts.counts import aggregated, box_of
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
_NOTES = {"text", "image"}
"""Marks that are notes on those that they lie over."""


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
        self._ordered: dict[str, list[Any]] = {}
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
        repeat = self.document.get("repeat")
        if isinstance(repeat, Mapping) and set(repeat) == {"layer"}:
            spec = self.document.get("spec", {})
            rest = {key: value for key, value in self.document.items() if key not in ("repeat", "spec")}
            layered = {**rest, "layer": [_filled(spec, {"layer": field}) for field in repeat["layer"]]}
            return _View(layered, self.datasets, self).chart()
        if "facet" in self.document or "repeat" in self.document:
            return self._side_by_side(self._repeated())
        split = {key: self.encoding[key] for key in ("facet", "row", "column") if key in self.encoding}
        if split:
            return self._side_by_side(self._faceted(list(split.values()), self.document))
        layers = [self._inner(each) for each in self.document.get("layer", ())] or [self]
        layers = [inner for layer in layers for inner in layer.flat()]
        marks = [layer for layer in layers if layer.mark not in _AIDS] or layers
        marks = [layer for layer in marks if layer.mark not in _NOTES] or marks
        first = marks[0] if marks else self
        layout = first.layout()
        data: list[dict[str, Any]] = []
        apart = (self.document.get("resolve") or {}).get("scale") or {}
        for number, layer in enumerate(marks, 1):
            found = layer.series()
            for name in "xy":
                if number > 1 and apart.get(name) == "independent" and layer.channel(name):
                    layout[f"{name}{number}"] = layer.layout()[name]
                    found = [{**series, "axis": f"{name}{number}"} for series in found]
            data += found
        chart: dict[str, Any] = {
            "type": kind_of(data),
            "title": _title(self.document),
            "library": "altair",
            "layout": layout,
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
        label = label_of(channel)
        scale = (channel.get("scale") or {}).get("type")
        kind = channel.get("type")
        known = {"temporal": "date", "nominal": "category", "ordinal": "category"}
        made = (channel.get("bin") or channel.get("timeUnit")) and label != title_of(channel)
        described = {
            "label": label,
            "scale": scale or known.get(str(kind), "linear"),
            "unit": None if made else unit_of(label),  # what is in brackets says how it was made
        }
        if described["scale"] == "category":
            described["categories"] = self._categories(name)
        return described

    def _categories(self, name: str) -> list[Any]:
        """Those of a channel, in their order."""
        if name not in self._ordered:
            channel, others = self.channel(name), {"x": "y", "y": "x"}
            other = self.channel(others.get(name, "y"))
            self._ordered[name] = in_order(channel, self.values(name, self.rows), self.rows, other)
        return self._ordered[name]

    def values(self, name: str, rows: list[Row]) -> list[Any]:
        """What a channel has of each of these rows."""
        channel = self.channel(name)
        edges = bins_of(channel, self.rows)
        return [value_of(channel, row, edges) for row in rows]

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
        split = next((n for n in _SPLITS if (c := self.channel(n)) and c.get("type") not in NUMERIC), None)
        if split is None or set(self.values(split, self.rows)) <= {None}:  # that is made by a transformation
            split = None
            parts: dict[Any, list[Row]] = {None: self.rows} if self.rows else {}
        else:
            parts = {name: [] for name in self._categories(split)}
            for name, row in zip(self.values(split, self.rows), self.rows, strict=False):
                parts[name].append(row)
        channels = [channel for name in _SPLITS if isinstance(channel := self.encoding.get(name), Mapping)]
        datum = next((channel["datum"] for channel in channels if "datum" in channel), None)
        found = []
        for name, rows in itertools.islice(parts.items(), MOST_SERIES + 1):  # one too many shows that there are more
            own = {"type": kind, "name": text(datum if split is None else "null" if name is None else name)}
            found += [self._marked({**own, **series}) for series in self._of(kind, rows)]
        told_by = ("x", "y", "values", "counts", "median")
        seen = [series for series in found if any(series.get(key) not in (None, []) for key in told_by)]
        return seen or [self._marked({"type": kind, "name": None})]

    def _marked(self, series: dict[str, Any]) -> dict[str, Any]:
        return {**series, "transformed": True} if self.transformed else series

    def _of(self, kind: str, rows: list[Row]) -> list[dict[str, Any]]:
        x, y = self.channel("x"), self.channel("y")
        if kind == "box":
            return self._boxes(rows)
        if kind == "bar" and (binned := self._histogram(rows)):
            return [binned]
        sized = next((name for name in ("size", "color") if "aggregate" in self.channel(name)), None)
        names = ("x", "y", sized) if sized and not ("aggregate" in x or "aggregate" in y) else ("x", "y")
        xs, ys, *more = self._columns(names, rows)
        if kind == "bar":
            return [self._bars(xs, ys, rows)]
        series: dict[str, Any] = {"x": xs, "y": ys}
        if more:
            series["sizes" if sized == "size" else "values"] = more[0]
        elif len(xs) == len(rows) == len(ys):
            for key, name in (("sizes", "size"), ("values", "color")):
                channel = self.channel(name)
                if "field" in channel and channel.get("type") in NUMERIC:
                    series[key] = self.values(name, rows)
            for other in ("x", "y"):
                if f"{other}2" in self.encoding:
                    ends = zip(series[other], self.values(f"{other}2", rows), strict=False)
                    pairs = [sorted(pair, key=_by_size) for pair in ends]
                    series[f"{other}_low"], series[f"{other}_high"] = ([pair[at] for pair in pairs] for at in (0, 1))
        order = self._drawn(kind, rows, series)
        return [{key: [own[at] for at in order] if len(own) == len(xs) else own for key, own in series.items()}]

    def _drawn(self, kind: str, rows: list[Row], series: dict[str, Any]) -> list[int]:
        """Which points are seen, in what order: those of a line along its axis, or as ``order`` says."""
        x, y = self.channel("x"), self.channel("y")
        xs, ys = series["x"], series["y"]
        order = list(range(len(xs)))
        if not xs or not ys:
            return order
        flat = x.get("type") == "quantitative" and y.get("type") not in (None, "quantitative")
        flat = flat or ("aggregate" in x and "aggregate" not in y)
        along = "y" if flat else "x"
        seen = [at for at in order if (xs[at] is not None and ys[at] is not None) or kind in ("line", "area")]
        if kind not in ("line", "area"):
            return seen
        seen = [at for at in seen if series[along][at] is not None]
        by = self.channel("order")
        if "field" in by and len(rows) == len(xs):
            ranks = self.values("order", rows)
        elif self.encoding.get("order") is not None and not by:  # it says that they are as they come
            return seen
        elif self.channel(along).get("type") in NUMERIC:
            ranks = series[along]
        else:
            places = {name: place for place, name in enumerate(self._categories(along))}
            ranks = [places.get(value) for value in series[along]]
        return sorted(seen, key=lambda at: _by_size(ranks[at]))

    def _bars(self, xs: list[Any], ys: list[Any], rows: list[Row]) -> dict[str, Any]:
        x, y = self.channel("x"), self.channel("y")
        ranged = next((name for name in "xy" if f"{name}2" in self.encoding), None)
        measured = y.get("type") in NUMERIC or "aggregate" in y
        flat = ranged == "x" or (ranged is None and bool(x) and bool(y) and (not measured or _is_flat(x, y)))
        along, values = ("y", xs) if flat else ("x", ys)
        series: dict[str, Any] = {
            "categories": ys if flat else xs,
            "values": values,
            "orientation": "horizontal" if flat else "vertical",
        }
        if ranged is not None and len(rows) == len(values):
            ends = self.values(f"{ranged}2", rows)
            series["base"] = values
            series["values"] = [
                end - start if isinstance(start, (int, float)) and isinstance(end, (int, float)) else end
                for start, end in zip(values, ends, strict=False)
            ]
        if self.channel(along).get("type") not in NUMERIC and series["categories"]:
            places = {name: place for place, name in enumerate(self._categories(along))}
            order = sorted(range(len(series["categories"])), key=lambda at: places.get(series["categories"][at], 0))
            for key in ("categories", "values", "base"):
                if len(series.get(key, ())) == len(order):
                    series[key] = [series[key][at] for at in order]
        return series

    def _columns(self, names: tuple[str, ...], rows: list[Row]) -> list[list[Any]]:
        """The values along channels; of rows that are alike in all others one value, where one is an aggregate."""
        channels = [self.channel(name) for name in names]
        plain = {name: self.values(name, rows) for name, c in zip(names, channels, strict=False) if c}
        if not any("aggregate" in channel for channel in channels):
            return [plain.get(name, []) for name in names]
        keys = [plain[name] for name, c in zip(names, channels, strict=False) if c and "aggregate" not in c]
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for at, row in enumerate(rows):
            groups.setdefault(tuple(key[at] for key in keys), []).append(row)
        columns: list[list[Any]] = []
        at = 0
        for channel in channels:
            if not channel:
                columns.append([])
            elif "aggregate" in channel:
                kind = str(channel["aggregate"])
                columns.append(
                    [aggregated(kind, [row.get(field_of(channel)) for row in own]) for own in groups.values()]
                )
            else:
                columns.append([key[at] for key in groups])
                at += 1
        return columns

    def _histogram(self, rows: list[Row]) -> dict[str, Any] | None:
        for along, other in (("x", "y"), ("y", "x")):
            channel = self.channel(along)
            if not channel.get("bin") or channel.get("bin") == "binned":
                continue
            field = field_of(channel)
            edges = bins_of(channel, self.rows)
            if edges is None or (self.channel(other) and "aggregate" not in self.channel(other)):
                return None
            bins: list[list[Row]] = [[] for _ in edges[1:]]
            step = edges[1] - edges[0]
            for row in rows:
                value = row.get(field)
                if isinstance(value, (int, float)):
                    bins[min(max(int((value - edges[0]) / step + 1e-9), 0), len(bins) - 1)].append(row)
            measure = self.channel(other)
            kind, of = str(measure.get("aggregate", "count")), field_of(measure)
            counts = [aggregated(kind, [row.get(of) for row in own]) if own or kind == "count" else 0 for own in bins]
            orientation = "vertical" if along == "x" else "horizontal"
            return {"type": "histogram", "edges": edges, "counts": counts, "orientation": orientation}
        return None

    def _boxes(self, rows: list[Row]) -> list[dict[str, Any]]:
        x, y = self.channel("x"), self.channel("y")
        flat = x.get("type") == "quantitative" and y.get("type") != "quantitative"
        values, group = (x, "y") if flat else (y, "x")
        grouped = bool(self.channel(group))
        parts: dict[Any, list[Any]] = {name: [] for name in self._categories(group)} if grouped else {}
        names = self.values(group, rows) if grouped else [None] * len(rows)
        for name, row in zip(names, rows, strict=False):
            parts.setdefault(name, []).append(row.get(field_of(values)))
        mark = self.document.get("mark")
        extent = mark.get("extent") if isinstance(mark, Mapping) else None
        orientation = "horizontal" if flat else "vertical"
        return [
            {"category": name, "orientation": orientation, **box_of(own, between=True, whole=extent == "min-max")}
            for name, own in parts.items()
            if own
        ]

    def _pie(self) -> dict[str, Any]:
        label = next((name for name in ("color", "fill", "order", "text") if self.channel(name)), "color")
        theta = self.channel("theta") or self.channel("radius")
        groups: dict[Any, list[Any]] = {name: [] for name in self._categories(label)}
        for name, row in zip(self.values(label, self.rows), self.rows, strict=False):
            groups[name].append(row.get(field_of(theta)))
        kind = str(theta.get("aggregate", "sum")) if theta else "count"
        values = [aggregated(kind, own) for own in groups.values()]
        return {"type": "pie", "name": None, "labels": list(groups), "values": values}

    def _heatmap(self) -> dict[str, Any]:
        color = self.channel("color") or self.channel("fill")
        cells: dict[tuple[Any, Any], list[Any]] = {}
        columns = [self.values(name, self.rows) for name in "xy"]
        for x, y, row in zip(*columns, self.rows, strict=False):
            cells.setdefault((x, y), []).append(row.get(field_of(color)))
        series: dict[str, Any] = {"type": "heatmap", "name": None}
        for name in "xy":
            edges = bins_of(self.channel(name), self.rows)
            if edges is not None:
                series[f"{name}_edges"] = edges
                series[name] = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
            else:
                series[name] = self._categories(name)
        kind = str(color.get("aggregate", "sum"))
        table = [[aggregated(kind, cells[x, y]) if (x, y) in cells else None for x in series["x"]] for y in series["y"]]
        return {**series, "values": table}


def _by_size(value: Any) -> tuple[int, Any]:
    if value is None:
        return (2, 0)
    return (0, value) if isinstance(value, (int, float)) else (1, str(value))


def _is_flat(x: Row, y: Row) -> bool:
    """Whether of two measures that along x is the length of the bars."""
    return "aggregate" in x and "aggregate" not in y


def _filled(document: Any, fields: Mapping[str, str]) -> Any:
    """The document with what it repeats over put in its place."""
    if isinstance(document, Mapping):
        if set(document) == {"repeat"}:
            return fields.get(str(document["repeat"]), "")
        return {key: _filled(value, fields) for key, value in document.items()}
    if isinstance(document, list):
        return [_filled(value, fields) for value in document]
    return document
