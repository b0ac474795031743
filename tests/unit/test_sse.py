"""Server-sent events, the cases that the format names."""

from __future__ import annotations

import time

import pytest

from sandcove.errors import SandboxNetworkError
from sandcove.wire.sse import SseDecoder, SseEvent, encode_comment, encode_event


def decode(*pieces: bytes) -> list[SseEvent]:
    decoder = SseDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def test_encode() -> None:
    assert encode_event(b'{"a":1}') == b'data: {"a":1}\n\n'
    assert encode_event(b"a\nb\r\nc\r") == b"data: a\ndata: b\ndata: c\ndata: \n\n"
    assert decode(encode_comment(b"ping"), encode_event(b"x")) == [SseEvent(b"x")]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\ndata: b\n\n", [SseEvent(b"a\nb")]),
        (b"data:a\n\n", [SseEvent(b"a")]),
        (b"data:  a\n\n", [SseEvent(b" a")]),
        (b"data\n\n", [SseEvent(b"")]),
        (b"data: a\r\rdata: b\r\n\r\n", [SseEvent(b"a"), SseEvent(b"b")]),
        (b"\xef\xbb\xbfdata: a\n\n", [SseEvent(b"a")]),
        (b"event: e\nid: 7\ndata: a\n\ndata: b\n\n", [SseEvent(b"a", "e", "7"), SseEvent(b"b", "message", "7")]),
        (b"event: e\n\ndata: a\n\n", [SseEvent(b"a")]),
        (b"unknown: x\nretry: 1\n: comment\n\n", []),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"", []),
    ],
)
def test_decode(stream: bytes, expected: list[SseEvent]) -> None:
    assert decode(stream) == expected
    assert decode(*(stream[i : i + 1] for i in range(len(stream)))) == expected


def test_a_line_end_cut_in_two_is_one() -> None:
    assert decode(b"data: a\r", b"\n\r", b"\ndata: b\n\n") == [SseEvent(b"a"), SseEvent(b"b")]


def test_an_event_over_the_limit_is_refused() -> None:
    decoder = SseDecoder(max_event_bytes=10)
    with pytest.raises(SandboxNetworkError, match="longer than 10 bytes"):
        decoder.feed(b"data: 0123456789")
    decoder = SseDecoder(max_event_bytes=10)
    with pytest.raises(SandboxNetworkError, match="longer than 10 bytes"):
        decoder.feed(b"data\n" * 100)


def test_big_events_in_small_pieces_take_linear_time() -> None:
    """A buffer that is joined for every piece would make 64 times the work here, not 4."""

    def seconds(size: int) -> float:
        stream = encode_event(b"x" * size)
        pieces = [stream[i : i + 4096] for i in range(0, len(stream), 4096)]
        best = 9.9
        for _ in range(5):
            start = time.perf_counter()
            assert len(decode(*pieces)) == 1
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds(32 << 20) < 32 * seconds(4 << 20)
