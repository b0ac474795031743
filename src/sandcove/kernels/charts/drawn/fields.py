"""Contours, arrows, and shapes that are made of triangles or rectangles."""

from __future__ import annotations

import sys
from typing import Any

from sandcove.kernels.charts.drawn.artists import hex_colors, is_a, one_or_many, vertices
from sandcove.kernels.charts.drawn.plots import Plot
from sandcove.kernels.charts.plain import array_of

__all__ = ["read_fields", "read_shapes"]

_CORNERS = 200
"""Corners of one contour that are told."""


def read_fields(plot: Plot) -> None:
    """Takes contours and fields of arrows."""
    for collection in plot.axes.collections:
        if plot.is_taken(collection) or not collection.get_visible():
            continue
        if is_a(collection, "ContourSet"):
            plot.take(collection)
            plot.add(_contours(plot, collection), collection)
        elif is_a(collection, "Quiver") or is_a(collection, "Barbs"):
            plot.take(collection)
            upper = hasattr(collection, "X")
            names = ("X", "Y", "U", "V") if upper else ("x", "y", "u", "v")
            x, y, u, v = (array_of(getattr(collection, name)) for name in names)
            series = {"type": "vectors", "name": plot.name(collection), "x": plot.x.values(x), "y": plot.y.values(y)}
            plot.add({**series, "u": u, "v": v}, collection)


def _contours(plot: Plot, contours: Any) -> dict[str, Any]:
    filled = bool(contours.filled)
    colors = hex_colors(contours.get_facecolor() if filled else contours.get_edgecolor())
    series: dict[str, Any] = {
        "type": "contour",
        "name": plot.name(contours, colors[0] if len(set(colors)) == 1 else None),
        "filled": filled,
        "levels": array_of(contours.levels),
        **one_or_many(colors),
    }
    if not filled:
        series["lines"] = [
            {"level": float(level), **_outline(path)}
            for level, path in list(zip(contours.levels, contours.get_paths(), strict=False))[:100]
            if len(path.vertices)
        ]
    return series


def _outline(path: Any) -> dict[str, Any]:
    """The corners of a path, with NaN where it begins anew."""
    numpy: Any = sys.modules["numpy"]
    points = vertices(path)
    step = -(-len(points) // _CORNERS)
    if path.codes is not None:
        starts = numpy.flatnonzero(path.codes == path.MOVETO)[1:]
        points = numpy.insert(points, starts, numpy.nan, axis=0) if step == 1 else points[::step]
    else:
        points = points[::step]
    return {"x": points[:, 0], "y": points[:, 1]}


def read_shapes(plot: Plot) -> None:
    """Takes what is left of collections: bars of `broken_barh`, triangles."""
    for collection in plot.left(plot.axes.collections):
        if not is_a(collection, "PolyCollection") or not len(collection.get_paths()):
            continue
        paths = [vertices(path) for path in collection.get_paths()[:10_000]]
        faces = collection.get_facecolor()
        colors = hex_colors(faces)
        plot.take(collection)
        if all(_is_rectangle(points) for points in paths):
            numpy: Any = sys.modules["numpy"]
            low = numpy.array([points[:4].min(axis=0) for points in paths])
            high = numpy.array([points[:4].max(axis=0) for points in paths])
            centers = (low[:, 1] + high[:, 1]) / 2
            dated = plot.x.scale == "date"
            series = {
                "type": "bar",
                "name": plot.name(collection, colors[0] if colors else None),
                "orientation": "horizontal",
                "categories": plot.y.names(centers) or plot.y.values(centers),
                "values": plot.x.values(high[:, 0]) if dated else high[:, 0] - low[:, 0],
                "base": plot.x.values(low[:, 0]),
                **one_or_many(colors),
            }
            plot.add(series, collection)
            continue
        values = collection.get_array()
        middles = [points[: len(points) - 1].mean(axis=0) for points in paths]
        series = {
            "type": "polygon",
            "name": plot.name(collection, colors[0] if colors else None),
            "x": [float(middle[0]) for middle in middles],
            "y": [float(middle[1]) for middle in middles],
            **one_or_many(colors[:1] if len(set(colors)) == 1 else []),
        }
        if values is not None and len(values) == len(middles):
            series["color_values"] = array_of(values)
        plot.add(series, collection)


def _is_rectangle(points: Any) -> bool:
    corners = set(map(tuple, points.tolist()))
    return len(corners) == 4 and len({x for x, _ in corners}) == 2 and len({y for _, y in corners}) == 2
