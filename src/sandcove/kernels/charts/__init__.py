"""The data of charts, read from the figures of the libraries that draw them."""

from __future__ import annotations

from typing import Any

__all__ = ["chart_of"]


def chart_of(figure: object) -> dict[str, Any] | None:
    """The chart that `figure` shows, or None."""
    del figure
    return None
