"""The public utilities for server-sent events: what goes in comes out, however the bytes are cut on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandcove import (
    SandboxNetworkError,
    async_iterable_to_sse_stream,
    parse_sse_stream,
    response_to_async_iterable,
)
from sandcove.errors import SandboxError, error_from_wire, error_to_wire, error_tree

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.sampled_from(["[DONE]", "é€😀\r\n", "\ufeff"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
PLACES = st.lists(st.integers(0, 2000), max_size=30)
LINE_ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
BETWEEN = st.sampled_from([b"", b": comment", b":", b"retry: 5", b"event: x", b"id: 1", b"unknown"])


async def each(items: list[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def all_of(stream: AsyncIterator[Any]) -> list[Any]:
    return [value async for value in stream]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]  # empty pieces are among them


class Response:
    def __init__(self, status_code: int, pieces: list[bytes]) -> None:
        self.status_code = status_code
        self._pieces = pieces

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        return each(self._pieces)


def parse(pieces: list[bytes]) -> list[Any]:
    return asyncio.run(all_of(parse_sse_stream(each(pieces))))


@given(st.lists(VALUES, max_size=8), PLACES, st.booleans())
def test_there_and_back_at_every_cut(values: list[Any], places: list[int], indented: bool) -> None:
    serialize = (lambda value: json.dumps(value, indent=1, ensure_ascii=False)) if indented else None

    async def main() -> None:
        made = b"".join(await all_of(async_iterable_to_sse_stream(each(values), serialize=serialize)))
        assert made.endswith(b"data: [DONE]\n\n")
        pieces = cut(made, places)
        assert await all_of(parse_sse_stream(each(pieces))) == values
        assert await all_of(response_to_async_iterable(Response(200, pieces))) == values
        # What comes after the end is not looked at, and the end may be that of the connection.
        assert await all_of(parse_sse_stream(each([*pieces, b"data: {\n\n"]))) == values
        assert await all_of(parse_sse_stream(each(cut(made[: -len(b"data: [DONE]\n\n")], places)))) == values

    asyncio.run(main())


@given(st.lists(VALUES, max_size=6), st.data(), st.booleans())
def test_every_line_end_comment_and_cut(values: list[Any], data: st.DataObject, with_bom: bool) -> None:
    stream = b"\xef\xbb\xbf" if with_bom else b""
    for value in values:
        between = data.draw(BETWEEN)
        lines = json.dumps(value, indent=1, ensure_ascii=False).encode().split(b"\n")
        # One kind in each event: CR after CR is two ends of lines, but LF after CR is a part of the same one.
        line_end = data.draw(LINE_ENDS)
        for line in [between] * bool(between) + [b"data: " + line for line in lines] + [b""]:
            stream += line + line_end
    assert parse(cut(stream, data.draw(PLACES))) == values
    assert parse([stream[i : i + 1] for i in range(len(stream))]) == values


@pytest.mark.parametrize("end", [b"data: [DONE]\n\n", b"data:[DONE]\r\r", b"data:  [DONE] \r\n\r\n", b""])
def test_the_end(end: bytes) -> None:
    for places in ([], list(range(60))):
        assert parse(cut(b"data: 1\n\n" + end, places)) == [1]


def test_an_event_that_the_end_cuts_off_is_dropped() -> None:
    assert parse([b"data: 1\n\n", b"data: 2\n"]) == [1]
    assert parse([b"data: 1\n\n", 'data: "é'.encode()[:-1]]) == [1]


@pytest.mark.parametrize("junk", [b"data: {\n\n", b"data: \xff\n\n", b"data: \n\n", b"data: undefined\n\n"])
def test_what_is_no_json_is_told(junk: bytes) -> None:
    for places in ([], list(range(30))):
        with pytest.raises(SandboxNetworkError, match="no JSON"):
            parse(cut(junk, places))


@given(st.sampled_from([cls for cls in error_tree() if cls is not SandboxError]), st.text(), PLACES)
def test_an_error_answer_is_the_error_that_it_was(kind: type[SandboxError], message: str, places: list[int]) -> None:
    body = json.dumps(error_to_wire(kind(message, retryAfter=2))).encode()
    with pytest.raises(kind) as caught:
        asyncio.run(all_of(response_to_async_iterable(Response(kind.status, cut(body, places)))))
    expected = error_from_wire(kind.status, json.loads(body))
    assert (str(caught.value), caught.value.details) == (str(expected), {"retryAfter": 2})
