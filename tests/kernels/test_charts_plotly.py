"""What is read off plotly's figures: what the browser would show of them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
import pytest
from plotly.subplots import make_subplots

from sandcove.kernels.charts import chart_of

ROWS = pd.DataFrame(
    {
        "day": ["Thu", "Fri", "Thu", "Fri", "Sat", "Sat"],
        "bill": [10.0, 20.0, 15.0, 30.0, 25.0, 12.0],
        "sex": ["F", "M", "M", "F", "F", "M"],
        "time": ["noon", "noon", "night", "night", "noon", "night"],
    }
)


def read(figure: Any) -> dict[str, Any]:
    chart = chart_of(figure)
    assert chart is not None
    assert "unread" not in chart
    return chart


def only(figure: Any) -> dict[str, Any]:
    """The one series of a figure."""
    (series,) = read(figure)["data"]
    assert isinstance(series, dict)
    return series


def test_sectors_of_one_label_are_one() -> None:
    pie = go.Pie(labels=["a", "b", "a", None, "c"], values=[1, 2, 3, 4, -1], marker={"colors": ["red", "blue"]})
    series = only(go.Figure(pie))
    assert series["labels"] == ["a", "b", 3]
    assert series["values"] == [4, 2, 4]
    assert series["colors"] == ["red", "blue", None]


def test_a_pie_of_rows_is_their_sums() -> None:
    series = only(px.pie(ROWS, names="day", values="bill"))
    assert dict(zip(series["labels"], series["values"], strict=True)) == {"Thu": 25, "Fri": 50, "Sat": 37}
    assert only(px.pie(ROWS, names="day"))["values"] == [2, 2, 2]


def test_sectors_without_labels_are_counted() -> None:
    assert only(go.Figure(go.Pie(values=[1, 2], label0=5, dlabel=10)))["labels"] == [5, 15]


@pytest.mark.parametrize(
    ("how", "counts"),
    [
        ({"y": "bill", "histfunc": "sum"}, [25, 50, 37]),
        ({"y": "bill", "histfunc": "avg"}, [12.5, 25, 18.5]),
        ({"y": "bill", "histfunc": "max"}, [15, 30, 25]),
        ({"histnorm": "percent"}, [100 / 3] * 3),
        ({"histnorm": "probability"}, [1 / 3] * 3),
        ({"cumulative": True}, [2, 4, 6]),
    ],
)
def test_a_histogram_is_computed_as_it_is_told_to(how: dict[str, Any], counts: list[float]) -> None:
    series = only(px.histogram(ROWS, x="day", **how))
    assert series["categories"] == ["Thu", "Fri", "Sat"]
    assert series["counts"] == pytest.approx(counts)


def test_a_density_has_an_area_of_one() -> None:
    series = only(px.histogram(ROWS, x="bill", histnorm="probability density"))
    width = series["edges"][1] - series["edges"][0]
    assert sum(series["counts"]) * width == pytest.approx(1)


def test_whole_numbers_are_in_the_middle_of_bins() -> None:
    series = only(go.Figure(go.Histogram(x=[1, 2, 2, 3, 3, 3, 4], xbins={"start": 0.5, "end": 4.5, "size": 1})))
    assert (series["edges"], series["counts"]) == ([0.5, 1.5, 2.5, 3.5, 4.5], [1, 2, 3, 1])
    series = only(go.Figure(go.Histogram(x=[1, 2, 2, 3] * 30)))
    assert (series["edges"], series["counts"]) == ([0.5, 1.5, 2.5, 3.5], [30, 60, 30])


def test_histograms_of_one_subplot_have_the_same_bins() -> None:
    first, second = read(px.histogram(ROWS, x="bill", color="sex"))["data"]
    assert first["edges"] == second["edges"]
    assert sum(first["counts"]) == sum(second["counts"]) == 3


def test_bins_in_two_directions_are_counted() -> None:
    series = only(px.density_heatmap(ROWS, x="day", y="sex", z="bill", histfunc="avg"))
    assert (series["x"], series["y"]) == (["Thu", "Fri", "Sat"], ["F", "M"])
    assert series["values"] == [[10, 30, 25], [15, 20, 12]]
    series = only(px.density_heatmap(ROWS, x="bill", y="sex", nbinsx=2))
    assert sum(map(sum, series["values"])) == 6
    assert len(series["x_edges"]) == len(series["x"]) + 1
    assert read(px.density_contour(x=[1.0, 2.0, 3.0], y=[1.0, 2.0, 2.5]))["type"] == "contour"


def test_inner_facets_have_the_titles_of_the_outer_ones() -> None:
    chart = read(px.scatter(ROWS, x="bill", y="bill", facet_col="sex", facet_row="time"))
    assert {subplot["title"] for subplot in chart["subplots"]} == {
        f"sex={sex}, time={time}" for sex in "FM" for time in ("noon", "night")
    }
    assert all(subplot["layout"][axis]["label"] == "bill" for subplot in chart["subplots"] for axis in "xy")


def test_shared_axes_have_the_title_of_their_column_and_row() -> None:
    figure = make_subplots(2, 2, shared_xaxes=True, shared_yaxes=True)
    for number in range(4):
        figure.add_trace(go.Scatter(x=[1, 2], y=[1, 2]), number // 2 + 1, number % 2 + 1)
    figure.update_xaxes(title_text="time", row=2)
    figure.update_yaxes(title_text="way", row=1, col=1)
    chart = read(figure)
    assert [subplot["layout"]["x"]["label"] for subplot in chart["subplots"]] == ["time"] * 4
    assert [subplot["layout"]["y"]["label"] for subplot in chart["subplots"]] == ["way", "way", None, None]
    assert [subplot["data"][0]["name"] for subplot in chart["subplots"]] == [f"trace {n}" for n in range(4)]


def test_the_second_axis_belongs_to_its_own_trace() -> None:
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    figure.add_trace(go.Box(x=["a", "b", "a"], y=[1, 2, 3]))
    figure.add_trace(go.Scatter(x=["a", "b"], y=[5, 6]), secondary_y=True)
    assert [(series["type"], series.get("axis")) for series in read(figure)["data"]] == [
        ("box", None),
        ("box", None),
        ("line", "y2"),
    ]


def test_errors_are_told() -> None:
    series = only(go.Figure(go.Bar(x=["a"], y=[2], error_y={"type": "data", "array": [0.5], "arrayminus": [1]})))
    assert (series["low"], series["high"]) == ([1], [2.5])
    series = only(go.Figure(go.Scatter(y=[10], error_y={"type": "percent", "value": 10})))
    assert (series["y_low"], series["y_high"]) == ([9], [11])


def test_a_timeline_goes_from_date_to_date() -> None:
    tasks = pd.DataFrame([{"task": "A", "from": "2026-01-01", "to": "2026-02-01"}])
    series = only(px.timeline(tasks, x_start="from", x_end="to", y="task"))
    assert (series["base"], series["values"], series["categories"]) == (["2026-01-01"], ["2026-02-01"], ["A"])


def test_points_beside_an_unseen_box_are_points() -> None:
    chart = read(px.strip(ROWS, x="day", y="bill", color="sex"))
    assert [(series["type"], series["name"]) for series in chart["data"]] == [("scatter", "F"), ("scatter", "M")]
    assert chart["data"][0]["x"] == ["Thu", "Fri", "Sat"]


def test_categories_are_in_the_order_of_their_axis() -> None:
    chart = read(px.bar(ROWS, x="day", y="bill", category_orders={"day": ["Sat", "Fri", "Thu"]}))
    assert chart["layout"]["x"]["categories"] == ["Sat", "Fri", "Thu"]
    chart = read(px.bar(ROWS, x="day", y="bill").update_xaxes(categoryorder="category ascending"))
    assert chart["layout"]["x"]["categories"] == ["Fri", "Sat", "Thu"]


def test_categories_in_two_levels_are_one_name() -> None:
    chart = read(go.Figure(go.Bar(x=[["a", "a"], ["p", "q"]], y=[1, 2])))
    assert chart["data"][0]["categories"] == chart["layout"]["x"]["categories"] == ["a, p", "a, q"]


def test_places_may_be_told_by_a_start_and_a_step() -> None:
    assert only(go.Figure(go.Scatter(y=[1, 2, 3], x0=10, dx=5)))["x"] == [10, 15, 20]
    assert only(go.Figure(go.Heatmap(z=[[1, 2]], x0=10, dx=5)))["x"] == [10, 15]


def test_bars_around_a_pole_are_bars() -> None:
    chart = read(px.bar_polar(r=[1, 2], theta=["N", "E"]))
    assert (chart["type"], chart["layout"]["projection"]) == ("bar", "polar")
    assert (chart["data"][0]["categories"], chart["data"][0]["values"]) == (["N", "E"], [1, 2])


def test_parents_of_a_tree_are_among_its_ids() -> None:
    series = only(px.sunburst(ROWS, path=["day", "sex"], values="bill"))
    assert {parent for parent in series["parents"] if parent} <= set(series["ids"])


def test_the_scale_of_colours_is_told() -> None:
    chart = read(px.scatter(ROWS, x="bill", y="bill", color="bill", labels={"bill": "bill (EUR)"}))
    assert chart["layout"]["colorbar"] == {"label": "bill (EUR)", "scale": "linear", "unit": "EUR"}


def test_a_trace_that_cannot_be_read_leaves_the_others() -> None:
    odd = go.Figure([go.Bar(x=["a"], y=[1]), go.Scatter(y=[1])])
    odd._data[0]["y"] = {"bdata": "?", "dtype": "no such"}
    chart = chart_of(odd)
    assert chart is not None
    assert chart["unread"] == ["bar: TypeError"]
    assert [series["type"] for series in chart["data"]] == ["line"]
