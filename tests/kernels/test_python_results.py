"""What Python cells display: every format, once, in a form that is JSON."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.kernels.driver import Driver

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def result_of(python: Driver, code: str) -> dict[str, Any]:
    cell = python.run(code)
    assert cell.error is None, cell.error
    assert cell.stderr == "", cell.stderr
    return cell.result


class TestBoth:
    def test_every_format_has_its_field(self, any_python: Driver) -> None:
        code = f"""
class Rich:
    def __repr__(self): return 'text'
    def _repr_html_(self): return '<b>'
    def _repr_markdown_(self): return '*m*'
    def _repr_latex_(self): return '$x$'
    def _repr_svg_(self): return '<svg/>'
    def _repr_png_(self): return {PNG!r}
    def _repr_jpeg_(self): return {base64.encodebytes(PNG * 3).decode()!r}
    def _repr_pdf_(self): return b'%PDF'
    def _repr_javascript_(self): return 'f()'
    def _repr_json_(self): return {{'a': 1}}
Rich()
"""
        result = result_of(any_python, code)
        assert base64.b64decode(result.pop("png")) == PNG
        assert base64.b64decode(result.pop("jpeg"), validate=True) == PNG * 3
        assert base64.b64decode(result.pop("pdf")) == b"%PDF"
        assert result == {
            "type": "result",
            "text": "text",
            "html": "<b>",
            "markdown": "*m*",
            "latex": "$x$",
            "svg": "<svg/>",
            "javascript": "f()",
            "json": {"a": 1},
            "main": True,
        }

    def test_bundles_of_any_type(self, any_python: Driver) -> None:
        code = """
class Bundle:
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {
            'text/plain': 'b',
            'application/vnd.plotly.v1+json': {'data': []},
            'application/vnd.vega.v5+json': {'v': 5},
            'application/vnd.vegalite.v6.2+json': {'v': 6},
            'application/geo+json': {'type': 'Point'},
            'application/x-mine': [1, float('inf')],
            'application/x-bytes': b'ab',
        }, {'image/png': {'width': 5}, 'application/x-mine': {'k': 1}}
