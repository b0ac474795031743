"""Server-sent events as Python iterables, for streams that an application receives or passes on."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, Protocol

import msgspec

from sandcove.errors import SandboxNetworkError, error_from_wire
from sandcove.wire.codec import NOT_JSON, encode
from sandcove.wire.sse import SseDecoder, encode_event

__all__ = ["StreamResponse", "async_iterable_to_sse_stream", "parse_sse_stream", "response_to_async_iterable"]

_END = b"[DONE]"


class StreamResponse(Protocol):
    """What `response_to_async_iterable` needs of an HTTP client's response; httpx's responses have it."""

    @property
    def status_code(self) -> int: ...

    def aiter_bytes(self) -> AsyncIterator[bytes]: ...


async def parse_sse_stream(stream: AsyncIterable[bytes]) -> AsyncIterator[Any]:
    """Yields the JSON value of each event of a stream of server-sent events, until it ends or says ``[DONE]``.

    Args:
        stream: its bytes, in pieces of any size.

    Raises:
        SandboxNetworkError: an event is no JSON, or longer than 64 MiB.
    """
    decoder = SseDecoder()
    async for piece in stream:
        for event in decoder.feed(piece):
            if event.data.strip() == _END:
                return
            try:
                value = msgspec.json.decode(event.data)
            except NOT_JSON as error:
                raise SandboxNetworkError(f"an event of the stream is no JSON: {error}: {event.data[:80]!r}") from None
            yield value


async def response_to_async_iterable(response: StreamResponse) -> AsyncIterator[Any]:
    """Yields the JSON value of each event of an HTTP response.

    Args:
        response: one whose body is not read yet, with `status_code` and `aiter_bytes()`.

    Raises:
        SandboxError: its status is 400 or more; the error that its body tells.
        SandboxNetworkError: an event is no JSON, or longer than 64 MiB.
    """
    if response.status_code >= 400:
        body = b"".join([piece async for piece in response.aiter_bytes()])
        try:
            fields = msgspec.json.decode(body)
        except NOT_JSON:
            fields = None
        raise error_from_wire(response.status_code, fields if isinstance(fields, dict) else {})
    async for value in parse_sse_stream(response.aiter_bytes()):
        yield value


async def async_iterable_to_sse_stream(
    events: AsyncIterable[Any], *, serialize: Callable[[Any], str | bytes] | None = None
) -> AsyncIterator[bytes]:
    """Yields the bytes of a stream of server-sent events, one for each of `events`, and ``[DONE]`` at the end.

    Args:
        events: values that JSON can have.
        serialize: makes the data of an event instead.
    """
    async for value in events:
        data = encode(value) if serialize is None else serialize(value)
        yield encode_event(data.encode() if isinstance(data, str) else data)
    yield encode_event(_END)
