"""What the channels of a Vega-Lite document make of a row: units of time, bins, the order of categories, labels."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from typing import Any

from sandcove.kernels.charts.counts import aggregated, nice_bins, place_in
from sandcove.kernels.charts.plain import text

__all__ = ["NUMERIC", "Row", "bins_of", "field_of", "in_order", "label_of", "title_of", "told", "value_of"]

NUMERIC = {"quantitative", "temporal"}
"""Types of channels that no category has."""
_NAMES = {"mean": "Average", "average": "Average", "count": "Count", "distinct": "Distinct"}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_CALENDAR = {name: place for names in (_MONTHS, _DAYS) for place, name in enumerate(names)}

Row = Mapping[str, Any]


def field_of(channel: Row) -> str:
    """The field that a channel draws."""
    return str(channel.get("field", ""))


def told(value: Any) -> Any:
    """A value as it is told: altair writes midnight of each date down."""
    if isinstance(value, (list, dict)):
        return str(value)
    return re.sub(r"T00:00:00(\.0+)?$", "", value) if isinstance(value, str) else value


def value_of(channel: Row, row: Row, edges: list[float] | None = None) -> Any:
    """What a channel has of a row: its unit of time, the middle of its bin, or what is in its field."""
    value = row.get(field_of(channel))
    if edges:
        at = place_in([*edges, 2 * edges[-1] - edges[-2]], value) if isinstance(value, (int, float)) else None
        if at is None:
            return None
        at = min(at, len(edges) - 2)
        return (edges[at] + edges[at + 1]) / 2
    unit = channel.get("timeUnit")
    unit = unit.get("unit") if isinstance(unit, Mapping) else unit
    return _in_unit(value, unit) if isinstance(unit, str) else told(value)


def _in_unit(value: Any, unit: str) -> Any:
    """A date cut to a unit of time: a date where the unit has the year, otherwise the name of the month or day."""
    try:
        moment = datetime.datetime.fromisoformat(value[:19])
    except (TypeError, ValueError):
        return told(value)
    unit = unit.removeprefix("utc")
    if "year" not in unit:
        names = {
            "quarter": f"Q{(moment.month + 2) // 3}",
            "month": _MONTHS[moment.month - 1],
            "monthdate": f"{_MONTHS[moment.month - 1]} {moment.day:02d}",
            "day": _DAYS[moment.isoweekday() % 7],
            "date": moment.day,
            "hours": moment.hour,
            "minutes": moment.minute,
            "hoursminutes": f"{moment:%H:%M}",
        }
        return names.get(unit, told(value))
    month = moment.month if "quarter" not in unit else (moment.month - 1) // 3 * 3 + 1
    cut = datetime.datetime(
        moment.year,
        month if any(part in unit for part in ("month", "quarter", "date")) else 1,
        moment.day if "date" in unit else 1,
        moment.hour if "hours" in unit else 0,
        moment.minute if "minutes" in unit else 0,
        moment.second if "seconds" in unit else 0,
        tzinfo=moment.tzinfo,
    )
    return told(cut.isoformat())


def bins_of(channel: Row, rows: list[Row]) -> list[float] | None:
    """The edges of a channel's bins over all rows; None if it has none."""
    options = channel.get("bin")
    if not options or options == "binned":
        return None
    options = options if isinstance(options, Mapping) else {}
    values = [float(v) for row in rows if isinstance(v := row.get(field_of(channel)), (int, float))]
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return None
    low, high = min(values), max(values)
    step = options.get("step")
    if isinstance(step, (int, float)) and step > 0 and (high - low) / step < 10_000:
        start = low // step * step
        return [start + n * float(step) for n in range(int((high - start) // step) + 2)]
    return nice_bins(low, high, int(options.get("maxbins") or 10))


def in_order(channel: Row, values: list[Any], rows: list[Row], other: Row) -> list[Any]:
    """Different categories as Vega-Lite has them: by the alphabet, unless the channel says otherwise.

    Args:
        channel: that of the categories.
        values: of the channel, one for each row.
        rows: what they are of.
        other: the channel along the other axis, by which they may be sorted.
    """
    distinct = list(dict.fromkeys(values))
    sort = channel.get("sort", "ascending")
    domain = (channel.get("scale") or {}).get("domain") if isinstance(channel.get("scale"), Mapping) else None
    first = sort if isinstance(sort, list) else domain
    if isinstance(first, list):
        given = [told(each) for each in first]
        return [each for each in given if each in distinct] + [each for each in distinct if each not in given]
    if sort is None:
        return distinct
    rule: Row = sort if isinstance(sort, Mapping) else {}
    if isinstance(sort, str) and sort.lstrip("-") in ("x", "y"):
        rule = {"encoding": sort.lstrip("-"), "order": "descending" if sort.startswith("-") else "ascending"}
    by = other if "encoding" in rule else rule
    down = "descending" in (sort, rule.get("order"))
    if rule and (field_of(by) or by.get("aggregate") == "count"):
        kind = str(rule.get("op") or by.get("aggregate") or "sum")
        groups: dict[Any, list[Any]] = {}
        for value, row in zip(values, rows, strict=False):
            groups.setdefault(value, []).append(row.get(field_of(by)))
        sizes = {value: aggregated(kind, own) for value, own in groups.items()}
        return sorted(distinct, key=lambda value: _rank(sizes[value]), reverse=down)
    return sorted(distinct, key=_rank, reverse=down)


def _rank(value: Any) -> tuple[int, Any]:
    if value is None:
        return (3, 0)
    if isinstance(value, (bool, int, float)):
        return (0, value)
    name = str(value)
    return (1, _CALENDAR[name]) if name in _CALENDAR else (2, name)


def title_of(channel: Row) -> str | None:
    """The title that was given to an axis or a legend."""
    for holder in (channel, channel.get("axis") or {}, channel.get("legend") or {}):
        if isinstance(holder, Mapping) and "title" in holder:
            title = holder["title"]
            return text(" ".join(map(str, title)) if isinstance(title, list) else title)
    return None


def label_of(channel: Row) -> str | None:
    """What stands at an axis: its title, or what Vega-Lite makes of field and aggregate."""
    for holder in (channel, channel.get("axis") or {}, channel.get("legend") or {}):
        if isinstance(holder, Mapping) and "title" in holder:
            return title_of(channel)
    kind, field = channel.get("aggregate"), field_of(channel)
    if kind == "count":
        return "Count of Records"
    if isinstance(kind, str):
        return f"{_NAMES.get(kind, kind.capitalize())} of {field}"
    unit = channel.get("timeUnit")
    unit = unit.get("unit") if isinstance(unit, Mapping) else unit
    if isinstance(unit, str):
        return f"{field} ({unit})"
    return text(f"{field} (binned)" if channel.get("bin") else field)
