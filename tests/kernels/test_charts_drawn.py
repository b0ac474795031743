"""What is read off figures of matplotlib and seaborn: types, points and names as they are seen in them."""

from __future__ import annotations

import time
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


RANDOM = np.random.default_rng(1)
BIRDS = pd.DataFrame(
    {
        "mass": RANDOM.normal(4000, 500, 90),
        "length": RANDOM.normal(40, 5, 90),
        "kind": ["a", "b", "c"] * 30,
        "sex": ["F", "F", "M"] * 15 + ["M", "M", "F"] * 15,
        "year": np.repeat([1, 2, 3], 30),
    }
)


def read() -> dict[str, Any]:
    """The chart of the figure that is being drawn."""
    chart = chart_of(plt.gcf())
    assert chart is not None
    assert "unread" not in chart
    return chart


def names(chart: dict[str, Any]) -> list[str | None]:
    return [series["name"] for series in chart["data"]]


def types(chart: dict[str, Any]) -> set[str]:
    return {series["type"] for series in chart["data"]}


# --- names ----------------------------------------------------------------------------------------------


def test_lines_of_hue_and_style_are_named_by_both() -> None:
    sns.lineplot(BIRDS, x="year", y="mass", hue="kind", style="sex", errorbar=None)
    chart = read()
    assert sorted(map(str, names(chart))) == ["a, F", "a, M", "b, F", "b, M", "c, F", "c, M"]
    assert chart["layout"]["legend"]["names"] == ["a", "b", "c", "F", "M"]


def test_lines_of_style_alone_are_named_by_it() -> None:
    sns.lineplot(BIRDS, x="year", y="mass", style="sex", errorbar=None)
    assert sorted(map(str, names(read()))) == ["F", "M"]


def test_densities_in_the_plane_have_the_names_of_their_colours_also_at_the_margins() -> None:
    sns.jointplot(BIRDS, x="mass", y="length", hue="kind", kind="kde")
    assert [sorted(map(str, names(part))) for part in read()["subplots"]] == [["a", "b", "c"]] * 3


def test_a_legend_of_other_axes_names_no_lines_of_these() -> None:
    _, (above, below) = plt.subplots(2, 1, sharex=True)
    above.plot([1, 2], label="price")
    above.legend()
    below.plot([3, 4])
    assert [names(part) for part in read()["subplots"]] == [["price"], [None]]


def test_violins_without_a_fill_have_the_name_of_their_edge() -> None:
    sns.violinplot(BIRDS, x="year", y="mass", hue="sex", fill=False)
    assert set(names(read())) == {"F", "M"}


def test_boxes_of_two_calls_of_one_colour_keep_their_names() -> None:
    _, axes = plt.subplots()
    axes.boxplot([[1, 2, 3], [2, 3, 4]], positions=[0.8, 1.8], patch_artist=True, label="A")
    axes.boxplot([[3, 2, 3], [2, 5, 4]], positions=[1.2, 2.2], patch_artist=True, label="B")
    axes.legend()
    assert names(read()) == ["A", "A", "B", "B"]


def test_bars_of_one_call_are_a_series_for_each_name_in_the_legend() -> None:
    plt.bar(["x", "y", "z"], [4, 1, 3], label=["red", "blue", "_red"], color=["tab:red", "tab:blue", "tab:red"])
    plt.legend()
    chart = read()
    assert [(each["name"], each["categories"], each["values"]) for each in chart["data"]] == [
        ("red", ["x", "z"], [4, 3]),
        ("blue", ["y"], [1]),
    ]


@pytest.mark.parametrize("places", [["x", "y"], [1, 2]])
def test_bars_of_calls_of_their_own_keep_their_places(places: list[Any]) -> None:
    for place, value in zip(places, [4, 1], strict=True):
        plt.bar([place], [value], label=f"at {place}")
    plt.legend()
    assert [(each["categories"], each["values"]) for each in read()["data"]] == [([places[0]], [4]), ([places[1]], [1])]


def test_points_of_several_colours_in_a_category_stay_apart() -> None:
    sns.stripplot(BIRDS, x="mass", y="year", hue="kind", dodge=True, legend=False, orient="h")
    assert len(read()["data"]) == 3


def test_numbers_of_a_legend_are_without_markup() -> None:
    points = plt.scatter([1, 2], [1, 2], c=[0, 1])
    plt.legend(*points.legend_elements())
    assert read()["layout"]["legend"]["names"] == ["0", "1"]


# --- areas, densities, histograms -----------------------------------------------------------------------


def test_filled_densities_are_areas_on_zero() -> None:
    sns.kdeplot(BIRDS, x="mass", hue="kind", fill=True)
    chart = read()
    assert types(chart) == {"area"}
    assert sorted(map(str, names(chart))) == ["a", "b", "c"]
    assert all("base" not in series for series in chart["data"])


