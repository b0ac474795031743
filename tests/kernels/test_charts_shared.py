"""What is read off figures of several axes that share what stands at their edges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns

from sandcove.kernels.charts import chart_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""Seaborn calls matplotlib in ways that this deprecates."""


@pytest.fixture(autouse=True)
def drawn_nowhere() -> Iterator[None]:
    """Figures need no window, and end with the test."""
    plt.switch_backend("agg")
    yield
    plt.close("all")


TIPS = pd.DataFrame(
    {
        "day": ["Thu", "Fri", "Thu", "Fri"] * 4,
        "tip": [1.0, 3.0, 2.0, 5.0, 4.0, 1.5, 2.5, 3.5] * 2,
        "sex": ["F", "F", "M", "M"] * 4,
        "time": ["noon"] * 8 + ["night"] * 8,
    }
)


def read(figure: Any = None) -> dict[str, Any]:
    """The chart of a figure, or of the one that is being drawn."""
    chart = chart_of(plt.gcf() if figure is None else figure)
    assert chart is not None
    return chart


def labels(chart: dict[str, Any], axis: str) -> list[str | None]:
    """What stands at an axis of each subplot."""
    return [subplot["layout"][axis]["label"] for subplot in chart["subplots"]]


@pytest.mark.parametrize("kind", ["bar", "box", "violin", "strip", "point", "count", "swarm"])
def test_each_facet_has_the_categories_and_labels_of_the_outer_ones(kind: str) -> None:
    values = {} if kind == "count" else {"y": "tip"}
    sns.catplot(TIPS, x="day", hue="sex", col="time", kind=kind, **values)
    chart = read()
    assert labels(chart, "x") == ["day", "day"]
    assert labels(chart, "y") == ["count" if kind == "count" else "tip"] * 2
    for subplot in chart["subplots"]:
        assert subplot["type"] == chart["subplots"][0]["type"]
        assert subplot["layout"]["x"]["scale"] == "category"
        assert subplot["layout"]["x"]["categories"] == ["Thu", "Fri"]
        assert {series["name"] for series in subplot["data"]} == {"F", "M"}
    keys = [[sorted(series) for series in subplot["data"]] for subplot in chart["subplots"]]
    assert keys[0] == keys[1]


def test_wrapped_facets_take_their_label_from_below_and_from_the_left() -> None:
    sns.relplot(TIPS.assign(n=range(16)), x="n", y="tip", col="day", row="time", kind="line")
    chart = read()
    assert labels(chart, "x") == ["n"] * 4
    assert labels(chart, "y") == ["tip"] * 4


def test_shared_axes_have_the_label_of_their_column_and_row_alone() -> None:
    _, every = plt.subplots(2, 2, sharex=True, sharey=True)
    for axes in every.flat:
        axes.plot([1, 2])
    every[1, 0].set_xlabel("time (s)")
    every[1, 1].set_xlabel("way (m)")
    every[0, 0].set_ylabel("up")
    chart = read()
    assert labels(chart, "x") == ["time (s)", "way (m)"] * 2
    assert labels(chart, "y") == ["up", "up", None, None]
    assert [subplot["layout"]["x"]["unit"] for subplot in chart["subplots"]] == ["s", "m"] * 2


def test_axes_that_share_nothing_take_no_label() -> None:
    _, (above, below) = plt.subplots(2, 1)
    above.plot([1, 2])
    below.plot([1, 2])
    below.set_xlabel("time")
    assert labels(read(), "x") == [None, "time"]


def test_labels_of_the_whole_figure_are_those_of_its_axes() -> None:
    figure, (left, right) = plt.subplots(1, 2)
    left.plot([1, 2])
    right.plot([1, 2])
    right.set_xlabel("own")
    figure.supxlabel("t (s)")
    figure.supylabel("v")
    chart = read()
    assert labels(chart, "x") == ["t (s)", "own"]
    assert labels(chart, "y") == ["v", "v"]


def test_what_is_nowhere_is_no_series() -> None:
    plt.plot([0, 1], [1, 2], label="real")
    plt.plot([np.nan, np.nan], [np.nan, 1], label="nothing")
    plt.scatter([np.nan], [1])
    plt.legend()
    assert [series["name"] for series in read()["data"]] == ["real"]


def test_bars_of_one_value_each_have_no_lines_of_error() -> None:
    sns.barplot(x=["a", "b"], y=[1, 2])
    chart = read()
    assert [series["type"] for series in chart["data"]] == ["bar"]
    assert chart["data"][0]["values"] == [1, 2]


def test_a_line_across_the_axes_is_no_series_where_they_go_from_0_to_1() -> None:
    figure, axes = plt.subplots()
    axes.axhline(0.5)
    axes.scatter([0.2, 0.4], [0.1, 0.9])
    axes.set(xlim=(0, 1), ylim=(0, 1))
    assert [series["type"] for series in read(figure)["data"]] == ["scatter"]


def test_a_scale_by_a_function_is_told_as_it_behaves() -> None:
    _, (even, powers) = plt.subplots(1, 2)
    even.plot([1, 2])
    even.set_xscale("function", functions=(lambda values: 2 * values, lambda values: values / 2))
    powers.plot([1, 2])
    powers.set_xscale("function", functions=(np.log, np.exp))
    assert [subplot["layout"]["x"]["scale"] for subplot in read()["subplots"]] == ["linear", "log"]
