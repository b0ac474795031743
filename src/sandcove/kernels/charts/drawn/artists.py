"""What every reader asks of an artist."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["hex_color", "hex_colors", "in_data", "is_a", "one_or_many", "vertices"]


def is_a(artist: Any, name: str) -> bool:
    """Whether it is of a class of this name, or of one derived from it; the class need not exist in this version."""
    return any(each.__name__ == name for each in type(artist).__mro__)


def in_data(artist: Any, axes: Any) -> bool:
    """Whether both its coordinates are data: not so for `axhline`, spans and what is placed on the axes."""
    transform = artist.get_transform()
    if transform is axes.transData:  # by its numbers another may be equal, where an axis goes from 0 to 1
        return True
    horizontal, vertical = transform.contains_branch_seperately(axes.transData)
    return bool(horizontal and vertical)


def hex_color(color: Any) -> str | None:
    """A colour as ``#rrggbb``; None when it is none."""
    if color is None or isinstance(color, str):
        if color is None or color.lower() == "none":
            return None
        colors: Any = sys.modules["matplotlib.colors"]
        return str(colors.to_hex(color))
    values = [float(value) for value in tuple(color)]
    if len(values) < 3 or (len(values) == 4 and values[3] == 0):
        return None
    return "#" + "".join(f"{round(max(0.0, min(1.0, value)) * 255):02x}" for value in values[:3])


def hex_colors(colors: Any) -> list[str | None]:
    """The colours of an array of RGBA rows; few of many rows are usually different."""
    known: dict[tuple[float, ...], str | None] = {}
    found = []
    for row in colors.tolist() if hasattr(colors, "tolist") else colors:
        key = tuple(row)
        if key not in known:
            known[key] = hex_color(row)
        found.append(known[key])
    return found


def one_or_many(colors: list[str | None]) -> dict[str, Any]:
    """``color`` where all are the same, otherwise ``colors``."""
    if not colors:
        return {}
    return {"color": colors[0]} if len(set(colors)) == 1 else {"colors": colors}


def vertices(path: Any) -> Any:
    """The corners of a path as an array of floats."""
    return path.vertices