Bundle()
"""
        assert result_of(any_python, code) == {
            "type": "result",
            "text": "b",
            "plotly": {"data": []},
            "vega": {"v": 5},
            "vegaLite": {"v": 6},
            "geojson": {"type": "Point"},
            "data": {"application/x-mine": [1, None], "application/x-bytes": "YWI="},
            "metadata": {"png": {"width": 5}, "application/x-mine": {"k": 1}},
            "main": True,
        }

    @pytest.mark.parametrize(
        ("code", "json"),
        [
            ("{'a': [1, 2.5, None, True, 'x']}", {"a": [1, 2.5, None, True, "x"]}),
            ("[1, float('nan'), -float('inf')]", [1, None, None]),
            ("{1: 2, None: 3, True: 4, 2.5: 5}", {"1": 4, "null": 3, "2.5": 5}),
            ("{(1, 2): 3}", {"(1, 2)": 3}),
            ("[(1, 2)]", [[1, 2]]),
            ("['\\ud83d\\ude00', '\\u00e9', '\\ud800', '\\\\ud800']", ["\U0001f600", "\u00e9", "\\ud800", "\\ud800"]),
            ("{}", {}),
            ("[[]] * 3", [[], [], []]),
        ],
    )
    def test_dicts_and_lists_are_json_too(self, any_python: Driver, code: str, json: Any) -> None:
        assert result_of(any_python, code)["json"] == json

    @pytest.mark.parametrize(
        "code",
        [
            "[object()]",
            "{'a': b'bytes'}",
            "x = []\nx.append(x)\nx",
            "x = {}\nx['x'] = [x]\nx",
            "list(range(200_000))",
            "['x' * 2_000_000]",
            "[1 + 2j]",
        ],
    )
    def test_what_is_no_json_or_too_much_is_text_alone(self, any_python: Driver, code: str) -> None:
        result = result_of(any_python, code)
        assert "json" not in result
        assert "text" in result

    def test_numbers_too_long_for_text_are_told(self, any_python: Driver) -> None:
        cell = any_python.run("[10 ** 5000]")
        assert "Exceeds the limit" in cell.stderr
        assert "sandcove" not in cell.stderr
        assert cell.results == []
        assert cell.error is None

    def test_deep_nesting_breaks_nothing(self, any_python: Driver) -> None:
        cell = any_python.run("x = []\nfor _ in range(100_000): x = [x]\nx")
        assert cell.all("done")
        any_python.run("x = {'a': 1}\nfor _ in range(900): x = {'a': x}\nx")
        assert any_python.run("1").result["text"] == "1"

    def test_too_long_results_say_how_long_they_are(self, any_python: Driver) -> None:
        cell = any_python.run("class A:\n    def __repr__(self): return 'x' * 20_000_000\nA()")
        result = cell.result
        assert result["main"]
        assert "20,000,002 bytes" in result["text"]
        assert "write it to a file" in result["text"]
        cell = any_python.run("class A:\n    def _repr_png_(self): return b'x' * 20_000_000\ndisplay(A())")
        assert "png" in cell.result["text"]

    @pytest.mark.parametrize(
        "body",
        [
            "def _repr_html_(self): 1/0",
            "def _repr_html_(self): return 5",
            "def _repr_html_(self): return self._repr_html_()",
            "def _repr_mimebundle_(self, **kw): 1/0",
            "def _repr_mimebundle_(self, **kw): return 5",
            "def _repr_mimebundle_(self, **kw): return {5: object(), 'text/html': object()}",
            "def _repr_png_(self): return object()",
            "def __repr__(self): 1/0",
            "def __repr__(self): return 5",
            "def __repr__(self): return repr(self)",
            "def __getattr__(self, name): return self",
            "def __getattr__(self, name): 1/0",
            "__class__ = property(lambda self: 1/0)",
        ],
    )
    def test_no_display_method_breaks_the_kernel(self, any_python: Driver, body: str) -> None:
        cell = any_python.run(f"class A:\n    {body}\ndisplay(A())\nprint('after')\nA()", within=20)
        assert cell.all("done")
        if "1/0" in body and "__class__" not in body and "getattr" not in body:
            assert "ZeroDivisionError" in cell.stderr
        if "__class__" not in body:
            assert cell.error is None
            assert cell.stdout == "after\n"
        assert any_python.run("1").result["text"] == "1"

    def test_displays_are_updated_by_their_id(self, any_python: Driver) -> None:
        cell = any_python.run("h = display('a', display_id=True)\nh.update('b')\ndisplay('c', display_id='mine')\nNone")
        first, second, third = cell.results
        assert (first["text"], second["text"], third["text"]) == ("'a'", "'b'", "'c'")
        assert first["displayId"] == second["displayId"]
        assert second["update"]
        assert "update" not in first
        assert third["displayId"] == "mine"
        assert any_python.run("h.update('later')").result["displayId"] == first["displayId"]

    def test_raw_bundles_and_metadata(self, any_python: Driver) -> None:
        cell = any_python.run(
            "display({'text/plain': 'r', 'image/png': 'QUJD'}, raw=True, metadata={'image/png': {'width': 3}})"
        )
        assert cell.result == {"type": "result", "text": "r", "png": "QUJD", "metadata": {"png": {"width": 3}}}

    def test_several_displays_come_in_order(self, any_python: Driver) -> None:
        cell = any_python.run("display(1, 2)\nfor n in range(3): display(n)\n'last'")
        assert [result["text"] for result in cell.results] == ["1", "2", "0", "1", "2", "'last'"]
        assert [result.get("main", False) for result in cell.results] == [False] * 5 + [True]

    def test_classes_are_not_taken_for_their_instances(self, any_python: Driver) -> None:
        result = result_of(any_python, "class A:\n    def _repr_html_(self): return 'x'\nA")
        assert "html" not in result

    def test_an_interrupt_amid_displays_leaves_them_in_order(self, any_python: Driver) -> None:
        for _ in range(5):
            count = 0

            def on_event(kind: str, value: Any) -> None:
                nonlocal count
                count += kind == "result"
                if count == 20:
                    any_python.interrupt()

            cell = any_python.run("n = 0\nwhile True:\n    display(n)\n    n += 1", on_event=on_event, within=20)
            assert cell.error is not None
            assert cell.error["ename"] == "KeyboardInterrupt"
            assert [r["text"] for r in cell.results] == [str(n) for n in range(len(cell.results))]
            cell = any_python.run("import sys\nprint('o')\nprint('e', file=sys.stderr)\ndisplay(1)\nprint('p')")
            assert [kind for kind, _ in cell.events] == ["stdout", "stderr", "result", "stdout", "done"]


class TestLibraries:
    def test_ipython_display_objects(self, python: Driver) -> None:
        code = """
