"""The HTTP/1.1 client core: the same events at every cut of the bytes; no request can carry another one."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandcove.errors import InvalidRequestError, SandboxNetworkError
from sandcove.wire.http import END, MAX_HEAD_BYTES, Event, Head, ResponseParser, chunk, quote, request_head

Framing = Literal["length", "chunked", "close"]
BODIES = st.lists(st.binary(min_size=1, max_size=50), max_size=6)


def wire_bytes(body: list[bytes], framing: Framing, interim: int) -> bytes:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * interim
    start = early + b"HTTP/1.1 200 OK\r\nX-A: b\r\n"
    if framing == "length":
        return start + b"Content-Length: %d\r\n\r\n" % len(b"".join(body)) + b"".join(body)
    if framing == "chunked":
        return start + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(map(chunk, body)) + b"0\r\nX-T: u\r\n\r\n"
    return start + b"\r\n" + b"".join(body)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({min(place, len(stream)) for place in places} | {0, len(stream)})
    return [stream[a:b] for a, b in pairwise(edges)]


def merged(events: list[Event]) -> list[Event]:
    """Neighbouring pieces of the body as one: where it is cut is the network's choice."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, bytes) and result and isinstance(result[-1], bytes):
            result[-1] += event
        else:
            result.append(event)
    return result


@given(
    BODIES,
    st.sampled_from(["length", "chunked", "close"]),
    st.integers(0, 2),
    st.lists(st.integers(0, 400), max_size=30),
)
def test_any_cut_gives_the_same_events(body: list[bytes], framing: Framing, interim: int, places: list[int]) -> None:
    parser = ResponseParser()
    parser.expect("GET")
    events = [event for piece in cut(wire_bytes(body, framing, interim), places) for event in parser.feed(piece)]
    events += parser.feed_eof()
    head, *rest = merged(events)
    assert isinstance(head, Head) and head.status == 200 and head.get(b"x-a") == b"b"
    assert rest == ([b"".join(body), END] if body else [END])
    assert parser.reusable is (framing != "close")


@given(st.lists(st.tuples(BODIES, st.sampled_from(["length", "chunked"])), min_size=1, max_size=4), st.integers(1, 60))
def test_answers_one_after_the_other(answers: list[tuple[list[bytes], Framing]], step: int) -> None:
    parser = ResponseParser()
    for body, framing in answers:
        parser.expect("GET")
        stream = wire_bytes(body, framing, 0)
        events = [e for i in range(0, len(stream), step) for e in parser.feed(stream[i : i + step])]
        assert b"".join(e for e in events if isinstance(e, bytes)) == b"".join(body)
        assert events[-1] is END and parser.reusable


@given(BODIES, st.sampled_from(["length", "chunked"]), st.integers(1, 10_000))
def test_an_answer_cut_short_is_an_error(body: list[bytes], framing: Framing, keep: int) -> None:
    stream = wire_bytes(body, framing, 0)
    parser = ResponseParser()
    parser.expect("GET")
    parser.feed(stream[: keep % len(stream)])
    with pytest.raises(SandboxNetworkError, match="in the middle"):
        parser.feed_eof()


@given(st.integers(-3000, 3000), st.lists(st.integers(0, MAX_HEAD_BYTES * 2), max_size=20))
@example(0, [])
def test_the_limit_of_a_head_holds_at_every_cut(over: int, places: list[int]) -> None:
    start, end = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Long: ", b"\r\n\r\n"
    stream = start + b"x" * (MAX_HEAD_BYTES + over - len(start) - len(end)) + end + b"abc"
    parser = ResponseParser()
    parser.expect("GET")
    if over <= 0:
        assert b"abc" in merged([e for piece in cut(stream, places) for e in parser.feed(piece)])
    else:
        with pytest.raises(SandboxNetworkError, match="longer than"):
            for piece in cut(stream, places):
                parser.feed(piece)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=9))
def test_rubbish_is_an_error_of_ours(stream: bytes, places: list[int]) -> None:
    parser = ResponseParser()
    parser.expect("GET")
    try:
        for piece in cut(stream, places):
            parser.feed(piece)
        parser.feed_eof()
    except SandboxNetworkError:
        pass


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_a_head_is_one_head_or_refused(method: str, target: str, name: str, value: str) -> None:
    try:
        head = request_head(method, target, [(name, value)])
    except InvalidRequestError:
        return
    assert head.endswith(b"\r\n\r\n") and head.count(b"\r\n") == 3 and head.count(b"\n") == 3
    assert head.split(b"\r\n")[0].count(b" ") == 2


@given(st.text())
def test_quoted_text_is_a_target_and_comes_back(value: str) -> None:
    from urllib.parse import unquote_to_bytes

    try:
        raw = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return
    quoted = quote(value)
    assert unquote_to_bytes(quoted) == raw
    request_head("GET", "/?path=" + quoted, [])
    assert not set(quoted) & set("&=?#+% ") - {"%"}
