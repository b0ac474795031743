"""Every snippet of `tests.kernels.gallery` in a sandbox: it runs, shows its picture, and its chart is right."""

from __future__ import annotations

from typing import Any

import pytest

from sandcove import CodeContext, Sandbox
from tests.kernels.gallery import SNIPPETS, Snippet


@pytest.fixture(scope="module")
def context(shared: Sandbox) -> CodeContext:
    return shared.create_code_context()


def at(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.name)
def test_a_snippet(shared: Sandbox, context: CodeContext, snippet: Snippet) -> None:
    execution = shared.run_code(f"%reset -f\n{snippet.code}", context=context, timeout=100)
    assert execution.error is None, execution.error
    assert execution.results, execution.logs
    result = execution.results[-1]
    expected = dict(snippet.expected)
    if kind := expected.pop("format", None):
        assert kind in result.formats()
        return
    drawn = snippet.name.split("-")[0]
    picture = {"plotly": "plotly", "altair": "vega_lite", "polars": "vega_lite"}.get(drawn, "png")
    assert picture in result.formats()
    assert len(execution.results) == 1, "one picture, once"
    assert result.chart is not None
    chart = result.chart.raw
    library = {"pandas": "matplotlib", "sympy": "matplotlib", "polars": "altair"}.get(drawn, drawn)
    assert chart["library"] == expected.pop("library", library)
    if "series" in expected:
        assert len(chart["data"]) == expected.pop("series"), chart["data"]
    if "subplots" in expected:
        assert [each["type"] for each in chart["subplots"]] == expected.pop("subplots")
    assert {path: at(chart, path) for path in expected} == expected


def test_there_are_enough_of_them() -> None:
    assert len(SNIPPETS) >= 60
    assert len({snippet.name for snippet in SNIPPETS}) == len(SNIPPETS)
