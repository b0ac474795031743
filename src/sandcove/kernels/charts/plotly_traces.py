"""The series of plotly's traces: what the figure holds, and what a browser would compute of it."""

from __future__ import annotations

import base64
import itertools
import math
import sys
from typing import Any

from sandcove.kernels.charts.counts import aggregated, box_of, normalized, place_in, plotly_bins
from sandcove.kernels.charts.plain import column, text

__all__ = ["DOMAIN", "is_date", "places_of", "series_of", "share_bins", "values_of"]

_MOST_CELLS = 1_000_000
"""Of bins in two directions."""
_FEW = 20
"""Points up to which a line that says nothing of its mode has markers too."""


def is_date(value: str) -> bool:
    """Whether plotly takes a text for a date."""
    return len(value) >= 7 and value[:4].isdigit() and value[4] == "-" and value[5:7].isdigit()


def values_of(value: Any) -> list[Any]:
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


def series_of(trace: dict[str, Any]) -> list[dict[str, Any]]:
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


def places_of(trace: dict[str, Any], axis: str, count: int | None = None) -> list[Any]:
    """Where along an axis its points are; of categories in two levels both names in one.

    Without any they are counted, `count` of them.
    """
    found = values_of(trace.get(axis))
    if found and all(isinstance(level, list) and any(isinstance(name, str) for name in level) for level in found):
        return [", ".join(str(part) for part in parts) for parts in zip(*found, strict=False)]
    if found or count is None:
        return found
    start, step = trace.get(f"{axis}0"), trace.get(f"d{axis}")
    start, step = (default if each is None else each for each, default in ((start, 0), (step, 1)))
    if isinstance(start, (int, float)) and isinstance(step, (int, float)):
        return [start + number * step for number in range(count)]
    return [start] * count if isinstance(start, str) and step == 1 else list(range(count))


def _errors(trace: dict[str, Any], key: str, values: list[Any]) -> tuple[list[Any], list[Any]] | None:
    """The ends of the error bars in a direction."""
    told = trace.get(key)
    if not told or told.get("visible") is False:
        return None
    kind = told.get("type") or ("data" if told.get("array") is not None else "percent")
    up: list[Any]
    if kind == "data":
        up = values_of(told.get("array"))
        down = up if told.get("arrayminus") is None else values_of(told.get("arrayminus"))
    else:
        size = told.get("value", 10)
        less = size if told.get("valueminus") is None else told["valueminus"]
        known = [value if isinstance(value, (int, float)) else 0 for value in values]
        if kind == "sqrt":
            up = down = [math.sqrt(abs(value)) for value in known]
        else:
            up, down = ([each if kind == "constant" else abs(v) * each / 100 for v in known] for each in (size, less))
    low, high = [], []
    for at, value in enumerate(values):
        ends = [part[at] if at < len(part) and isinstance(value, (int, float)) else None for part in (down, up)]
        low.append(None if ends[0] is None else value - ends[0])
        high.append(None if ends[1] is None else value + ends[1])
    return low, high


def _scatter(trace: dict[str, Any]) -> list[dict[str, Any]]:
    x, y = places_of(trace, "x"), places_of(trace, "y")
    x = x or places_of(trace, "x", len(y))
    y = y or places_of(trace, "y", len(x))
    filled = trace.get("fill") not in (None, "none") or trace.get("stackgroup")
    mode = trace.get("mode") or ("lines+markers" if len(x) < _FEW else "lines")
    kind = "area" if filled else "line" if "lines" in mode else "scatter"
    series: dict[str, Any] = {"type": kind, "x": x, "y": y}
    for axis, values in (("x", x), ("y", y)):
        if (ends := _errors(trace, f"error_{axis}", values)) is not None:
            series[f"{axis}_low"], series[f"{axis}_high"] = ends
    marker = trace.get("marker") or {}
    for key, at in (("sizes", "size"), ("values", "color")):
        found = marker.get(at)
        if not isinstance(found, (str, int, float)) and (many := values_of(found)):
            series[key] = many
    if "text" in mode or (kind == "scatter" and trace.get("text") is not None):
        series["texts"] = values_of(trace.get("text")) if not isinstance(trace.get("text"), str) else [trace["text"]]
    return [series]


