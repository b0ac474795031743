"""Cells as the galleries of the plotting libraries have them, and the charts that must be read off their figures.

Each is a title, what is expected, and the code, which ends as a user would end it. Expected is: ``type``; ``series``, the
number of them, or of ``subplots`` a list of their types; ``library``, where it is not the snippet's; and parts of the chart by path, such as
``data.0.values``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["SNIPPETS", "Snippet"]


class Snippet(NamedTuple):
    """One cell."""

    name: str
    expected: dict[str, Any]
    code: str


MATPLOTLIB = "import matplotlib.pyplot as plt\nimport numpy as np\n"
SEABORN = MATPLOTLIB + (
    "import pandas as pd\nimport seaborn as sns\n"
    "tips = pd.DataFrame({'bill': [10.0, 20.0, 15.0, 30.0, 25.0, 12.0], 'tip': [1.0, 3.0, 2.0, 5.0, 4.0, 1.5],\n"
    "    'day': ['Thu', 'Fri', 'Thu', 'Fri', 'Sat', 'Sat'], 'sex': ['F', 'M', 'F', 'M', 'F', 'M']})\n"
)
PANDAS = MATPLOTLIB + (
    "import pandas as pd\nframe = pd.DataFrame({'a': [1, 2, 3], 'b': [4.0, 5.5, 6.0]}, index=['x', 'y', 'z'])\n"
)
EXPRESS = (
    "import pandas as pd\nimport plotly.express as px\n"
    "frame = pd.DataFrame({'year': [2020, 2021, 2020, 2021], 'value': [1.0, 2.0, 3.0, 4.0], 'who': ['a', 'a', 'b', 'b']})\n"
)
OBJECTS = "import numpy as np\nimport plotly.graph_objects as go\n"
ALTAIR = (
    "import altair as alt\nimport pandas as pd\n"
    "cars = pd.DataFrame({'power': [100, 150, 90, 200, 120], 'miles': [30.0, 20.0, 35.0, 12.0, 26.0],\n"
    "    'origin': ['EU', 'US', 'EU', 'US', 'JP']})\n"
)


def _all(prefix: str, head: str, snippets: dict[str, tuple[dict[str, Any], str]]) -> list[Snippet]:
    return [Snippet(f"{prefix}-{name}", expected, head + code) for name, (expected, code) in snippets.items()]


_matplotlib = _all(
    "matplotlib",
    MATPLOTLIB,
    {
        "line": (
            {"type": "line", "series": 2, "title": "Lines", "data.0.y": [1, 4, 9], "data.1.name": "other",
             "layout.x.label": "time (s)", "layout.x.unit": "s"},
            "plt.plot([1, 2, 3], [1, 4, 9], label='squares')\nplt.plot([1, 2, 3], [3, 2, 1], 'r--', label='other')\n"
            "plt.title('Lines'); plt.xlabel('time (s)'); plt.legend()\nplt.show()",
        ),
        "log": (
            {"type": "line", "series": 1, "layout.y.scale": "log"},
            "x = np.arange(1, 6)\nfig, ax = plt.subplots()\nax.semilogy(x, 10.0 ** x)\nplt.show()",
        ),
        "dates": (
            {"type": "line", "series": 1, "layout.x.scale": "date", "data.0.x.0": "2026-01-01"},
            "import datetime\ndays = [datetime.date(2026, 1, day) for day in (1, 2, 3)]\nplt.plot(days, [1, 2, 3])\nplt.show()",
        ),
        "markers": (
            {"type": "scatter", "series": 1},
            "plt.plot([1, 2, 3], [3, 1, 2], 'o')\nplt.show()",
        ),
        "scatter": (
            {"type": "scatter", "series": 1, "data.0.x": [1, 2, 3], "data.0.y": [3, 1, 2]},
            "plt.scatter([1, 2, 3], [3, 1, 2], s=[10, 20, 30], c=[0.1, 0.5, 0.9])\nplt.colorbar(label='heat (K)')\nplt.show()",
        ),
        "bar": (
            {"type": "bar", "series": 1, "data.0.categories": ["a", "b", "c"], "data.0.values": [3, 5, 2]},
            "plt.bar(['a', 'b', 'c'], [3, 5, 2])\nplt.show()",
        ),
        "bars-of-equal-height": (
            {"type": "bar", "series": 1, "data.0.values": [4, 4, 4]},
            "plt.bar(['a', 'b', 'c'], [4, 4, 4])\nplt.show()",
        ),
        "bars-at-numbers": (
            {"type": "bar", "series": 1, "data.0.values": [1, 2, 1]},
            "plt.bar([10, 20, 30], [1, 2, 1], width=5)\nplt.show()",
        ),
        "barh": (
            {"type": "bar", "series": 1, "data.0.orientation": "horizontal", "data.0.categories": ["p", "q"]},
            "plt.barh(['p', 'q'], [1.5, 2.5])\nplt.show()",
        ),
        "grouped": (
            {"type": "bar", "series": 2, "mode": "grouped", "data.1.name": "women"},
            "x = np.arange(3)\nfig, ax = plt.subplots()\nax.bar(x - 0.2, [1, 2, 3], 0.4, label='men')\n"
            "ax.bar(x + 0.2, [3, 2, 1], 0.4, label='women')\nax.set_xticks(x, ['G1', 'G2', 'G3']); ax.legend()\nplt.show()",
        ),
        "stacked": (
            {"type": "bar", "series": 2, "mode": "stacked", "data.0.values": [1, 2]},
            "plt.bar(['u', 'v'], [1, 2], label='low')\nplt.bar(['u', 'v'], [3, 1], bottom=[1, 2], label='high')\n"
            "plt.legend()\nplt.show()",
        ),
        "histogram": (
            {"type": "histogram", "series": 1, "data.0.counts": [2, 1, 3], "data.0.edges": [0, 1, 2, 3]},
            "plt.hist([0.1, 0.2, 1.5, 2.1, 2.5, 2.9], bins=[0, 1, 2, 3])\nplt.show()",
        ),
        "histogram-step": (
            {"type": "histogram", "series": 1, "data.0.counts": [2, 1]},
            "plt.hist([0.1, 0.2, 1.5], bins=[0, 1, 2], histtype='step')\nplt.show()",
        ),
        "histograms": (
            {"type": "histogram", "series": 2},
            "rng = np.random.default_rng(1)\nplt.hist(rng.normal(0, 1, 200), 20, alpha=0.5, label='a')\n"
            "plt.hist(rng.normal(2, 1, 200), 20, alpha=0.5, label='b')\nplt.legend()\nplt.show()",
        ),
        "pie": (
            {"type": "pie", "series": 1, "data.0.labels": ["x", "y", "z"]},
            "plt.pie([15, 30, 55], labels=['x', 'y', 'z'], autopct='%1.0f%%')\nplt.show()",
        ),
        "donut": (
            {"type": "pie", "series": 1},
            "plt.pie([1, 1, 2], labels=['x', 'y', 'z'], wedgeprops={'width': 0.4})\nplt.show()",
        ),
        "box": (
            {"type": "box", "series": 2, "data.0.median": 3, "data.0.q1": 2, "data.0.q3": 4},
            "plt.boxplot([[1, 2, 3, 4, 5], [2, 4, 6, 8, 100]], tick_labels=['a', 'b'])\nplt.show()",
        ),
        "violin": (
            {"type": "violin", "series": 2},
            "plt.violinplot([np.arange(10), np.arange(5, 25)])\nplt.show()",
        ),
        "heatmap": (
            {"type": "heatmap", "series": 1, "data.0.values": [[1, 2], [3, 4]]},
            "plt.imshow([[1, 2], [3, 4]])\nplt.colorbar()\nplt.show()",
        ),
        "pcolormesh": (
            {"type": "heatmap", "series": 1},
            "plt.pcolormesh(np.arange(12).reshape(3, 4))\nplt.show()",
        ),
        "picture": (
            {"type": "image"},
            "plt.imshow(np.zeros((4, 4, 3)))\nplt.show()",
        ),
        "contour": (
            {"type": "contour"},
            "x = np.linspace(-2, 2, 20)\nX, Y = np.meshgrid(x, x)\nplt.contourf(X, Y, X**2 + Y**2)\nplt.show()",
        ),
        "area": (
            {"type": "area"},
            "plt.fill_between([1, 2, 3], [1, 2, 1])\nplt.show()",
        ),
        "stackplot": (
            {"type": "area", "series": 2},
            "plt.stackplot([1, 2, 3], [1, 1, 1], [2, 1, 2], labels=['a', 'b'])\nplt.legend()\nplt.show()",
        ),
        "errors": (
            {"series": 1, "data.0.y": [1, 2, 3]},
            "plt.errorbar([1, 2, 3], [1, 2, 3], yerr=[0.1, 0.2, 0.3], fmt='o')\nplt.show()",
        ),
        "step": (
            {"type": "line", "series": 1},
            "plt.step([1, 2, 3], [1, 3, 2])\nplt.show()",
        ),
        "stem": (
            {"series": 1},
            "plt.stem([1, 2, 3], [1, 3, 2])\nplt.show()",
        ),
        "hexbin": (
            {"type": "hexbin"},
            "rng = np.random.default_rng(2)\nplt.hexbin(rng.normal(size=500), rng.normal(size=500), gridsize=10)\nplt.show()",
        ),
        "polar": (
            {"type": "line", "series": 1, "layout.projection": "polar"},
            "plt.subplot(projection='polar').plot([0, 1, 2], [1, 2, 3])\nplt.show()",
        ),
        "twin": (
            {"type": "line", "series": 2, "layout.y2.label": "right"},
            "fig, ax = plt.subplots()\nax.plot([1, 2], [1, 2]); ax.set_ylabel('left')\nother = ax.twinx()\n"
            "other.plot([1, 2], [200, 100]); other.set_ylabel('right')\nplt.show()",
        ),
        "bars-and-line": (
            {"type": "bar", "series": 2},
            "plt.bar([1, 2, 3], [3, 4, 5])\nplt.plot([1, 2, 3], [2, 3, 4], color='k')\nplt.show()",
        ),
        "subplots": (
            {"type": "subplots", "subplots": ["line", "scatter", "bar", "histogram"], "title": "All"},
            "fig, axes = plt.subplots(2, 2)\naxes[0, 0].plot([1, 2])\naxes[0, 1].scatter([1, 2], [2, 1])\n"
            "axes[1, 0].bar(['a'], [1])\naxes[1, 1].hist([1, 1, 2, 3])\nfig.suptitle('All')\nplt.show()",
        ),
        "surface": (
            {"type": "surface"},
            "x = np.linspace(-1, 1, 8)\nX, Y = np.meshgrid(x, x)\n"
            "plt.figure().add_subplot(projection='3d').plot_surface(X, Y, X * Y)\nplt.show()",
        ),
        "only-text": ({"type": "unknown"}, "plt.subplots()[1].text(0.5, 0.5, 'words')\nplt.show()"),
    },
)  # fmt: skip
_seaborn = _all(
    "seaborn",
    SEABORN,
    {
        "scatter": ({"type": "scatter", "series": 2}, "sns.scatterplot(tips, x='bill', y='tip', hue='sex')\nplt.show()"),
        "line": ({"type": "line"}, "sns.lineplot(tips, x='bill', y='tip')\nplt.show()"),
        "bar": ({"type": "bar"}, "sns.barplot(tips, x='day', y='tip', errorbar=None)\nplt.show()"),
        "bar-hue": ({"type": "bar", "series": 2}, "sns.barplot(tips, x='day', y='tip', hue='sex', errorbar=None)\nplt.show()"),
        "count": ({"type": "bar", "data.0.values": [2, 2, 2]}, "sns.countplot(tips, x='day')\nplt.show()"),
        "histogram": ({"type": "histogram", "series": 1}, "sns.histplot(tips['bill'], bins=4)\nplt.show()"),
        "box": ({"type": "box", "series": 3}, "sns.boxplot(tips, x='day', y='tip')\nplt.show()"),
        "violin": ({"type": "violin"}, "sns.violinplot(tips, x='sex', y='tip')\nplt.show()"),
        "heatmap": (
            {"type": "heatmap", "series": 1},
            "sns.heatmap(pd.DataFrame([[1, 2], [3, 4]], columns=['a', 'b']), annot=True)\nplt.show()",
        ),
        "regression": ({"library": "matplotlib", "series": 2}, "sns.regplot(tips, x='bill', y='tip', ci=None)\nplt.show()"),
        "density": ({"library": "matplotlib", "type": "line"}, "sns.kdeplot(tips['bill'])\nplt.show()"),
        "facets": (
            {"type": "subplots", "subplots": ["scatter", "scatter"]},
            "sns.relplot(tips, x='bill', y='tip', col='sex')\nplt.show()",
        ),
    },
)  # fmt: skip
_pandas = _all(
    "pandas",
    PANDAS,
    {
        "line": ({"type": "line", "series": 2, "data.0.name": "a"}, "frame.plot()\nplt.show()"),
        "bar": ({"type": "bar", "series": 2, "mode": "grouped"}, "frame.plot.bar()\nplt.show()"),
        "stacked": ({"type": "bar", "series": 2, "mode": "stacked"}, "frame.plot.barh(stacked=True)\nplt.show()"),
        "histogram": ({"type": "histogram", "series": 2}, "frame.plot.hist(bins=5, alpha=0.5)\nplt.show()"),
        "area": ({"type": "area", "series": 2}, "frame.plot.area()\nplt.show()"),
        "pie": ({"type": "pie", "data.0.labels": ["x", "y", "z"]}, "frame['a'].plot.pie()\nplt.show()"),
        "box": ({"type": "box", "series": 2}, "frame.plot.box()\nplt.show()"),
        "scatter": ({"type": "scatter"}, "frame.plot.scatter(x='a', y='b')\nplt.show()"),
    },
)
_plotly = [
    *_all(
        "plotly",
        EXPRESS,
        {
            "line": (
                {"type": "line", "series": 2, "data.0.name": "a", "data.1.y": [3, 4], "layout.y.label": "value"},
                "px.line(frame, x='year', y='value', color='who', title='By who')",
            ),
            "scatter": ({"type": "scatter", "series": 1}, "px.scatter(frame, x='year', y='value', size='value')"),
            "bar": ({"type": "bar", "series": 2, "mode": "stacked"}, "px.bar(frame, x='year', y='value', color='who')"),
            "grouped": (
                {"type": "bar", "series": 2, "mode": "grouped"},
                "px.bar(frame, x='year', y='value', color='who', barmode='group')",
            ),
            "histogram": ({"type": "histogram", "series": 1}, "px.histogram(frame, x='value', nbins=4)"),
            "pie": (
                {"type": "pie", "data.0.labels": ["a", "b"]},
                "px.pie(frame, names='who', values='value')",
            ),
            "box": ({"type": "box", "series": 2}, "px.box(frame, x='who', y='value')"),
            "violin": ({"type": "violin"}, "px.violin(frame, y='value')"),
            "heatmap": ({"type": "heatmap", "data.0.values": [[1, 2], [3, 4]]}, "px.imshow([[1, 2], [3, 4]])"),
            "area": ({"type": "area", "series": 2}, "px.area(frame, x='year', y='value', color='who')"),
            "facets": (
                {"type": "subplots", "subplots": ["line", "line"]},
                "px.line(frame, x='year', y='value', facet_col='who')",
            ),
            "treemap": ({"type": "treemap"}, "px.treemap(frame, path=['who', 'year'], values='value')"),
            "dates": (
                {"type": "line", "layout.x.scale": "date"},
                "px.line(x=pd.date_range('2026-01-01', periods=3), y=[1, 2, 3])",
            ),
        },
    ),
    *_all(
        "plotly",
        OBJECTS,
        {
            "objects": (
                {"type": "line", "series": 2, "title": "Two", "layout.x.label": "t [s]", "layout.x.unit": "s"},
                "figure = go.Figure([go.Scatter(y=np.arange(5.0)), go.Scatter(y=[5, 4, 3], mode='lines', name='down')])\n"
                "figure.update_layout(title='Two', xaxis_title='t [s]')\nfigure",
            ),
            "subplots": (
                {"type": "subplots", "subplots": ["bar", "heatmap"], "subplots.0.title": "First"},
                "from plotly.subplots import make_subplots\n"
                "figure = make_subplots(1, 2, subplot_titles=('First', 'Second'))\n"
                "figure.add_trace(go.Bar(x=['a', 'b'], y=[1, 2]), 1, 1)\n"
                "figure.add_trace(go.Heatmap(z=np.eye(3)), 1, 2)\nfigure",
            ),
            "candles": (
                {"type": "candlestick", "data.0.open": [1, 2]},
                "go.Figure(go.Candlestick(x=['2026-01-01', '2026-01-02'], open=[1, 2], high=[3, 4], low=[0, 1], close=[2, 3]))",
            ),
            "twin": (
                {"type": "line", "series": 2, "data.1.axis": "y2"},
                "figure = go.Figure([go.Scatter(y=[1, 2]), go.Scatter(y=[100, 200], yaxis='y2')])\n"
                "figure.update_layout(yaxis2={'overlaying': 'y', 'side': 'right'})\nfigure",
            ),
        },
    ),
]  # fmt: skip
_altair = _all(
    "altair",
    ALTAIR,
    {
        "line": (
            {"type": "line", "series": 1, "data.0.x": [90, 100, 120, 150, 200]},
            "alt.Chart(cars).mark_line().encode(x='power', y='miles').properties(title='Cars')",
        ),
        "scatter": (
            {"type": "scatter", "series": 3, "data.0.name": "EU", "layout.x.label": "power"},
            "alt.Chart(cars).mark_point().encode(x='power', y='miles', color='origin')",
        ),
        "bar": (
            {"type": "bar", "data.0.categories": ["EU", "JP", "US"], "data.0.values": [32.5, 26.0, 16.0],
             "layout.y.label": "Average of miles"},
            "alt.Chart(cars).mark_bar().encode(x='origin', y='average(miles)')",
        ),
        "horizontal": (
            {"type": "bar", "data.0.orientation": "horizontal"},
            "alt.Chart(cars).mark_bar().encode(y='origin:N', x='count()')",
        ),
        "histogram": (
            {"type": "histogram", "data.0.counts": [1, 1, 1, 1, 0, 1], "data.0.edges.0": 80},
            "alt.Chart(cars).mark_bar().encode(alt.X('power', bin=alt.Bin(maxbins=6)), y='count()')",
        ),
        "pie": (
            {"type": "pie", "data.0.labels": ["EU", "JP", "US"], "data.0.values": [2, 1, 2]},
            "alt.Chart(cars).mark_arc().encode(theta='count()', color='origin')",
        ),
        "heatmap": (
            {"type": "heatmap", "data.0.x": ["EU", "JP", "US"]},
            "alt.Chart(cars).mark_rect().encode(x='origin:N', y='power:O', color='miles:Q')",
        ),
        "area": ({"type": "area"}, "alt.Chart(cars).mark_area().encode(x='power', y='miles')"),
        "box": ({"type": "box", "series": 3}, "alt.Chart(cars).mark_boxplot().encode(x='origin', y='miles')"),
        "layers": (
            {"type": "line", "series": 2},
            "base = alt.Chart(cars).encode(x='power', y='miles')\nbase.mark_line() + base.mark_point()",
        ),
        "side-by-side": (
            {"type": "subplots", "subplots": ["scatter", "bar"]},
            "alt.Chart(cars).mark_point().encode(x='power', y='miles') | "
            "alt.Chart(cars).mark_bar().encode(x='origin', y='count()')",
        ),
        "facets": (
            {"type": "subplots", "subplots": ["scatter", "scatter", "scatter"], "subplots.0.title": "EU"},
            "alt.Chart(cars).mark_point().encode(x='power', y='miles', facet='origin')",
        ),
    },
)  # fmt: skip
_others = [
    Snippet(
        "sympy-plot",
        {"type": "line"},
        "import sympy\nfrom sympy.plotting import plot\nx = sympy.symbols('x')\nplot(sympy.sin(x), (x, 0, 3), show=True)\nNone",
    ),
    Snippet("sympy-latex", {"format": "latex"}, "import sympy\nx = sympy.symbols('x')\nsympy.Integral(sympy.sqrt(1 / x), x)"),
    Snippet("sympy-matrix", {"format": "latex"}, "import sympy\nsympy.Matrix([[1, 2], [3, 4]])"),
    Snippet("polars-frame", {"format": "html"}, "import polars as pl\npl.DataFrame({'a': [1, 2], 'b': ['x', 'y']})"),
    Snippet(
        "polars-groups",
        {"format": "html"},
        "import polars as pl\npl.DataFrame({'a': [1, 1, 2], 'b': [1.0, 2.0, 4.0]}).group_by('a').agg(pl.col('b').mean())",
    ),
    Snippet(
        "polars-plot",
        {"type": "bar"},
        "import polars as pl\npl.DataFrame({'day': ['a', 'b'], 'n': [1, 2]}).plot.bar(x='day', y='n')",
    ),
    Snippet("pandas-frame", {"format": "html"}, "import pandas as pd\npd.DataFrame({'a': [1, 2]}).style.format('{:.1f}')"),
    Snippet(
        "pillow",
        {"format": "png"},
        "from PIL import Image\nImage.new('RGB', (8, 8), 'red')",
    ),
]  # fmt: skip

SNIPPETS = [*_matplotlib, *_seaborn, *_pandas, *_plotly, *_altair, *_others]
