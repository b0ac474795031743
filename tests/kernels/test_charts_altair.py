"""What is read off altair's charts: what Vega-Lite would show of them."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd
import pytest

from sandcove.kernels.charts import chart_of

CARS = pd.DataFrame(
    {
        "power": [100, 150, 90, 200, 120],
        "miles": [30.0, 20.0, 35.0, 12.0, 26.0],
        "origin": ["US", "EU", "US", "JP", "EU"],
        "size": [8, 4, 6, 8, 4],
        "day": pd.to_datetime(["2025-03-02", "2025-01-05", "2026-01-07", "2025-03-09", "2026-02-01"]),
    }
)


def read(chart: Any) -> dict[str, Any]:
    found = chart_of(chart)
    assert found is not None
    return found


def only(chart: Any) -> dict[str, Any]:
    """The one series of a chart."""
    (series,) = read(chart)["data"]
    assert isinstance(series, dict)
    return series


@pytest.mark.parametrize(
    ("sort", "categories"),
    [
        (alt.Undefined, ["EU", "JP", "US"]),
        (None, ["US", "EU", "JP"]),
        ("descending", ["US", "JP", "EU"]),
        (["JP", "US"], ["JP", "US", "EU"]),
        ("y", ["JP", "EU", "US"]),
        ("-y", ["US", "EU", "JP"]),
        (alt.EncodingSortField(field="power", op="max", order="descending"), ["JP", "EU", "US"]),
    ],
)
def test_categories_are_in_the_order_in_which_they_are_drawn(sort: Any, categories: list[str]) -> None:
    chart = read(alt.Chart(CARS).mark_bar().encode(x=alt.X("origin", sort=sort), y="sum(miles)"))
    sums = {"US": 65, "EU": 46, "JP": 12}
    assert chart["layout"]["x"]["categories"] == categories
    assert chart["data"][0]["categories"] == categories
    assert chart["data"][0]["values"] == [sums[name] for name in categories]


def test_series_are_in_the_order_of_their_legend() -> None:
    points = alt.Chart(CARS).mark_point().encode(x="power", y="miles")
    assert [series["name"] for series in read(points.encode(color="origin"))["data"]] == ["EU", "JP", "US"]
    assert [series["name"] for series in read(points.encode(color="size:O"))["data"]] == ["4", "6", "8"]
    given = points.encode(color=alt.Color("origin").scale(domain=["US", "EU", "JP"]))
    assert [series["name"] for series in read(given)["data"]] == ["US", "EU", "JP"]


def test_rows_are_put_together_by_units_of_time() -> None:
    chart = read(alt.Chart(CARS).mark_line().encode(x="year(day):T", y="sum(miles)"))
    assert (chart["data"][0]["x"], chart["data"][0]["y"]) == (["2025-01-01", "2026-01-01"], [62, 61])
    assert (chart["layout"]["x"]["label"], chart["layout"]["x"]["unit"]) == ("day (year)", None)
    series = only(alt.Chart(CARS).mark_bar().encode(x="month(day):O", y="count()"))
    assert (series["categories"], series["values"]) == (["Jan", "Feb", "Mar"], [2, 1, 2])
    assert only(alt.Chart(CARS).mark_bar().encode(x="yearquarter(day):T", y="count()"))["values"] == [3, 2]


def test_cells_of_a_heatmap_may_be_bins() -> None:
    heat = alt.Chart(CARS).mark_rect().encode(alt.X("power:Q").bin(step=100), alt.Y("origin:N"), color="count()")
    series = only(heat)
    assert (series["x_edges"], series["x"]) == ([0, 100, 200, 300], [50, 150, 250])
    assert series["y"] == ["EU", "JP", "US"]
    assert series["values"] == [[None, 2, None], [None, None, 1], [1, 1, None]]
    assert read(heat)["layout"]["x"]["unit"] is None


def test_bars_may_go_from_one_value_to_another() -> None:
    tasks = pd.DataFrame({"task": ["A", "B"], "start": [1, 3], "end": [3, 8]})
    series = only(alt.Chart(tasks).mark_bar().encode(x="start", x2="end", y="task"))
    assert (series["categories"], series["base"], series["values"]) == (["A", "B"], [1, 3], [2, 5])
    assert series["orientation"] == "horizontal"


def test_an_area_between_two_curves_has_both() -> None:
    band = pd.DataFrame({"x": [1, 2], "low": [1, 2], "high": [3, 4]})
    series = only(alt.Chart(band).mark_area().encode(x="x", y="low", y2="high"))
    assert (series["y_low"], series["y_high"]) == ([1, 2], [3, 4])


def test_layers_with_scales_of_their_own_have_axes_of_their_own() -> None:
    base = alt.Chart(CARS).encode(x="day:T")
    both = alt.layer(base.mark_line().encode(y="miles:Q"), base.mark_line().encode(y="power:Q"))
    chart = read(both.resolve_scale(y="independent"))
    assert chart["layout"]["y2"]["label"] == "power"
    assert [series.get("axis") for series in chart["data"]] == [None, "y2"]


def test_texts_over_other_marks_are_no_series() -> None:
    base = alt.Chart(CARS).encode(x="origin:N", y="size:O")
    chart = read(base.mark_rect().encode(color="count()") + base.mark_text().encode(text="count()"))
    assert [series["type"] for series in chart["data"]] == ["heatmap"]


def test_layers_that_are_repeated_lie_in_one_chart() -> None:
    line = alt.Chart(CARS).mark_line()
    line = line.encode(
        x="day:T", y=alt.Y(alt.repeat("layer"), type="quantitative"), color=alt.datum(alt.repeat("layer"))
    )
    chart = read(line.repeat(layer=["miles", "power"]))
    assert [(series["type"], series["name"]) for series in chart["data"]] == [("line", "miles"), ("line", "power")]


def test_a_line_goes_as_its_order_says() -> None:
    path = pd.DataFrame({"x": [3, 1, 2], "y": [1, 2, 3], "step": [2, 0, 1]})
    line = alt.Chart(path).mark_line().encode(x="x", y="y")
    assert only(line)["x"] == [1, 2, 3]
    assert only(line.encode(order="step"))["x"] == [1, 2, 3]
    assert only(line.encode(order=alt.Order("y")))["x"] == [3, 1, 2]
    assert only(alt.Chart(path).mark_line().encode(x="x:Q", y="step:O"))["y"] == [0, 1, 2]


def test_points_that_are_counted_have_their_counts_as_sizes() -> None:
    series = only(alt.Chart(CARS).mark_circle().encode(x="origin", y="size:O", size="count()"))
    assert sorted(zip(series["x"], series["y"], series["sizes"], strict=True)) == [
        ("EU", 4, 2),
        ("JP", 8, 1),
        ("US", 6, 1),
        ("US", 8, 1),
    ]


def test_boxes_have_the_quartiles_of_vega() -> None:
    values = pd.DataFrame({"v": [1, 2, 3, 4, 100]})
    series = only(alt.Chart(values).mark_boxplot().encode(y="v:Q"))
    assert (series["q1"], series["median"], series["q3"], series["outliers"]) == (2, 3, 4, [100])
    whole = only(alt.Chart(values).mark_boxplot(extent="min-max").encode(y="v:Q"))
    assert (whole["max"], whole["outliers"]) == (100, [])


def test_what_has_no_place_is_not_drawn() -> None:
    holes = pd.DataFrame({"x": [1, None, 3], "y": [1.0, 2.0, 3.0], "kind": ["p", None, "q"]})
    chart = read(alt.Chart(holes).mark_point().encode(x="x:Q", y="y", color="kind"))
    assert [(series["name"], series["x"], series["y"]) for series in chart["data"]] == [
        ("p", [1], [1]),
        ("q", [3], [3]),
    ]