from IPython.display import *
display(HTML('<i>'), Markdown('*a*'), Math('x^2'), SVG('<svg></svg>'), JSON({'a': 1}), Javascript('f()'))
display(GeoJSON({'type': 'Point'}))
"""
        cell = python.run(code)
        assert cell.error is None, cell.error
        fields = ["html", "markdown", "latex", "svg", "json", "javascript", "geojson"]
        assert all(field in result for field, result in zip(fields, cell.results, strict=True)), cell.results

    def test_output_is_cleared(self, python: Driver) -> None:
        cell = python.run(
            "from IPython.display import clear_output\nprint('a')\nclear_output(wait=True)\nprint('b')\nclear_output()"
        )
        assert [kind for kind, _ in cell.events] == ["stdout", "clear_output", "stdout", "clear_output", "done"]
        assert [found["wait"] for found in cell.all("clear_output")] == [True, False]

    def test_formatters_that_a_user_registers(self, python: Driver) -> None:
        python.run(
            "f = get_ipython().display_formatter.formatters\n"
            "f['text/html'].for_type(int, lambda n: f'<b>{n}</b>')\nNone"
        )
        assert result_of(python, "5")["html"] == "<b>5</b>"
        python.run("get_ipython().run_line_magic('precision', '2')")
        assert result_of(python, "3.14159")["text"] == "3.14"

    def test_the_pages_of_long_values_are_cut_as_ipython_does(self, python: Driver) -> None:
        assert result_of(python, "list(range(5000))")["text"].endswith("...]")

    def test_pandas(self, python: Driver) -> None:
        result = result_of(python, "import pandas as pd\npd.DataFrame({'a': [1, 2]})")
        assert "<table" in result["html"]
        assert "json" not in result
        assert "html" not in result_of(python, "pd.Series([1, 2])")

    def test_polars(self, python: Driver) -> None:
        result = result_of(python, "import polars as pl\npl.DataFrame({'a': [1, 2]})")
        assert "<table" in result["html"]
        assert "shape: (2, 1)" in result["text"]

    def test_sympy(self, python: Driver) -> None:
        result = result_of(python, "import sympy\nx = sympy.Symbol('x')\nx ** 2 + 1")
        assert "x^{2}" in result["latex"]
        assert result["text"] == "x**2 + 1"

    def test_numpy(self, python: Driver) -> None:
        assert result_of(python, "import numpy as np\nnp.arange(3)")["text"] == "array([0, 1, 2])"
        assert result_of(python, "{'n': np.int64(3), 'x': np.float32(0.5)}")["json"] == {"n": 3, "x": 0.5}

    def test_pictures_of_pillow(self, python: Driver) -> None:
        result = result_of(python, "from PIL import Image\nImage.new('RGB', (4, 4))")
        assert base64.b64decode(result["png"]).startswith(b"\x89PNG")

    @pytest.mark.parametrize("show", ["fig", "fig.show()", "display(fig)"])
    def test_plotly(self, python: Driver, show: str) -> None:
        cell = python.run(f"import plotly.graph_objects as go\nfig = go.Figure(go.Bar(x=['a'], y=[2]))\n{show}")
        assert cell.error is None, cell.error
        assert cell.result["plotly"]["data"][0]["type"] == "bar"
        assert cell.result.get("main", False) == (show == "fig")

    def test_altair(self, python: Driver) -> None:
        code = """
import altair as alt, pandas as pd
alt.Chart(pd.DataFrame({'a': [1], 'b': [2]})).mark_bar().encode(x='a', y='b')
"""
        result = result_of(python, code)
        assert result["vegaLite"]["mark"]["type"] == "bar"
        assert result["main"]


class TestMatplotlib:
    START = "import matplotlib.pyplot as plt\n"

    @pytest.mark.parametrize(
        ("code", "count"),
        [
            ("plt.plot([1, 2]);", 1),
            ("plt.plot([1, 2])\nplt.show()", 1),
            ("fig, ax = plt.subplots()\nfig", 1),
            ("fig, ax = plt.subplots()\ndisplay(fig)", 1),
            ("fig, ax = plt.subplots()\nplt.show()\nfig", 2),
            ("plt.subplots()\nplt.subplots()\nNone", 2),
            ("plt.plot([1])\nplt.show()\nplt.plot([2])\nplt.show()", 2),
            ("plt.plot([1])\nplt.close()", 0),
            ("plt.plot([1])\nplt.savefig('a.png')", 1),
            ("plt.plot([1])\n1/0", 1),
            ("%matplotlib inline\nplt.plot([1]);", 1),
            ("import seaborn as sns\nsns.lineplot(x=[1, 2], y=[1, 2]);", 1),
            ("import pandas as pd\npd.DataFrame({'a': [1, 2]}).plot();", 1),
        ],
    )
    def test_a_figure_is_shown_once_and_closed(self, python: Driver, code: str, count: int) -> None:
        cell = python.run(self.START + code)
        assert [("png" in result) for result in cell.results] == [True] * count, cell.events
        assert all(base64.b64decode(result["png"]).startswith(b"\x89PNG") for result in cell.results)
        assert result_of(python, "plt.get_fignums()")["json"] == []
        assert python.run("1").results[0]["text"] == "1"

    def test_show_shows_in_its_place(self, python: Driver) -> None:
        cell = python.run(self.START + "print('a')\nplt.plot([1])\nplt.show()\nprint('b')\nplt.plot([1]);")
        assert [kind for kind, _ in cell.events] == ["stdout", "result", "stdout", "result", "done"]

    def test_other_formats(self, python: Driver) -> None:
        python.run("%config InlineBackend.figure_formats = ['svg']")
        assert result_of(python, self.START + "plt.plot([1]);")["svg"].startswith("<?xml")

    def test_a_figure_that_can_not_be_drawn_is_told(self, python: Driver) -> None:
        cell = python.run(self.START + "plt.title('$\\\\frac$');")
        assert "Expected \\frac{num}{den}" in cell.stderr
        assert result_of(python, "plt.get_fignums()")["json"] == []

    def test_all_letters_are_drawn(self, python: Driver) -> None:
        # Those that were not drawn before the fork come from files that are opened again.
        cell = python.run(
            self.START + "plt.title('qwertzuiop QWERTZ \u00df\u00e9 $\\\\alpha \\\\sum$', style='italic');"
        )
        assert "png" in cell.result
        assert cell.stderr == ""
