"""A figure of matplotlib's, or one of seaborn's grids."""

from __future__ import annotations

from typing import Any

from sandcove.kernels.charts.drawn.areas import read_areas
from sandcove.kernels.charts.drawn.bars import read_bars
from sandcove.kernels.charts.drawn.boxes import read_boxes
from sandcove.kernels.charts.drawn.errors import read_errors, read_stems
from sandcove.kernels.charts.drawn.fields import read_fields, read_shapes
from sandcove.kernels.charts.drawn.grids import read_grids
from sandcove.kernels.charts.drawn.histograms import read_outlines
from sandcove.kernels.charts.drawn.legend import Legend
from sandcove.kernels.charts.drawn.lines import read_line_collections, read_lines
from sandcove.kernels.charts.drawn.plots import Plot, Reader
from sandcove.kernels.charts.drawn.points import read_points
from sandcove.kernels.charts.drawn.seaborn import is_seaborn
from sandcove.kernels.charts.drawn.spatial import read_spatial
from sandcove.kernels.charts.drawn.violins import read_violins
from sandcove.kernels.charts.drawn.wedges import read_wedges
from sandcove.kernels.charts.kinds import kind_of
from sandcove.kernels.charts.plain import text, unit_of

__all__ = ["chart_of_figure"]

_READERS: tuple[Reader, ...] = (
    # Those that know groups of artists come before those that take single ones.
    read_spatial,
    read_boxes,
    read_violins,
    read_bars,
    read_outlines,
    read_errors,
    read_stems,
    read_wedges,
    read_grids,
    read_fields,
    read_areas,
    read_lines,
    read_points,
    read_line_collections,
    read_shapes,
)
_MOST_SUBPLOTS = 100


def chart_of_figure(figure: Any, *, library: str = "matplotlib") -> dict[str, Any]:
    """The chart of a figure, with arrays in it still."""
    every = [axes for axes in figure.get_axes() if axes.get_visible()]
    bars = _colorbars(every)
    every = [axes for axes in every if id(axes) not in bars["axes"] and axes.get_label() != "<colorbar>"]
    every += [inset for axes in every for inset in axes.child_axes if not _is_secondary(inset)]
    if library == "matplotlib" and any(is_seaborn(axes) for axes in every):
        library = "seaborn"
    groups = _twins(every)
    found = [_chart(group, bars, library) for group in groups[:_MOST_SUBPLOTS]]
    telling = [chart for chart in found if chart["data"]]
    heading = _heading(figure)
    if len(telling) > 1:
        for chart, group in zip(found, groups, strict=False):
            chart.update(_place(group[0]))
        whole: dict[str, Any] = {
            "type": "subplots",
            "title": heading,
            "library": library,
            "layout": {},
            "data": [],
            "subplots": telling,
        }
        if len(groups) > _MOST_SUBPLOTS:
            whole["truncated"] = True
            whole["length"] = len(groups)
        return whole
    chart = (telling or found or [{"type": "unknown", "title": None, "library": library, "layout": {}, "data": []}])[0]
    chart["title"] = chart["title"] or heading
    return chart


def _heading(figure: Any) -> str | None:
    told = getattr(figure, "_suptitle", None)
    return text(told.get_text()) if told is not None else None


def _is_secondary(axes: Any) -> bool:
    return type(axes).__name__ == "SecondaryAxis"


def _colorbars(every: list[Any]) -> dict[str, Any]:
    """The axes of colour bars, and what each tells of the axes whose artist it explains."""
    axes: set[int] = set()
    told: dict[int, dict[str, Any]] = {}
    for each in every:
        for mappable in (*each.images, *each.collections):
            bar = getattr(mappable, "colorbar", None)
            if bar is None:
                continue
            axes.add(id(bar.ax))
            label = text(bar.ax.get_ylabel()) or text(bar.ax.get_xlabel()) or text(bar.ax.get_title())
            scale = {"LogNorm": "log", "SymLogNorm": "symlog"}.get(type(mappable.norm).__name__, "linear")
            limits = [mappable.norm.vmin, mappable.norm.vmax]
            told[id(each)] = {"label": label, "scale": scale, "unit": unit_of(label), "limits": limits}
    return {"axes": axes, "told": told}


def _twins(every: list[Any]) -> list[list[Any]]:
    """Axes that lie on each other, as `twinx` and `twiny` make them, together."""
    groups: list[list[Any]] = []
    seen: set[int] = set()
    known = {id(axes) for axes in every}
    for axes in every:
        if id(axes) in seen:
            continue
        siblings = getattr(axes, "_twinned_axes", None)
        group = [axes]
        if siblings is not None:
            group += [twin for twin in siblings.get_siblings(axes) if twin is not axes and id(twin) in known]
        places = {id(each): place for place, each in enumerate(every)}
        group.sort(key=lambda each: places[id(each)])
        seen.update(id(each) for each in group)
        groups.append(group)
    return groups


def _chart(group: list[Any], bars: dict[str, Any], library: str) -> dict[str, Any]:
    """One chart of axes and those that lie on them: the series of the others name the axis that is theirs."""
    legend = Legend(group)
    plots = []
    for axes in group:
        plot = Plot(axes, legend)
        plot.read(_READERS)
        plots.append(plot)
    plots = [plot for plot in plots if plot.series] or plots[:1]
    first = plots[0]
    layout = first.layout()
    data = first.ordered()
    for number, plot in enumerate(plots[1:], 2):
        shared_x = first.axes.get_shared_x_axes().joined(first.axes, plot.axes)
        name = "y" if shared_x else "x"
        layout[f"{name}{number}"] = plot.axis(name).describe()
        for series in plot.ordered():
            data.append({**series, "axis": f"{name}{number}"})
    for axes in group:
        if (bar := bars["told"].get(id(axes))) is not None:
            layout["colorbar"] = bar
    if legend:
        layout["legend"] = legend.describe()
    title = next((told for told in (plot.title() for plot in plots) if told), None)
    if title is None:
        title = next((told for axes in group if (told := text(axes.get_title()))), None)
    chart: dict[str, Any] = {"type": kind_of(data), "title": title, "library": library, "layout": layout, "data": data}
    mode = next((plot.mode for plot in plots if plot.mode), None)
    if mode is not None:
        chart["mode"] = mode
    if problems := [problem for plot in plots for problem in plot.failed]:
        chart["unread"] = problems
    return chart


def _place(axes: Any) -> dict[str, int]:
    """Where on its figure's grid a subplot is, from 0."""
    spec = axes.get_subplotspec() if hasattr(axes, "get_subplotspec") else None
    return {"row": spec.rowspan.start, "column": spec.colspan.start} if spec is not None else {}
