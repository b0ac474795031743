"""Figures of plotly's, by graph objects and by express.

A browser computes some of what they show: bins of a histogram, quartiles of a box. It is computed here as plotly does
by default, from the values that the figure holds.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

from sandcove.kernels.charts.counts import box_of, counted, histogram_of
from sandcove.kernels.charts.kinds import kind_of
from sandcove.kernels.charts.plain import column, text, unit_of

__all__ = ["chart_of_plotly", "is_plotly"]

_FEW = 20
"""Points up to which a line that says nothing of its mode has markers too."""


def is_plotly(obj: Any) -> bool:
    """Whether it is a figure, also one in a widget."""
    module = sys.modules.get("plotly.basedatatypes")
    return module is not None and isinstance(obj, module.BaseFigure)


def chart_of_plotly(figure: Any) -> dict[str, Any]:
    """The chart of a figure, its columns lists."""
    layout = figure.layout
    groups: dict[Any, list[dict[str, Any]]] = {}
    for trace in figure.data:
        told = trace.to_plotly_json()
        if told.get("visible") in (None, True):
            groups.setdefault(_place(told, layout), []).append(told)
    heading = text(layout.title.text)
    found = [_chart(traces, place, layout) for place, traces in groups.items()]
    if len(found) > 1:
        return {"type": "subplots", "title": heading, "library": "plotly", "layout": {}, "data": [], "subplots": found}
    chart = found[0] if found else {"type": "unknown", "title": None, "library": "plotly", "layout": {}, "data": []}
    chart["title"] = heading or chart["title"]
    return chart


def _place(trace: dict[str, Any], layout: Any) -> Any:
    """What tells the subplots apart: the axes, of which some lie over others; or the part of the picture."""
    if trace["type"] in _DOMAIN:
        domain = trace.get("domain") or {}
        return ("domain", tuple(domain.get("x") or (0, 1)), tuple(domain.get("y") or (0, 1)))
    if any(key in trace for key in ("scene", "geo", "subplot", "map", "mapbox")):
        return ("scene", *(str(trace.get(key)) for key in ("scene", "geo", "subplot", "map", "mapbox")))
    x, y = trace.get("xaxis") or "x", trace.get("yaxis") or "y"
    return ("axes", _below(layout, x), _below(layout, y))


def _axis(layout: Any, name: str) -> Any:
    try:
        return layout[f"{name[0]}axis{name[1:]}"]
    except (KeyError, ValueError):
        return None


def _below(layout: Any, name: str) -> str:
    axis = _axis(layout, name)
    over = getattr(axis, "overlaying", None)
    return over if over and over != "free" else name


def _chart(traces: list[dict[str, Any]], place: Any, layout: Any) -> dict[str, Any]:
    data = [series for trace in traces for series in _series(trace)]
    chart: dict[str, Any] = {
        "type": kind_of(data),
        "title": _heading(place, layout),
        "library": "plotly",
        "layout": {},
        "data": data,
    }
    if place[0] == "axes":
        for trace, series in zip(traces, data, strict=False):
            for name in "xy":
                own = trace.get(f"{name}axis") or name
                if own != place[1 if name == "x" else 2]:
                    series["axis"] = own
                    chart["layout"][own] = _described(_axis(layout, own), [])
        for at, name in ((1, "x"), (2, "y")):
            values = [value for trace in traces for value in _values(trace.get(name))[:1000]]
            chart["layout"][name] = _described(_axis(layout, place[at]), values)
    bars = [series for series in data if series["type"] in ("bar", "histogram")]
    if len(bars) > 1:
        mode = layout.barmode
        chart["mode"] = {"stack": "stacked", "relative": "stacked", "overlay": "overlaid"}.get(str(mode), "grouped")
    return chart


def _heading(place: Any, layout: Any) -> str | None:
    """What stands over a subplot: plotly writes it there as an annotation."""
    if place[0] == "axes":
        across, up = (getattr(_axis(layout, name), "domain", None) or (0, 1) for name in place[1:])
    elif place[0] == "domain":
        across, up = place[1:]
    else:
        return None
    for note in layout.annotations or ():
        if note.showarrow is not False or note.xref != "paper" or None in (note.x, note.y):
            continue
        if abs(note.x - sum(across) / 2) < 0.01 and 0 <= note.y - up[1] < 0.1:
            return text(note.text)
    return None


def _described(axis: Any, values: list[Any]) -> dict[str, Any]:
    title = getattr(getattr(axis, "title", None), "text", None)
    label = text(title)
    scale = getattr(axis, "type", None)
    texts = [value for value in values if isinstance(value, str)]
    if scale in (None, "-"):
        scale = "linear" if not texts else "date" if all(_is_date(value) for value in texts) else "category"
    told: dict[str, Any] = {"label": label, "scale": scale, "unit": unit_of(label)}
    if scale == "category":
        told["categories"] = list(dict.fromkeys(map(str, texts)))
    return told


def _is_date(value: str) -> bool:
    return len(value) >= 7 and value[:4].isdigit() and value[4] == "-" and value[5:7].isdigit()


def _values(value: Any) -> list[Any]:
    """A column, also in the form in which plotly sends arrays to the browser."""
    if value is None:
        return []
    if isinstance(value, dict) and "bdata" in value:
        return _decoded(value)
    try:
        return column(value)
    except TypeError:
        return []


def _decoded(packed: dict[str, Any]) -> list[Any]:
    numpy = sys.modules["numpy"]
    array = numpy.frombuffer(base64.b64decode(packed["bdata"]), dtype=packed["dtype"])
    if shape := packed.get("shape"):
        array = array.reshape([int(size) for size in str(shape).split(",")])
    return column(array)


def _color(trace: dict[str, Any]) -> str | None:
    for part in ("line", "marker"):
        color = (trace.get(part) or {}).get("color")
        if isinstance(color, str):
            return color
    return None


def _series(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """The series of a trace: boxes are one for each group."""
    name, color = text(trace.get("name")), _color(trace)
    read = _READERS.get(trace["type"])
    if read is None:
        return [{"type": "unknown", "name": name, "kind": trace["type"]}]
    found = read(trace)
    for series in found:
        series.setdefault("name", name)
        if color is not None:
            series.setdefault("color", color)
    return found


def _scatter(trace: dict[str, Any]) -> list[dict[str, Any]]:
    x, y = _values(trace.get("x")), _values(trace.get("y"))
    x = x or list(range(len(y)))
    y = y or list(range(len(x)))
    filled = trace.get("fill") not in (None, "none") or trace.get("stackgroup")
    mode = trace.get("mode") or ("lines+markers" if len(x) < _FEW else "lines")
    kind = "area" if filled else "line" if "lines" in mode else "scatter"
    series: dict[str, Any] = {"type": kind, "x": x, "y": y}
    marker = trace.get("marker") or {}
    for key, at in (("sizes", "size"), ("values", "color")):
        found = marker.get(at)
        if not isinstance(found, (str, int, float)) and (many := _values(found)):
            series[key] = many
    if "text" in mode or (kind == "scatter" and trace.get("text") is not None):
        series["texts"] = _values(trace.get("text")) if not isinstance(trace.get("text"), str) else [trace["text"]]
    return [series]


def _polar(trace: dict[str, Any]) -> list[dict[str, Any]]:
    mode = trace.get("mode") or "lines"
    kind = "area" if trace.get("fill") not in (None, "none") else "line" if "lines" in mode else "scatter"
    return [{"type": kind, "x": _values(trace.get("theta")), "y": _values(trace.get("r")), "projection": "polar"}]


def _spatial(trace: dict[str, Any]) -> list[dict[str, Any]]:
    kind = "line" if "lines" in (trace.get("mode") or "lines+markers") and trace.get("mode") != "markers" else "scatter"
    return [{"type": kind, **{axis: _values(trace.get(axis)) for axis in "xyz"}}]


def _bar(trace: dict[str, Any]) -> list[dict[str, Any]]:
    flat = trace.get("orientation") == "h"
    places, lengths = ("y", "x") if flat else ("x", "y")
    values = _values(trace.get(lengths))
    return [
        {
            "type": "bar",
            "categories": _values(trace.get(places)) or list(range(len(values))),
            "values": values,
            "orientation": "horizontal" if flat else "vertical",
        }
    ]


def _histogram(trace: dict[str, Any]) -> list[dict[str, Any]]:
    along = "y" if trace.get("orientation") == "h" or (trace.get("x") is None and trace.get("y") is not None) else "x"
    values = [value for value in _values(trace.get(along)) if value is not None]
    series = {"type": "histogram", "orientation": "vertical" if along == "x" else "horizontal"}
    if not all(isinstance(value, (int, float)) for value in values):
        categories, counts = counted(values)
        return [{**series, "categories": categories, "counts": counts}]
    edges, counts = histogram_of(values, trace.get(f"nbins{along}"), trace.get(f"{along}bins"))
    return [{**series, "edges": edges, "counts": counts}]


def _pie(trace: dict[str, Any]) -> list[dict[str, Any]]:
    labels, values = _values(trace.get("labels")), _values(trace.get("values"))
    if not values:
        labels, values = counted(labels)
    series: dict[str, Any] = {"type": "pie", "labels": labels, "values": values}
    if colors := _values((trace.get("marker") or {}).get("colors")):
        series["colors"] = colors
    if parents := _values(trace.get("parents")):
        series["parents"] = parents
    return [series]


def _tree(trace: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**series, "type": trace["type"]} for series in _pie(trace)]


def _box(trace: dict[str, Any]) -> list[dict[str, Any]]:
    flat = trace.get("orientation") == "h" or (trace.get("y") is None and trace.get("x") is not None)
    values, groups = (_values(trace.get(name)) for name in (("x", "y") if flat else ("y", "x")))
    if not groups and trace.get("x0") is not None and not flat:
        groups = [trace["x0"]] * len(values)
    kind = {"type": trace["type"], "orientation": "horizontal" if flat else "vertical"}
    if trace.get("q1") is not None:
        keys = {"q1": "q1", "median": "median", "q3": "q3", "min": "lowerfence", "max": "upperfence"}
        known = {key: _values(trace.get(own)) for key, own in keys.items()}
        return [
            {**kind, "category": groups[at] if at < len(groups) else None, **{k: v[at] for k, v in known.items() if v}}
            for at in range(len(known["q1"]))
        ]
    name = text(trace.get("name"))
    if len(groups) != len(values):
        return [{**kind, "category": name, **box_of(values)}]
    split: dict[Any, list[Any]] = {}
    for group, value in zip(groups, values, strict=False):
        split.setdefault(group, []).append(value)
    return [{**kind, "category": group, **box_of(own)} for group, own in split.items()]


def _heatmap(trace: dict[str, Any]) -> list[dict[str, Any]]:
    table = [list(row) if isinstance(row, list) else [row] for row in _values(trace.get("z"))]
    width = max(map(len, table), default=0)
    series: dict[str, Any] = {
        "type": "contour" if trace["type"] == "contour" else "surface" if trace["type"] == "surface" else "heatmap",
        "x": _values(trace.get("x")) or list(range(width)),
        "y": _values(trace.get("y")) or list(range(len(table))),
        "values": table,
    }
    label = ((trace.get("colorbar") or {}).get("title") or {}).get("text")
    if label:
        series["label"] = text(label)
    return [series]


def _histogram2d(trace: dict[str, Any]) -> list[dict[str, Any]]:
    if trace.get("z") is not None:
        return _heatmap(trace)
    return [{"type": "heatmap", "x": _values(trace.get("x")), "y": _values(trace.get("y")), "aggregate": "count"}]


def _candles(trace: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "candlestick", **{key: _values(trace.get(key)) for key in ("x", "open", "high", "low", "close")}}]


def _map(trace: dict[str, Any]) -> list[dict[str, Any]]:
    series: dict[str, Any] = {"type": "map"}
    for key, own in (("locations", "locations"), ("values", "z"), ("lat", "lat"), ("lon", "lon")):
        if found := _values(trace.get(own)):
            series[key] = found
    return [series]


def _image(trace: dict[str, Any]) -> list[dict[str, Any]]:
    rows = trace.get("z")
    size = None if rows is None else [len(rows), len(rows[0]) if len(rows) else 0]
    return [{"type": "image", "size": size}]


def _waterfall(trace: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**series, "kind": trace["type"]} for series in _bar(trace)]


_READERS = {
    **dict.fromkeys(("scatter", "scattergl"), _scatter),
    **dict.fromkeys(("scatterpolar", "scatterpolargl", "barpolar"), _polar),
    "scatter3d": _spatial,
    "bar": _bar,
    **dict.fromkeys(("funnel", "waterfall"), _waterfall),
    "histogram": _histogram,
    **dict.fromkeys(("pie", "funnelarea"), _pie),
    **dict.fromkeys(("treemap", "sunburst", "icicle"), _tree),
    **dict.fromkeys(("box", "violin"), _box),
    **dict.fromkeys(("heatmap", "contour", "surface"), _heatmap),
    **dict.fromkeys(("histogram2d", "histogram2dcontour"), _histogram2d),
    **dict.fromkeys(("candlestick", "ohlc"), _candles),
    **dict.fromkeys(("choropleth", "choroplethmap", "choroplethmapbox"), _map),
    **dict.fromkeys(("scattergeo", "scattermap", "scattermapbox", "densitymap", "densitymapbox"), _map),
    "image": _image,
}
_DOMAIN = {"pie", "funnelarea", "treemap", "sunburst", "icicle", "indicator", "table", "sankey", "parcats", "parcoords"}
