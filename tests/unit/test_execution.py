"""What a cell gave: its events, put together."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from sandcove import Chart, CodeEvent, CodeExecutionError, Execution, Result
from sandcove.client import execution
from sandcove.client.execution import Assembly, line_of
from sandcove.wire import code


def assembled(*events: dict[str, Any]) -> Execution:
    assembly = Assembly()
    for event in events:
        assembly.add(code.CodeEvent(**event), 100)
    return assembly.execution("the cell")


def out(text: str) -> dict[str, Any]:
    return {"type": "stdout", "text": text}


def shown(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "result", "text": text, **more}


def clear(wait: bool = False) -> dict[str, Any]:
    return {"type": "clear_output", "wait": wait}


DONE: dict[str, Any] = {"type": "execution_complete", "execution_count": 3}


def texts(made: Execution) -> list[str | None]:
    return [result.text for result in made.results]


def test_an_execution_has_what_the_events_told() -> None:
    made = assembled(
        out("a\n"), shown("1"), {"type": "stderr", "text": "e\n"}, out("b\n"), shown("2", main=True), shown("3"), DONE
    )
    assert (made.code, made.execution_count, made.truncated) == ("the cell", 3, False)
    assert (made.logs.stdout, made.logs.stderr) == (["a\nb\n"], ["e\n"])
    assert texts(made) == ["1", "2", "3"]
    assert (made.text, made.json) == ("2", None)
    assert made.success and made.error is None


def test_a_cell_without_a_value_has_none() -> None:
    made = assembled(shown("displayed", json=[]), DONE)
    assert (made.text, made.json) == (None, None)


def test_the_value_of_a_cell_is_there_as_json() -> None:
    assert assembled(shown("displayed", json=1), shown("[2]", json=[2], main=True), DONE).json == [2]


def test_a_cell_that_raises_has_an_error() -> None:
    made = assembled({"type": "error", "ename": "E", "evalue": "v", "traceback": ["t"], "line_number": 2}, DONE)
    assert not made.success and made.error is not None
    assert (made.error.name, made.error.value, made.error.traceback, made.error.line_number) == ("E", "v", ["t"], 2)
    assert str(made.error) == "E: v"


def test_an_update_takes_the_place_of_every_display_of_its_name() -> None:
    made = assembled(
        shown("old", display_id="d"), shown("other"), shown("old", display_id="d"), shown("x", display_id="e"),
        shown("new", display_id="d", update=True), DONE,
    )  # fmt: skip
    assert texts(made) == ["new", "other", "new", "x"]


def test_an_update_of_what_is_not_there_is_a_result() -> None:
    made = assembled(shown("other"), shown("new", display_id="d", update=True), DONE)
    assert texts(made) == ["other", "new"]


def test_a_display_of_the_same_name_that_is_no_update_is_another_result() -> None:
    assert texts(assembled(shown("1", display_id="d"), shown("2", display_id="d"), DONE)) == ["1", "2"]


def test_clear_output_drops_what_came_before() -> None:
    made = assembled(out("a"), shown("1"), clear(), {"type": "stderr", "text": "b"}, DONE)
    assert (texts(made), made.logs.stdout, made.logs.stderr) == ([], [], ["b"])


def test_clear_output_that_waits_drops_it_when_the_next_output_comes() -> None:
    assert assembled(out("a"), clear(wait=True), DONE).logs.stdout == ["a"]
    assert assembled(out("a"), clear(wait=True), out("b"), out("c"), DONE).logs.stdout == ["bc"]
    assert texts(assembled(shown("1"), clear(wait=True), shown("2"), shown("3"), DONE)) == ["2", "3"]
    assert assembled(out("a"), clear(wait=True), clear(), DONE).logs.stdout == []


def test_output_is_in_few_pieces_however_it_comes() -> None:
    made = assembled(*[out("é")] * 20_000, out("x" * 100_000), out(""), DONE)
    assert "".join(made.logs.stdout) == "é" * 20_000 + "x" * 100_000
    assert len(made.logs.stdout) == 4


def test_output_over_the_limit_is_dropped_and_told() -> None:
    whole = "x" * (16 * 1024 * 1024)
    made = assembled(out(whole), out(whole[:-1]), out("ab"), out("c"), {"type": "stderr", "text": "e"}, DONE)
    assert made.truncated
    assert "".join(made.logs.stdout) == whole + whole[:-1] + "a"
    assert made.logs.stderr == ["e"]
    assert not assembled(out(whole), out(whole), DONE).truncated


CROWD: list[tuple[str, dict[str, Any]]] = [
    ("1", {"display_id": "d"}),
    ("2", {}),
    ("3", {}),
    ("4", {"display_id": "d", "update": True}),
]


def test_results_over_the_limit_are_dropped_and_told() -> None:
    assembly = Assembly()
    half = execution.MAX_RESULTS // 2
    for text, more in CROWD:
        assembly.add(code.CodeEvent(type="result", text=text, **more), half)
    made = assembly.execution("")
    assert texts(made) == ["4", "2"] and made.truncated
    assembly.add(code.CodeEvent(type="clear_output"), 10)
    assert not assembly.execution("").truncated
    assembly.add(code.CodeEvent(type="result", text="5"), half)
    assert texts(assembly.execution("")) == ["5"]


def test_what_there_was_before_an_error_of_ours() -> None:
    assembly = Assembly()
    for event in (out("a"), shown("1"), out("b")):
        assembly.add(code.CodeEvent(**event), 1)
    told = assembly.so_far()
    assert (told["stdout"], told["stderr"]) == ("ab", "")
    assert [result.text for result in told["results"]] == ["1"]


# --- results ---


def result(**fields: Any) -> Result:
    return Result(code.CodeEvent(type="result", **fields))


def test_a_result_has_its_representations() -> None:
    png = b"\x89PNG\r\n\x1a\n\0\xff"
    made = result(
        text="t", png=base64.b64encode(png).decode(), json=[], vega_lite={"a": 1}, data={"x/y": 1}, main=True,
        metadata={"png": {"width": 3}}, display_id="d",
    )  # fmt: skip
    assert (made.text, made.png, made.json, made.vega_lite, made.data) == ("t", png, [], {"a": 1}, {"x/y": 1})
    assert (made.html, made.jpeg, made.pdf, made.svg, made.chart, made.plotly) == (None,) * 6
    assert (made.main, made.display_id, made.update, made.metadata) == (True, "d", False, {"png": {"width": 3}})
    assert made.formats() == ["text", "png", "json", "vega_lite", "x/y"]
    assert repr(made) == "<Result text png json vega_lite x/y: 't'>"


def test_formats_are_in_the_seed_s_order_then_ours() -> None:
    names = ["text", "html", "png", "jpeg", "svg", "latex", "markdown", "javascript", "json", "chart"]
    ours = ["pdf", "plotly", "vega", "vega_lite", "geojson"]
    values: dict[str, Any] = {name: {"type": "line"} if name == "chart" else "x" for name in [*ours, *names]}
    assert result(**values).formats() == names + ours


@pytest.mark.parametrize("text", ["A", "é", "AAAAA"])
def test_a_picture_that_is_no_base64_is_an_error_of_its_own(text: str) -> None:
    with pytest.raises(CodeExecutionError, match="png that the cell gave is no base64"):
        _ = result(png=text).png


DANGEROUS: dict[str, Any] = {
    "html": "<script>",
    "svg": "<svg onload=''/>",
    "javascript": "alert()",
    "markdown": "<script>",
    "latex": "x",
    "json": 1,
    "plotly": {},
    "vega": {},
    "vega_lite": {},
    "data": {"text/html": "<script>"},
    "metadata": {"png": {}},
}


def test_a_notebook_shows_of_itself_what_runs_nothing() -> None:
    made = result(text="t", png="AAAA", jpeg="BBBB", **DANGEROUS)
    assert made._repr_mimebundle_() == {"text/plain": "t", "image/png": "AAAA", "image/jpeg": "BBBB"}


def test_ipython_shows_a_result_by_that() -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    data, metadata = formatters.DisplayFormatter().format(result(text="t", png="AAAA", **DANGEROUS))
    assert (data, metadata) == ({"text/plain": "t", "image/png": "AAAA"}, {})


def test_a_chart_has_names_for_what_it_says() -> None:
    inner = {"type": "bar", "data": [{"name": "a"}]}
    raw = {
        "type": "subplots",
        "title": "T",
        "library": "matplotlib",
        "layout": {"x": {}},
        "data": [],
        "subplots": [inner],
    }
    chart = result(chart=raw).chart
    assert isinstance(chart, Chart)
    assert (chart.type, chart.title, chart.library, chart.layout) == ("subplots", "T", "matplotlib", {"x": {}})
    assert (chart.data, chart.truncated, chart.raw) == ([], False, raw)
    [subplot] = chart.subplots
    assert (subplot.type, subplot.data, subplot.title, subplot.library) == ("bar", [{"name": "a"}], None, "unknown")
    assert repr(chart) == "<Chart subplots 'T' of 1 subplots>"
    assert repr(subplot) == "<Chart bar of 1 series>"


def test_a_chart_that_is_nothing_like_one_is_unknown() -> None:
    chart = Chart({"type": None, "data": 5, "layout": [], "subplots": [1, {}], "truncated": 1})
    assert (chart.type, chart.data, chart.layout, len(chart.subplots)) == ("unknown", [], {}, 1)
    assert chart.truncated is False


# --- events ---


def test_an_event_has_what_its_type_says() -> None:
    event = CodeEvent(code.CodeEvent(type="stdout", text="é"))
    assert (event.type, event.text, event.result, event.error) == ("stdout", "é", None, None)
    event = CodeEvent(code.CodeEvent(type="result", text="t"))
    assert event.text == "" and event.result is not None and event.result.text == "t"
    event = CodeEvent(code.CodeEvent(type="error", ename="E"))
    assert event.error is not None and (event.error.name, event.error.value) == ("E", "")
    event = CodeEvent(code.CodeEvent(type="execution_complete", execution_count=2))
    assert (event.execution_count, repr(event)) == (2, "<CodeEvent execution_complete 2>")
    assert CodeEvent(code.CodeEvent(type="clear_output", wait=True)).wait is True


def test_a_line_is_the_event_as_the_wire_has_it() -> None:
    event = code.CodeEvent(type="result", text="é", vega_lite={}, main=True, display_id="d")
    assert (
        line_of(CodeEvent(event)) == '{"type":"result","text":"é","vegaLite":{},"main":true,"displayId":"d"}'.encode()
    )
