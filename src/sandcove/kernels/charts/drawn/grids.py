"""Values on a grid: heatmaps, images, hexagons."""

from __future__ import annotations

import sys
from typing import Any

from sandcove.kernels.charts.drawn.artists import is_a
from sandcove.kernels.charts.drawn.axis import Axis
from sandcove.kernels.charts.drawn.plots import Plot
from sandcove.kernels.charts.plain import array_of, text

__all__ = ["read_grids"]


def read_grids(plot: Plot) -> None:
    """Takes what `imshow`, `pcolormesh`, `hist2d`, seaborn's `heatmap` and `hexbin` draw."""
    for image in plot.axes.images:
        if image.get_visible() and image.get_array() is not None:
            plot.take(image)
            _read_image(plot, image)
    for collection in plot.left(plot.axes.collections):
        # The second is what `pcolor` draws.
        if (is_a(collection, "QuadMesh") or is_a(collection, "PolyQuadMesh")) and collection.get_array() is not None:
            plot.take(collection)
            _read_mesh(plot, collection)
    for collection in plot.axes.collections:
        hexagons = is_a(collection, "PolyCollection") and collection.get_array() is not None
        if hexagons and len(collection.get_offsets()) == len(collection.get_array()) > 1:
            offsets = array_of(collection.get_offsets())
            series = {
                "type": "hexbin",
                "name": plot.name(collection),
                "x": plot.x.values(offsets[:, 0]),
                "y": plot.y.values(offsets[:, 1]),
                "values": array_of(collection.get_array()),
            }
            plot.take(collection)
            plot.add(series, collection)


def _read_image(plot: Plot, image: Any) -> None:
    data = image.get_array()
    if data.ndim == 3:
        series: dict[str, Any] = {
            "type": "image",
            "name": plot.name(image),
            "height": int(data.shape[0]),
            "width": int(data.shape[1]),
            "channels": int(data.shape[2]),
        }
        plot.add(series, image)
        return
    rows, across = data.shape
    left, right, bottom, top = image.get_extent()
    if image.origin == "upper":
        bottom, top = top, bottom
    _add(plot, image, array_of(data), _centers(left, right, across), _centers(bottom, top, rows))


def _centers(start: float, end: float, count: int) -> Any:
    numpy: Any = sys.modules["numpy"]
    step = (end - start) / count
    return numpy.round(start + step * (numpy.arange(count) + 0.5), 12)


def _read_mesh(plot: Plot, mesh: Any) -> None:
    corners = array_of(mesh.get_coordinates())
    rows, across = corners.shape[0] - 1, corners.shape[1] - 1
    values = array_of(mesh.get_array())
    smooth = values.size == (rows + 1) * (across + 1)
    if values.ndim == 3:  # colours
        plot.add({"type": "image", "name": None, "height": rows, "width": across, "channels": values.shape[2]}, mesh)
        return
    values = values.reshape(rows + 1, across + 1) if smooth else values.reshape(rows, across)
    x, y = corners[0, :, 0], corners[:, 0, 1]
    regular = (corners[:, :, 0] == x).all() and (corners[:, :, 1] == y[:, None]).all()
    if not regular:
        series = {"type": "heatmap", "name": plot.name(mesh), "x": None, "y": None, "values": values}
        plot.add(series, mesh)
    elif smooth:
        _add(plot, mesh, values, x, y)
    else:
        edges = {"x_edges": plot.x.values(x), "y_edges": plot.y.values(y)}
        _add(plot, mesh, values, (x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2, edges)


def _add(plot: Plot, artist: Any, values: Any, x: Any, y: Any, edges: dict[str, Any] | None = None) -> None:
    columns, rows = _along(plot.x, x), _along(plot.y, y)
    series = {"type": "heatmap", "name": plot.name(artist), "x": columns, "y": rows, "values": values}
    for name, centers in (("x_edges", columns), ("y_edges", rows)):
        if edges is not None and not _names(centers):
            series[name] = edges[name]
    if annotations := _annotations(plot, x, y):
        series["annotations"] = annotations
    plot.add(series, artist)


def _along(axis: Axis, centers: Any) -> Any:
    """The names of rows or columns, if their ticks have such; otherwise where their middles are."""
    if len(axis.tick_labels) == len(centers) or axis.scale == "category":
        names = axis.names(centers)
        if names is not None:
            return names
    return axis.values(centers) if axis.scale == "date" else centers


def _names(centers: Any) -> bool:
    return isinstance(centers, list)


def _annotations(plot: Plot, x: Any, y: Any) -> list[list[str | None]] | None:
    """The texts that are written on the cells."""
    texts = [each for each in plot.axes.texts if text(each.get_text())]
    if not texts or len(texts) > 10_000 or len(texts) < len(x) * len(y) / 4:
        return None
    numpy: Any = sys.modules["numpy"]
    found: list[list[str | None]] = [[None] * len(x) for _ in y]
    for each in texts:
        across, down = each.get_position()
        if not isinstance(across, (int, float)) or not isinstance(down, (int, float)):
            return None
        found[int(numpy.abs(y - down).argmin())][int(numpy.abs(x - across).argmin())] = text(each.get_text())
    return found