def _polar(trace: dict[str, Any]) -> list[dict[str, Any]]:
    mode = trace.get("mode") or "lines"
    kind = "area" if trace.get("fill") not in (None, "none") else "line" if "lines" in mode else "scatter"
    return [{"type": kind, "x": values_of(trace.get("theta")), "y": values_of(trace.get("r")), "projection": "polar"}]


def _polar_bar(trace: dict[str, Any]) -> list[dict[str, Any]]:
    lengths = values_of(trace.get("r"))
    angles = values_of(trace.get("theta")) or list(range(len(lengths)))
    return [{"type": "bar", "categories": angles, "values": lengths, "orientation": "vertical", "projection": "polar"}]


def _ternary(trace: dict[str, Any]) -> list[dict[str, Any]]:
    kind = "line" if "lines" in (trace.get("mode") or "markers") else "scatter"
    return [{"type": kind, **{axis: values_of(trace.get(axis)) for axis in "abc"}, "projection": "ternary"}]


def _mesh(trace: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "surface", **{axis: values_of(trace.get(axis)) for axis in "xyz"}}]


def _spatial(trace: dict[str, Any]) -> list[dict[str, Any]]:
    kind = "line" if "lines" in (trace.get("mode") or "lines+markers") and trace.get("mode") != "markers" else "scatter"
    return [{"type": kind, **{axis: values_of(trace.get(axis)) for axis in "xyz"}}]


def _bar(trace: dict[str, Any]) -> list[dict[str, Any]]:
    flat = trace.get("orientation") == "h"
    places, lengths = ("y", "x") if flat else ("x", "y")
    values = values_of(trace.get(lengths))
    base = trace.get("base")
    bases = [base] * len(values) if isinstance(base, (str, int, float)) else values_of(base)
    series: dict[str, Any] = {
        "type": "bar",
        "categories": places_of(trace, places, len(values)),
        "values": values,
        "orientation": "horizontal" if flat else "vertical",
    }
    if bases:
        series["base"] = bases
        if isinstance(bases[0], str) and is_date(bases[0]):  # from one date to another, as on a Gantt chart
            series["values"] = [_later(start, span) for start, span in zip(bases, values, strict=False)]
    if (ends := _errors(trace, f"error_{lengths}", values)) is not None:
        series["low"], series["high"] = ends
    return [series]


def _later(start: Any, span: Any) -> Any:
    """A date so many milliseconds later, with as much of the time as there is."""
    numpy: Any = sys.modules["numpy"]
    if not isinstance(start, str) or not isinstance(span, (int, float)):
        return None
    end = numpy.datetime64(start, "ms") + numpy.timedelta64(round(span), "ms")
    return column(numpy.array([end]))[0]


def _along(trace: dict[str, Any]) -> str:
    """The axis that a histogram's bins are on."""
    return "y" if trace.get("orientation") == "h" or (trace.get("x") is None and trace.get("y") is not None) else "x"


