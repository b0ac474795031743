"""Bytes as text, chunk by chunk: however they are cut, the text is the same and the bytes can be had exactly."""

from __future__ import annotations

import base64
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandcove.agent.text import Text, whole

pieces = st.one_of(
    st.text(max_size=8).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=6),
    st.sampled_from([b"\xe2\x82", b"\xf0\x9f\x98", b"\xff", b"\xc3", b"\xed\xa0\x80", "é€😀".encode()]),
)
outputs = st.lists(pieces, max_size=12).map(b"".join)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


def run(chunks: list[bytes]) -> tuple[str, bytes, list[tuple[str, str | None]]]:
    text = Text()
    events = [*map(text.feed, chunks), text.end()]
    exact = b"".join(data.encode() if given is None else base64.b64decode(given) for data, given in events)
    return "".join(data for data, _ in events), exact, events


@given(outputs, st.lists(st.integers(0, 1000), max_size=8))
@example(b"\xe2\x82\xac", [1, 2])
@example(b"\xf0\x9f\x98", [1, 2])
@example(b"a\xffb", [1, 2])
@example(b"\xe2\x28\xa1", [1, 2])
def test_any_cut_gives_the_exact_bytes(data: bytes, places: list[int]) -> None:
    assert run(cut(data, places))[1] == data


@given(outputs, st.lists(st.integers(0, 1000), max_size=8))
@example(b"\xe2\x82\xac", [1, 2])
@example(b"\xed\xa0\x80", [1, 2])
@example(b"\xf0\x9f\x98", [1, 2])
@example(b"\xf0\x9f\xff", [1, 2])
def test_any_cut_gives_the_same_text(data: bytes, places: list[int]) -> None:
    assert run(cut(data, places))[0] == data.decode("utf-8", "replace")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.lists(st.integers(0, 1000), max_size=8))
def test_whole_text_needs_no_bytes_beside_it(content: str, places: list[int]) -> None:
    text, _, events = run(cut(content.encode(), places))
    assert text == content
    assert all(exact is None for _, exact in events)
    # No event has a part of a character.
    assert "\ufffd" not in text or "\ufffd" in content


@given(st.binary(max_size=40))
def test_byte_by_byte(data: bytes) -> None:
    text, exact, _ = run([data[i : i + 1] for i in range(len(data))])
    assert (text, exact) == (data.decode("utf-8", "replace"), data)


@pytest.mark.parametrize("at", range(65_530, 65_540))
def test_large_binary_output_is_decoded_as_if_at_once(at: int) -> None:
    data = b"\xff" + b"x" * at + "é😀".encode() * 20_000 + b"\xf0\x9f"
    assert whole(data) == (data.decode("utf-8", "replace"), base64.b64encode(data).decode())
