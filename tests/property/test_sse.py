"""The decoder of server-sent events against a slow, plain reading of the format, at every cut of the bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandcove.errors import SandboxNetworkError
from sandcove.wire.sse import SseDecoder, SseEvent, encode_event

PIECES = [
    b"data",
    b":",
    b" ",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"event",
    b"id",
    b"x",
    "é".encode(),
    b"\xff",
    b"\0",
    b"retry: 5",
]
STREAMS = st.lists(st.sampled_from([*PIECES, b"data: {}\n\n", b": heartbeat\n\n", b"\xef\xbb\xbf"]), max_size=30).map(
    b"".join
)


def plain_reading(stream: bytes) -> list[SseEvent]:
    """The format's own words, one step a sentence."""
    stream = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[SseEvent] = []
    data: list[bytes] = []
    event, last_id = "", ""
    for line in stream.split(b"\n")[:-1]:
        if not line:
            if data:
                events.append(SseEvent(b"\n".join(data), event or "message", last_id))
            data, event = [], ""
            continue
        if line.startswith(b":"):
            continue
        name, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if name == b"data":
            data.append(value)
        elif name == b"event":
            event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            last_id = value.decode("utf-8", "replace")
    return events


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({min(place, len(stream)) for place in places} | {0, len(stream)})
    return [stream[a:b] for a, b in pairwise(edges)]


@given(STREAMS, st.lists(st.integers(0, 200), max_size=20))
def test_any_cut_gives_what_the_format_says(stream: bytes, places: list[int]) -> None:
    decoder = SseDecoder()
    events = [event for piece in cut(stream, places) for event in decoder.feed(piece)]
    assert events == plain_reading(stream)


@given(STREAMS)
def test_byte_by_byte(stream: bytes) -> None:
    decoder = SseDecoder()
    assert [e for i in range(len(stream)) for e in decoder.feed(stream[i : i + 1])] == plain_reading(stream)


@given(st.lists(st.binary(min_size=1)), st.lists(st.integers(0, 500), max_size=9))
def test_what_is_encoded_is_decoded(payloads: list[bytes], places: list[int]) -> None:
    stream = b"".join(map(encode_event, payloads))
    decoder = SseDecoder()
    decoded = [event.data for piece in cut(stream, places) for event in decoder.feed(piece)]
    assert decoded == [p.replace(b"\r\n", b"\n").replace(b"\r", b"\n") for p in payloads]


@given(st.integers(1, 300), st.lists(st.integers(0, 400), max_size=9), st.sampled_from([b"data: ", b"data:\n", b": "]))
def test_the_limit_holds_at_every_cut(size: int, places: list[int], start: bytes) -> None:
    line = start.rstrip(b"\n") + b"x" * size
    stream = line + b"\n\n"
    decoder = SseDecoder(max_event_bytes=100)
    if len(line) <= 100:
        for piece in cut(stream, places):
            decoder.feed(piece)
    else:
        with pytest.raises(SandboxNetworkError, match="longer than 100 bytes"):
            for piece in cut(stream, places):
                decoder.feed(piece)
