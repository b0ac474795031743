"""What a Python kernel sends is JSON, in ASCII, whatever the value is."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sandcove.kernels.python.jsonable import is_small, text_of
from sandcove.kernels.python.mime import field_of, result

texts = st.text(st.characters(exclude_categories=[]))


scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
keys = texts | st.integers() | st.none() | st.booleans() | st.floats() | st.tuples(st.integers())
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner) | st.tuples(inner))


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


@given(values)
def test_every_value_is_valid_json_for_a_strict_reader(value: Any) -> None:
    text = text_of(value)
    assert text.isascii()
    assert "\n" not in text
    json.loads(text, parse_constant=refuse)
    msgspec.json.decode(text)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.integers(-(2**53), 2**53) | st.none()))
def test_what_is_json_comes_back(value: Any) -> None:
    assert json.loads(text_of(value)) == value
    assert is_small(value)


@given(texts)
def test_half_pairs_become_their_escapes(text: str) -> None:
    found = json.loads(text_of(text))
    assert not any(0xD800 <= ord(letter) <= 0xDFFF for letter in found)
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert found == "".join(f"\\u{ord(c):04x}" if 0xD800 <= ord(c) <= 0xDFFF else c for c in whole)


@given(st.floats())
def test_numbers_that_json_has_not_are_null(number: float) -> None:
    assert json.loads(text_of([number])) == [number if math.isfinite(number) else None]


@given(st.dictionaries(texts, values | st.binary()), st.none() | st.dictionaries(texts, values))
def test_a_result_is_one_line_that_the_wire_can_read(data: dict[str, Any], metadata: dict[str, Any] | None) -> None:
    message = result({"text/plain": "x", **data}, metadata, main=True, display_id="d", update=True)
    assert message.endswith(b"}\n")
    assert message.count(b"\n") == 1
    found = json.loads(message, parse_constant=refuse)
    assert (found["type"], found["main"], found["displayId"], found["update"]) == ("result", True, "d", True)


def test_the_fields_of_types() -> None:
    assert field_of("application/vnd.vegalite.v5+json") == "vegaLite"
    assert field_of("application/vnd.vegalite.v5.20.1+json") == "vegaLite"
    assert field_of("application/vnd.vegalite.v6.json") == "vegaLite"
    assert field_of("application/vnd.vega.v5+json") == "vega"
    assert field_of("application/vnd.vegan.v5+json") is None
    assert field_of("application/xhtml+xml") is None
