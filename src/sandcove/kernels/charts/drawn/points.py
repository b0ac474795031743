"""Scattered points."""

from __future__ import annotations

import sys
from typing import Any

from sandcove.kernels.charts.drawn.artists import hex_colors, is_a, one_or_many
from sandcove.kernels.charts.drawn.plots import Plot
from sandcove.kernels.charts.plain import array_of, text

__all__ = ["read_points"]


def read_points(plot: Plot) -> None:
    """Takes what `scatter` draws; one series for each name that a legend gives to the points' colours."""
    for collection in plot.axes.collections:
        if plot.is_taken(collection) or not is_a(collection, "PathCollection") or not collection.get_visible():
            continue
        if not _offset_in_data(collection, plot.axes):
            continue
        offsets = array_of(collection.get_offsets()).astype(float)
        plot.take(collection)
        if not sys.modules["numpy"].isnan(offsets).any(axis=1).all():  # not so for those of nothing, too
            _add(plot, collection, offsets)
    if plot.x.scale == "category" or plot.y.scale == "category":
        _join(plot)


def _offset_in_data(collection: Any, axes: Any) -> bool:
    transform = collection.get_offset_transform()
    return transform == axes.transData or all(transform.contains_branch_seperately(axes.transData))


def _add(plot: Plot, collection: Any, offsets: Any) -> None:
    depths = getattr(collection, "_offsets3d", None)
    columns: dict[str, Any] = {"x": offsets[:, 0], "y": offsets[:, 1]}
    if depths is not None:
        columns = dict(zip("xyz", (array_of(depth) for depth in depths), strict=False))
        # While they are drawn, and after, far points come first in the flat arrays, and colours are of the view.
    count = len(columns["x"])
    values = collection.get_array()
    faces = collection.get_facecolor()
    edges = collection.get_edgecolor()
    colors = hex_colors(faces) if len(faces) and faces[:, 3].any() else hex_colors(edges)
    sizes = collection.get_sizes()
    series: dict[str, Any] = {"type": "scatter", "name": None, **columns}
    if len(sizes) == count and count > 1 and (sizes != sizes[0]).any():
        series["sizes"] = sizes
    if values is not None and len(values) == count:
        series["color_values"] = values
        series["name"] = plot.name(collection)
    elif len(colors) == count and len(set(colors)) > 1:
        if _by_name(plot, collection, series, colors):
            return
        series["name"] = plot.name(collection)
        series["colors"] = colors
    else:
        series["name"] = plot.name(collection, colors[0] if colors else None)
        series.update(one_or_many(colors[:1]))
    _place(plot, series)
    plot.add(series, collection)


def _place(plot: Plot, series: dict[str, Any]) -> None:
    series["x"], series["y"] = plot.x.values(series["x"]), plot.y.values(series["y"])
    if "z" in series and plot.z is not None:
        series["z"] = plot.z.values(series["z"])


def _by_name(plot: Plot, collection: Any, series: dict[str, Any], colors: list[str | None]) -> bool:
    """A series for each colour, if the legend has a name for every one of them."""
    label = collection.get_label()
    if not str(label).startswith("_") and text(label):
        return False
    distinct = list(dict.fromkeys(colors))
    names = [plot.legend.name(color) for color in distinct]
    if None in names:
        return False
    numpy: Any = sys.modules["numpy"]
    every = numpy.array(colors, dtype=object)
    places = {name: place for place, name in enumerate(plot.legend.names)}
    for color, name in sorted(zip(distinct, names, strict=False), key=lambda pair: places.get(pair[1] or "", 0)):
        chosen = every == color
        part = {key: value[chosen] if hasattr(value, "shape") else value for key, value in series.items()}
        part = {**part, "name": name, "color": color}
        _place(plot, part)
        plot.add(part, collection)
    return True


def _join(plot: Plot) -> None:
    """One series for those of the same name and colour: seaborn draws each category's points by themselves."""
    joined: dict[tuple[Any, ...], dict[str, Any]] = {}
    keep: list[dict[str, Any]] = []
    places: list[int] = []
    axis = "x" if plot.x.scale == "category" else "y"
    colors: dict[Any, set[Any]] = {}
    for series in plot.series:
        if series["type"] == "scatter" and series["name"] is None and isinstance(series[axis], list):
            for category in set(series[axis]):
                colors.setdefault(category, set()).add(series.get("color"))
    mixed = any(len(each) > 1 for each in colors.values())
    """Whether colours tell more than the categories do."""
    for series, place in zip(plot.series, plot.places, strict=False):
        known = ("name", "color", "type", axis, "y" if axis == "x" else "x")
        if series["type"] != "scatter" or set(series) != set(known) or not isinstance(series[axis], list):
            keep.append(series)
            places.append(place)
            continue
        key = (series["name"], series["color"] if series["name"] is not None or mixed else None)
        first = joined.get(key)
        if first is None:
            joined[key] = series
            keep.append(series)
            places.append(place)
            continue
        if first["color"] != series["color"]:
            first["color"] = None
        for name in "xy":
            first[name] = [*first[name], *series[name]]
    plot.series[:], plot.places[:] = keep, places
