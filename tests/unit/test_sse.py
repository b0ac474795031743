"""Server-sent events, the cases that the format names."""

from __future__ import annotations

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


def test_pieces_of_a_big_event_are_joined_once() -> None:
    """Joined at every piece, an event of n pieces would be copied n times over."""
    decoder = SseDecoder()
    decoder.feed(b"data: ")
    for _ in range(1000):
        assert decoder.feed(bytes(4096)) == []
    assert len(decoder._line) == 1001
    assert decoder.feed(b"\n\n") == [SseEvent(bytes(4096 * 1000))]