def share_bins(traces: list[dict[str, Any]], mode: str | None) -> None:
    """Gives histograms of one subplot the same bins where plotly does: all but those that are only laid over."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for trace in traces:
        if trace["type"] == "histogram" and (trace.get("bingroup") or mode != "overlay"):
            groups.setdefault((_along(trace), trace.get("bingroup")), []).append(trace)
    for (along, _), group in groups.items():
        values = [value for trace in group for value in values_of(trace.get(along)) if value is not None]
        if values and all(isinstance(value, (int, float)) for value in values):
            most = next((size for trace in group if (size := trace.get(f"nbins{along}"))), None)
            bins = next((given for trace in group if (given := trace.get(f"{along}bins"))), None)
            edges = plotly_bins([float(value) for value in values], most, bins)
            for trace in group:
                trace["edges"] = edges


def _histogram(trace: dict[str, Any]) -> list[dict[str, Any]]:
    along = _along(trace)
    kind, norm = trace.get("histfunc") or "count", trace.get("histnorm") or ""
    places = places_of(trace, along)
    weights = values_of(trace.get("y" if along == "x" else "x"))
    if kind == "count" or len(weights) != len(places):
        kind, weights = "count", places
    pairs = [(place, weight) for place, weight in zip(places, weights, strict=False) if place is not None]
    running = bool((trace.get("cumulative") or {}).get("enabled"))
    series: dict[str, Any] = {"type": "histogram", "orientation": "vertical" if along == "x" else "horizontal"}
    if not all(isinstance(place, (int, float)) for place, _ in pairs):
        split: dict[Any, list[Any]] = {}
        for place, weight in pairs:
            split.setdefault(place, []).append(weight)
        counts = [aggregated(kind, own) for own in split.values()]
        return [{**series, "categories": list(split), "counts": normalized(norm, counts, running=running)}]
    if not pairs:
        return [{**series, "edges": [], "counts": []}]
    numbers = [float(place) for place, _ in pairs]
    edges = trace.get("edges") or plotly_bins(numbers, trace.get(f"nbins{along}"), trace.get(f"{along}bins"))
    bins: list[list[Any]] = [[] for _ in edges[1:]]
    for number, (_, weight) in zip(numbers, pairs, strict=False):
        if (at := place_in(edges, number)) is not None:
            bins[at].append(weight)
    counts = [aggregated(kind, own) if own or kind == "count" else 0 for own in bins]
    return [{**series, "edges": edges, "counts": normalized(norm, counts, edges, running=running)}]


def _pie(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """What has the same label is one sector, as large as all together."""
    labels, values = values_of(trace.get("labels")), values_of(trace.get("values"))
    if not labels:
        start, step = trace.get("label0") or 0, trace.get("dlabel") or 1
        labels = [start + number * step for number in range(len(values))]
    counted = not values
    given = values_of((trace.get("marker") or {}).get("colors"))
    sums: dict[Any, Any] = {}
    colors: dict[Any, Any] = {}
    for at, label in enumerate(labels):
        value = 1 if counted else values[at] if at < len(values) else None
        if not isinstance(value, (int, float)) or value < 0:
            continue
        label = at if label is None or label == "" else label
        sums[label] = sums.get(label, 0) + value
        if at < len(given) and colors.get(label) is None:
            colors[label] = given[at]
    series: dict[str, Any] = {"type": "pie", "labels": list(sums), "values": list(sums.values())}
    if colors:
        series["colors"] = [colors.get(label) for label in sums]
    return [series]


def _tree(trace: dict[str, Any]) -> list[dict[str, Any]]:
    columns = {key: values_of(trace.get(key)) for key in ("labels", "parents", "values", "ids")}
    if not columns["ids"]:  # otherwise parents are told by these
        del columns["ids"]
    colors = values_of((trace.get("marker") or {}).get("colors"))
    return [{"type": trace["type"], **columns, **({"colors": colors} if colors else {})}]


def _is_strip(trace: dict[str, Any]) -> bool:
    """Whether all that is seen of boxes are their points."""
    if trace.get("boxpoints") != "all":
        return False
    line = (trace.get("line") or {}).get("color")
    return all(
        isinstance(each, str) and each.replace(" ", "").endswith(",0)") for each in (line, trace.get("fillcolor"))
    )


def _box(trace: dict[str, Any]) -> list[dict[str, Any]]:
    flat = trace.get("orientation") == "h" or (trace.get("y") is None and trace.get("x") is not None)
    values, groups = (values_of(trace.get(name)) for name in (("x", "y") if flat else ("y", "x")))
    other = "y" if flat else "x"
    groups = groups or ([trace[f"{other}0"]] * len(values) if trace.get(f"{other}0") is not None else [])
    groups = [None if isinstance(group, str) and not group.strip() else group for group in groups]
    if _is_strip(trace):
        places = groups if len(groups) == len(values) else [text(trace.get("name"))] * len(values)
        color = (trace.get("marker") or {}).get("color")
        return [{"type": "scatter", other: places, "x" if flat else "y": values, "color": color}]
    kind = {"type": trace["type"], "orientation": "horizontal" if flat else "vertical"}
    if trace.get("q1") is not None:
        keys = {"q1": "q1", "median": "median", "q3": "q3", "min": "lowerfence", "max": "upperfence"}
        known = {key: values_of(trace.get(own)) for key, own in keys.items()}
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
    table = [list(row) if isinstance(row, list) else [row] for row in values_of(trace.get("z"))]
    width = max(map(len, table), default=0)
    series: dict[str, Any] = {
        "type": "contour" if trace["type"] == "contour" else "surface" if trace["type"] == "surface" else "heatmap",
        "x": places_of(trace, "x", width),
        "y": places_of(trace, "y", len(table)),
        "values": table,
    }
    label = ((trace.get("colorbar") or {}).get("title") or {}).get("text")
    if label:
        series["label"] = text(label)
    return [series]


def _histogram2d(trace: dict[str, Any]) -> list[dict[str, Any]]:
    kind = trace.get("histfunc") or "count"
    columns = [places_of(trace, axis) for axis in "xy"]
    weights = values_of(trace.get("z")) if kind != "count" else columns[0]
    rows = [row for row in zip(*columns, weights, strict=False) if row[0] is not None and row[1] is not None]
    if not rows:
        return [{"type": "heatmap", "x": [], "y": [], "values": []}]
    sides: list[tuple[list[Any], list[int | None], list[float]]] = []
    for at, axis in enumerate("xy"):
        own = [row[at] for row in rows]
        if all(isinstance(value, (int, float)) for value in own):
            edges = plotly_bins(list(map(float, own)), trace.get(f"nbins{axis}"), trace.get(f"{axis}bins"), plane=True)
            middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
            sides.append((middles, [place_in(edges, value) for value in own], edges))
        else:
            names = list(dict.fromkeys(own))
            order = {name: place for place, name in enumerate(names)}
            sides.append((names, [order[value] for value in own], []))
    (xs, across, x_edges), (ys, up, y_edges) = sides
    if len(xs) * len(ys) > _MOST_CELLS:
        return [{"type": "heatmap", "x": columns[0], "y": columns[1], "aggregate": kind}]
    cells: dict[tuple[Any, Any], list[Any]] = {}
    for row, x, y in zip(rows, across, up, strict=False):
        cells.setdefault((y, x), []).append(row[2])
    empty = 0 if kind in ("count", "sum") else None
    table = [
        [aggregated(kind, cells[y, x]) if (y, x) in cells else empty for x in range(len(xs))] for y in range(len(ys))
    ]
    drawn = "contour" if trace["type"] == "histogram2dcontour" else "heatmap"
    series: dict[str, Any] = {"type": drawn, "x": xs, "y": ys, "values": table}
    series.update({key: edges for key, edges in (("x_edges", x_edges), ("y_edges", y_edges)) if edges})
    return [series]


def _candles(trace: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "candlestick", **{key: values_of(trace.get(key)) for key in ("x", "open", "high", "low", "close")}}
    ]


def _map(trace: dict[str, Any]) -> list[dict[str, Any]]:
    series: dict[str, Any] = {"type": "map"}
    for key, own in (("locations", "locations"), ("values", "z"), ("lat", "lat"), ("lon", "lon")):
        if found := values_of(trace.get(own)):
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
    **dict.fromkeys(("scatterpolar", "scatterpolargl"), _polar),
    "barpolar": _polar_bar,
    "scatterternary": _ternary,
    "mesh3d": _mesh,
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
DOMAIN = {"pie", "funnelarea", "treemap", "sunburst", "icicle", "indicator", "table", "sankey", "parcats", "parcoords"}
