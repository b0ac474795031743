"""What is drawn in space: lines, surfaces, frames and bars of axes with three dimensions."""

from __future__ import annotations

import sys
from typing import Any

from sandcove.kernels.charts.drawn.artists import hex_color, is_a
from sandcove.kernels.charts.drawn.plots import Plot
from sandcove.kernels.charts.plain import array_of

__all__ = ["read_spatial"]

_FACES = 6
"""Of a bar."""


def read_spatial(plot: Plot) -> None:
    """Takes lines and polygons in space; points are read as those of the plane are."""
    if plot.z is None:
        return
    for line in plot.axes.lines:
        if is_a(line, "Line3D") and line.get_visible():
            x, y, z = (array_of(column) for column in line.get_data_3d())
            plot.take(line)
            if not len(x):
                continue
            color = plot.line_color(line)
            marks = line.get_linestyle() in ("None", "", " ")
            series = {
                "type": "scatter" if marks else "line",
                "name": plot.name(line, color),
                "x": plot.x.values(x),
                "y": plot.y.values(y),
                "z": plot.z.values(z),
                "color": color,
            }
            plot.add(series, line)
    for collection in plot.axes.collections:
        if plot.is_taken(collection) or not collection.get_visible():
            continue
        if is_a(collection, "Poly3DCollection"):
            plot.take(collection)
            _read_faces(plot, collection)
        elif is_a(collection, "Line3DCollection"):
            plot.take(collection)
            segments = [array_of(segment) for segment in collection._segments3d]
            _add_corners(plot, collection, segments)


def _read_faces(plot: Plot, collection: Any) -> None:
    numpy: Any = sys.modules["numpy"]
    faces = getattr(collection, "_faces", None)
    if faces is None:  # before matplotlib 3.10: homogeneous columns of all corners
        faces = numpy.array(collection._vec[:3].T)[None, :, :]
    faces = array_of(faces).astype(float)
    if faces.ndim == 3 and len(faces) % _FACES == 0 and faces.shape[1] == 4 and len(faces):
        blocks = faces.reshape(-1, _FACES * 4, 3)
        low, high = blocks.min(axis=1), blocks.max(axis=1)
        # Of a cuboid every corner is a corner of its bounds.
        if ((blocks == low[:, None, :]) | (blocks == high[:, None, :])).all() and (high > low).any(axis=1).all():
            faces = None
            middle = (low + high) / 2
            series = {
                "type": "bar",
                "name": plot.name(collection),
                "orientation": "vertical",
                "x": plot.x.names(middle[:, 0]) or plot.x.values(middle[:, 0]),
                "y": plot.y.names(middle[:, 1]) or plot.y.values(middle[:, 1]),
                "values": high[:, 2] - low[:, 2],
            }
            if (low[:, 2] != 0).any():
                series["base"] = low[:, 2]
            plot.add(series, collection)
            return
    _add_corners(plot, collection, list(faces))


def _add_corners(plot: Plot, collection: Any, pieces: list[Any]) -> None:
    """A surface by its corners, each once."""
    numpy: Any = sys.modules["numpy"]
    corners = numpy.concatenate([piece.reshape(-1, 3) for piece in pieces]) if pieces else numpy.empty((0, 3))
    corners = numpy.unique(corners[numpy.isfinite(corners).all(axis=1)], axis=0)
    colors = collection.get_facecolor()
    series = {
        "type": "surface",
        "name": plot.name(collection),
        "x": corners[:, 0],
        "y": corners[:, 1],
        "z": corners[:, 2],
        "color": hex_color(colors[0]) if len(colors) == 1 else None,
    }
    plot.add(series, collection)
