"""matplotlib's figures in the host without IPython: each is a PNG when it is shown, or at the end of its cell."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["picture_of", "set_up_pyplot", "show_figures"]


def picture_of(value: object) -> bytes | None:
    """PNG of a figure; None for anything else."""
    module = sys.modules.get("matplotlib.figure")
    if module is None or not isinstance(value, module.Figure):
        return None
    file = io.BytesIO()
    value.savefig(file, format="png", bbox_inches="tight")
    return file.getvalue()


def show_figures(display: Callable[[Any], object]) -> None:
    """Displays all figures that pyplot knows, and closes them."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None or not hasattr(pyplot, "get_fignums"):
        return
    figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
    try:
        for figure in figures:
            display(figure)
    finally:
        if figures:
            pyplot.close("all")


def set_up_pyplot(pyplot: Any, display: Callable[[Any], object]) -> None:
    pyplot.switch_backend("agg")

    def show(*args: object, **options: object) -> None:
        del args, options
        show_figures(display)

    pyplot.show = show