def test_densities_that_fill_all_are_a_stack_of_one() -> None:
    sns.kdeplot(BIRDS, x="mass", hue="kind", multiple="fill")
    chart = read()
    assert chart["mode"] == "stacked"
    assert np.allclose(np.sum([series["y"] for series in chart["data"]], axis=0), 1)


def test_an_area_and_the_line_along_it_are_one_series() -> None:
    places = np.arange(5.0)
    plt.fill_between(places, 0, places**2, alpha=0.3)
    plt.plot(places, places**2, label="square")
    plt.legend()
    chart = read()
    assert [(each["type"], each["name"], each["y"]) for each in chart["data"]] == [("area", "square", [0, 1, 4, 9, 16])]


@pytest.mark.parametrize("look", [{"element": "step"}, {"multiple": "dodge", "shrink": 0.8}, {"multiple": "dodge"}])
def test_a_histogram_is_one_however_it_is_drawn(look: dict[str, Any]) -> None:
    sns.histplot(BIRDS, x="mass", hue="kind", bins=5, **look)
    chart = read()
    assert types(chart) == {"histogram"}
    edges = np.histogram_bin_edges(BIRDS["mass"], 5)
    for series in chart["data"]:
        own = BIRDS["mass"][BIRDS["kind"] == series["name"]]
        assert series["counts"] == np.histogram(own, edges)[0].tolist()
        assert np.allclose(series["edges"], edges)


def test_grouped_bars_at_round_places_are_bars() -> None:
    places = np.array([10, 20, 30])
    plt.bar(places - 2, [1, 2, 3], 4)
    plt.bar(places + 2, [3, 2, 1], 4)
    assert types(read()) == {"bar"}


def test_a_histogram_of_names_has_one_bar_for_each() -> None:
    plt.hist(["a", "b", "a", "c"])
    (series,) = read()["data"]
    assert (series["type"], series["categories"], series["values"]) == ("bar", ["a", "b", "c"], [2, 1, 1])


def test_layers_of_a_stack_around_zero_are_no_violins() -> None:
    plt.stackplot(np.arange(6), [np.arange(6) + each for each in (1, 2, 3)], baseline="wiggle")
    chart = read()
    assert types(chart) == {"area"}
    assert np.allclose([series["y"] for series in chart["data"]], [np.arange(6) + each for each in (1, 2, 3)])


# --- grids and shapes -----------------------------------------------------------------------------------


def test_pcolor_is_a_heatmap_as_pcolormesh_is() -> None:
    plt.pcolor([0, 1, 2], [0, 1, 2, 3], np.arange(6).reshape(3, 2))
    (series,) = read()["data"]
    assert (series["type"], series["values"]) == ("heatmap", [[0, 1], [2, 3], [4, 5]])
    assert (series["x"], series["y"]) == ([0.5, 1.5], [0.5, 1.5, 2.5])


def test_hidden_cells_of_pcolor_are_null() -> None:
    plt.pcolor(np.ma.masked_equal(np.arange(6).reshape(3, 2), 2))
    assert read()["data"][0]["values"] == [[0, 1], [None, 3], [4, 5]]


def test_triangles_with_a_right_angle_are_no_bars() -> None:
    plt.tripcolor([0, 1, 0, 1], [0, 0, 1, 1], [1, 2, 3, 4])
    assert "bar" not in types(read())


# --- errors ---------------------------------------------------------------------------------------------


def test_errors_that_are_drawn_by_themselves_belong_to_the_bars() -> None:
    plt.bar(["a", "b"], [1, 2])
    plt.errorbar(["a", "b"], [1, 2], yerr=[0.5, 0.25], fmt="none")
    (series,) = read()["data"]
    assert (series["low"], series["high"]) == ([0.5, 1.75], [1.5, 2.25])


@pytest.mark.parametrize("look", [{"fmt": "none"}, {"linestyle": ""}])
def test_errors_that_are_drawn_by_themselves_belong_to_the_line(look: dict[str, Any]) -> None:
    plt.plot([1, 2, 3], [1, 2, 3], label="line")
    plt.errorbar([1, 2, 3], [1, 2, 3], yerr=0.5, **look)
    (series,) = read()["data"]
    assert (series["type"], series["name"]) == ("line", "line")
    assert (series["y_low"], series["y_high"]) == ([0.5, 1.5, 2.5], [1.5, 2.5, 3.5])


def test_a_line_with_bars_of_error_is_one_series_for_each_hue() -> None:
    sns.lineplot(BIRDS, x="year", y="mass", hue="kind", err_style="bars")
    chart = read()
    assert sorted(map(str, names(chart))) == ["a", "b", "c"]
    assert all(each["type"] == "line" and None not in each["y_low"] for each in chart["data"])


def test_errors_at_many_other_places_are_soon_seen_to_be_none_of_a_line() -> None:
    places = np.arange(20_000.0)
    plt.plot(places + 0.25, places)
    plt.errorbar(places, places, yerr=1, fmt="none")
    before = time.process_time()
    assert "y_low" not in read()["data"][0]
    assert time.process_time() - before < 5
