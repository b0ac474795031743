"""The decoder of lines, at every cut of the bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandcove.errors import SandboxNetworkError
from sandcove.wire.lines import LineDecoder

STREAMS = st.lists(st.sampled_from([b"\n", b"\n\n", b"{}", "é".encode(), b"\r", b"x" * 50]), max_size=40).map(b"".join)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@given(STREAMS, st.lists(st.integers(0, 400), max_size=20))
def test_lines_are_the_same_however_the_bytes_are_cut(stream: bytes, places: list[int]) -> None:
    decoder = LineDecoder()
    found = [line for piece in cut(stream, places) for line in decoder.feed(piece)]
    assert found == [line for line in stream.split(b"\n")[:-1] if line]


def test_a_long_line_is_put_together_from_many_pieces() -> None:
    decoder = LineDecoder()
    for _ in range(20_000):
        assert decoder.feed(b"x" * 1000) == []
    assert decoder.feed(b"y\nrest") == [b"x" * 20_000_000 + b"y"]
    assert decoder.feed(b"\n") == [b"rest"]


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x" * 6] * 2, [b"x" * 11 + b"\n"], [b"x" * 6, b"x" * 5 + b"\n"]])
def test_a_line_over_the_limit_is_an_error(pieces: list[bytes]) -> None:
    decoder = LineDecoder(max_line_bytes=10)
    assert decoder.feed(b"x" * 10 + b"\n") == [b"x" * 10]
    with pytest.raises(SandboxNetworkError, match="longer than 10 bytes"):
        for piece in pieces:
            decoder.feed(piece)
