"""The three public utilities for streams of server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from sandcove import (
    PathNotFoundError,
    SandboxNetworkError,
    async_iterable_to_sse_stream,
    parse_sse_stream,
    response_to_async_iterable,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def each(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


class Response:
    def __init__(self, status_code: int, *pieces: bytes) -> None:
        self.status_code = status_code
        self._pieces = pieces

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        return each(*self._pieces)


async def test_events_become_values() -> None:
    stream = each(b'data: {"a"', b": 1}\n\n: beat\n", b"\ndata: 2\r\n\r\ndata: [DONE]\n\ndata: 3\n\n")
    assert [value async for value in parse_sse_stream(stream)] == [{"a": 1}, 2]


async def test_there_and_back() -> None:
    values = [{"text": "zwei\nZeilen"}, [1, None], "é"]
    stream = async_iterable_to_sse_stream(each(*values))
    assert [value async for value in parse_sse_stream(stream)] == values


async def test_own_serialisation() -> None:
    stream = async_iterable_to_sse_stream(each(1, 2), serialize=lambda n: f'"{n}"')
    assert [piece async for piece in stream] == [b'data: "1"\n\n', b'data: "2"\n\n', b"data: [DONE]\n\n"]


async def test_no_json() -> None:
    with pytest.raises(SandboxNetworkError, match="no JSON"):
        [value async for value in parse_sse_stream(each(b"data: {\n\n"))]


async def test_a_response() -> None:
    response = Response(200, b"data: 1\n", b"\n")
    assert [value async for value in response_to_async_iterable(response)] == [1]


async def test_a_response_that_is_an_error() -> None:
    response = Response(404, b'{"error": "/x is not there",', b' "code": "PATH_NOT_FOUND"}')
    with pytest.raises(PathNotFoundError, match="/x is not there"):
        [value async for value in response_to_async_iterable(response)]
    with pytest.raises(PathNotFoundError.__mro__[1], match="status 404"):
        [value async for value in response_to_async_iterable(Response(404, b"<html>"))]
