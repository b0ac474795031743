"""Figures of plotly's, by graph objects and by express.

A browser computes some of what they show: bins of a histogram, quartiles of a box. It is computed here as plotly does
by default, from the values that the figure holds.
"""

from __future__ import annotations

import sys
from typing import Any

from sandcove.kernels.charts.kinds import kind_of
from sandcove.kernels.charts.plain import text, unit_of
from sandcove.kernels.charts.plotly_traces import DOMAIN, is_date, places_of, series_of, share_bins

__all__ = ["chart_of_plotly", "is_plotly"]

_UNNAMED = {"scatter", "scattergl", "bar", "histogram", "box", "violin", "scatterpolar", "barpolar", "scatter3d"}
"""Traces that plotly gives a name, where they have none and are several."""
_MOST_CATEGORIES = 1000
"""Places of each trace that are looked at for the categories of an axis."""


def is_plotly(obj: Any) -> bool:
    """Whether it is a figure, also one in a widget."""
    module = sys.modules.get("plotly.basedatatypes")
    return module is not None and isinstance(obj, module.BaseFigure)


def chart_of_plotly(figure: Any) -> dict[str, Any]:
    """The chart of a figure, its columns lists."""
    layout = figure.layout
    groups: dict[Any, list[dict[str, Any]]] = {}
    for number, trace in enumerate(figure.data):
        told = trace.to_plotly_json()
        several = len(figure.data) > 1 and told.get("showlegend") is not False
        if told.get("name") is None and told["type"] in _UNNAMED and (several or told["type"] in ("box", "violin")):
            told["name"] = f"trace {number}"  # that is what is written there
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
    if trace["type"] in DOMAIN:
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
    share_bins(traces, layout.barmode)
    data: list[dict[str, Any]] = []
    failed: list[str] = []
    known: list[dict[str, Any]] = []
    chart: dict[str, Any] = {"type": "", "title": _heading(place, layout), "library": "plotly", "layout": {}}
    for trace in traces:
        try:
            found = series_of(trace)
        except Exception as problem:  # noqa: BLE001 - plotly checks little of what it is given; the rest is told
            failed.append(f"{trace['type']}: {type(problem).__name__}")
            continue
        known.append(trace)
        for at, name in ((1, "x"), (2, "y")):
            own = trace.get(f"{name}axis") or name
            if place[0] == "axes" and own != place[at]:
                found = [{**series, "axis": own} for series in found]
                chart["layout"][own] = _described(_axis(layout, own), [])
        data += found
    if place[0] == "axes":
        for at, name in ((1, "x"), (2, "y")):
            values = [value for trace in known for value in _along(trace, name)[:_MOST_CATEGORIES]]
            chart["layout"][name] = _described(_axis(layout, place[at]), values, _outer(place[at], layout))
    projection = next((series["projection"] for series in data if "projection" in series), None)
    if projection is not None:
        chart["layout"]["projection"] = projection
    if (bar := _colorbar(known, layout)) is not None:
        chart["layout"]["colorbar"] = bar
    bars = [series for series in data if series["type"] in ("bar", "histogram")]
    if len(bars) > 1:
        mode = layout.barmode
        chart["mode"] = {"stack": "stacked", "relative": "stacked", "overlay": "overlaid"}.get(str(mode), "grouped")
    if failed:
        chart["unread"] = failed
    return {**chart, "type": kind_of(data), "data": data}


def _along(trace: dict[str, Any], name: str) -> list[Any]:
    """What lies along an axis: also where bars begin, which may be dates."""
    flat = trace.get("orientation") == "h"
    if trace.get("base") is not None and name == ("x" if flat else "y"):
        return places_of({"x": trace["base"]}, "x") if not isinstance(trace["base"], (str, int, float)) else []
    return places_of(trace, name)


def _outer(name: str, layout: Any) -> list[Any]:
    """The axes of the same column or row that an axis goes along with: the outer one of them has the title."""
    found = []
    own = _axis(layout, name)
    root, across = _root(name, layout), getattr(own, "domain", None)
    for key in layout:
        if key.startswith(f"{name[0]}axis") and _root(key.replace("axis", ""), layout) == root:
            other = layout[key]
            if other is not own and other.domain == across:
                found.append(other)
    return found


def _root(name: str, layout: Any) -> str:
    for _ in range(100):
        following = getattr(_axis(layout, name), "matches", None)
        if not following or following == name:
            break
        name = following
    return name


def _colorbar(traces: list[dict[str, Any]], layout: Any) -> dict[str, Any] | None:
    """The scale of colours, of a trace or of several together."""
    for trace in traces:
        marker = trace.get("marker") or {}
        for holder in (trace, marker):
            shared = holder.get("coloraxis")
            if shared:
                label = text(layout[shared].colorbar.title.text)
                return {"label": label, "scale": "linear", "unit": unit_of(label)}
            title = (holder.get("colorbar") or {}).get("title")
            label = text(title.get("text") if isinstance(title, dict) else title)
            if label:
                return {"label": label, "scale": "linear", "unit": unit_of(label)}
    return None


def _heading(place: Any, layout: Any) -> str | None:
    """What stands over a subplot, and beside its row: plotly writes it there as annotations."""
    if place[0] == "axes":
        across, up = (getattr(_axis(layout, name), "domain", None) or (0, 1) for name in place[1:])
    elif place[0] == "domain":
        across, up = place[1:]
    else:
        return None
    over = beside = column = None
    for note in layout.annotations or ():
        if note.showarrow is not False or note.xref != "paper" or None in (note.x, note.y):
            continue
        if note.textangle == 90 and note.x >= across[1] - 0.01 and abs(note.y - sum(up) / 2) < 0.01:
            beside = text(note.text)
        elif not note.textangle and abs(note.x - sum(across) / 2) < 0.01:
            if 0 <= note.y - up[1] < 0.1:
                over = text(note.text)
            elif note.y > up[1]:
                column = text(note.text)
    over = over or (column if beside else None)
    return ", ".join(each for each in (over, beside) if each) or None


def _described(axis: Any, values: list[Any], outer: list[Any] | None = None) -> dict[str, Any]:
    label = None
    for each in (axis, *(outer or ())):
        label = label or text(getattr(getattr(each, "title", None), "text", None))
    scale = getattr(axis, "type", None)
    texts = [value for value in values if isinstance(value, str)]
    if scale in (None, "-"):
        scale = "linear" if not texts else "date" if all(is_date(value) for value in texts) else "category"
    scale = "category" if scale == "multicategory" else scale
    told: dict[str, Any] = {"label": label, "scale": scale, "unit": unit_of(label)}
    if scale == "category":
        told["categories"] = _in_order(axis, list(dict.fromkeys(str(value) for value in values if value is not None)))
    return told


def _in_order(axis: Any, names: list[str]) -> list[str]:
    """Categories as the axis has them: those that it names first, or by the alphabet."""
    order = getattr(axis, "categoryorder", None) or ""
    first = getattr(axis, "categoryarray", None)
    if first is not None and order in ("", "array"):
        given = [str(each) for each in first]
        return [name for name in given if name in set(names)] + [name for name in names if name not in set(given)]
    if order.startswith("category"):
        return sorted(names, reverse=order.endswith("descending"))
    return names
