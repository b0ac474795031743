"""The pure parts of previews: labels, heads and bodies, however they are cut."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandcove.errors import InvalidRequestError
from sandcove.server.preview.address import in_path, make_label, new_token
from sandcove.server.preview.body import Body, Chunked, Length
from sandcove.server.preview.exchange import Exchange
from sandcove.server.preview.head import MAX_HEAD, Beginning, Refused, fields, parse_request, request_line
from sandcove.wire.preview import Base, Label, in_host

UIDS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
PORTS = st.integers(1, 65535)
BYTES = st.lists(st.binary(min_size=1, max_size=40), max_size=8)
CUTS = st.lists(st.integers(1, 30), max_size=40)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in cuts:
        pieces.append(data[at : at + size])
        at += size
    return [piece for piece in [*pieces, data[at:]] if piece]


def fed(body: Body, data: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """What a body has, and what is behind it."""
    out: list[bytes] = []
    rest = b""
    for piece in cut(data, cuts):
        rest += piece if body.done else body.feed(piece, out)
    return b"".join(out), rest


@given(PORTS, UIDS, st.booleans())
def test_a_label_is_found_again_in_host_and_path(port: int, uid: str, public: bool) -> None:
    token = None if public else new_token()
    label = make_label(port, uid, token)
    host = Base("http", "preview.example.com", 8080).url(label).split("/")[2]
    found = Label(port, label.partition("-")[2])
    if token is not None:
        assert found.with_token() == (uid, token)
    for name in (host, host.upper(), host.split(":")[0], host.split(":")[0] + "."):
        assert in_host(name, "preview.example.com") == found
    place = in_path(f"/preview/{label}/a/b?c")
    assert place is not None and place.label == found and place.path == "/a/b?c"
    assert in_host(host, "localhost") is None
    assert in_host("x." + host, "preview.example.com") is None


@given(st.text(max_size=80))
def test_any_text_is_a_label_or_is_not(text: str) -> None:
    label = Label.parse(text)
    assert label is None or (f"{label.port}-{label.rest}" == text and 0 < label.port < 65536)
    in_host(text, "localhost")
    in_path(text)


def test_tokens_are_random_and_labels_bounded() -> None:
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000 and all(re.fullmatch("[a-z2-7]{26}", token) for token in tokens)
    assert len(make_label(65535, "x" * 30, new_token())) == 63
    with pytest.raises(InvalidRequestError, match="may have 30 characters, not 31"):
        make_label(65535, "x" * 31, new_token())


@given(BYTES, st.binary(max_size=50), CUTS)
def test_a_chunked_body_is_the_same_however_it_is_cut(chunks: list[bytes], behind: bytes, cuts: list[int]) -> None:
    data = b"".join(b"%x;e=1\r\n%b\r\n" % (len(piece), piece) for piece in chunks) + b"0\r\nA: b\r\n\r\n"
    body = Chunked()
    assert fed(body, data + behind, cuts) == (b"".join(chunks), behind)
    assert body.done and body.trailers == [(b"a", b"b")]


@given(st.binary(max_size=200), st.binary(max_size=50), CUTS)
def test_a_body_by_length_is_the_same_however_it_is_cut(content: bytes, behind: bytes, cuts: list[int]) -> None:
    body = Length(len(content))
    assert fed(body, content + behind, cuts) == (content, behind)
    assert body.done


@given(st.binary(max_size=300), CUTS)
def test_any_bytes_are_chunks_or_are_refused_alike(data: bytes, cuts: list[int]) -> None:
    def outcome(sizes: list[int]) -> object:
        body = Chunked()
        try:
            return fed(body, data, sizes), body.done
        except Refused as error:
            return str(error)

    assert outcome(cuts) == outcome([])


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_are_refused(data: bytes) -> None:
    for head in (data, b"GET / HTTP/1.1\r\nHost: a\r\n" + data):
        if b"\r\n\r\n" in head:
            continue
        try:
            request = parse_request(head)
        except Refused as error:
            assert error.status in (400, 417, 431, 505)  # noqa: PT017 - most inputs raise, some do not
            continue
        for name, value in request.headers:
            assert not re.search(rb"[\r\n\0]", name + value)


def end_of(head: bytes, cuts: list[int]) -> int | None:
    """Where a head ends that comes in such pieces; -1: it was refused."""
    beginning, data = Beginning(), bytearray()
    end = None
    for piece in cut(head, cuts):
        data += piece
        try:
            end = beginning.end(data)
        except Refused:
            return -1
        if end is not None:
            break
    return end


@given(
    st.lists(
        st.tuples(st.from_regex(rb"[A-Za-z-]{1,9}", fullmatch=True), st.from_regex(rb"[!-~]{0,9}", fullmatch=True))
    ),
    st.sampled_from([b"", b"\r\n"]),
    CUTS,
)
def test_the_beginning_of_a_right_head_never_looks_wrong(
    pairs: list[tuple[bytes, bytes]], before: bytes, cuts: list[int]
) -> None:
    text = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + text
    for pieces in (cuts, [1] * len(before + head)):
        assert end_of(before + head, pieces) is None
        assert end_of(before + head + b"\r\nmore", pieces) == len(head) - 2
    assert fields(text) == [(name.lower(), value) for name, value in pairs]


@given(st.lists(st.sampled_from([b"GET / HTTP/1.1", b"Host: a", b"\r\n", b"\r", b"\n", b"\0", b"a"])), CUTS)
def test_a_head_is_refused_in_pieces_if_it_is_refused_whole(parts: list[bytes], cuts: list[int]) -> None:
    data = re.sub(rb"\A(?:\r\n)+", b"", b"".join(parts))
    line = data.partition(b"\r\n")[0]
    for pieces in (cuts, [1] * len(data)):
        end = end_of(data, pieces)
        if end is None:
            assert b"\r\n\r\n" not in data
            assert not re.search(rb"(?<!\r)\n|\r[^\n]|\0", data)
            assert b"\r\n" not in data or request_line(line)
        elif end < 0:
            with pytest.raises(Refused):
                parse_request(data.partition(b"\r\n\r\n")[0])
        else:
            assert data.partition(b"\r\n\r\n")[0] == data[:end]


def test_a_head_that_drips_is_looked_at_once() -> None:
    beginning, data = Beginning(), bytearray(b"GET / HTTP/1.1\r\nA: " + b"a" * (MAX_HEAD - 6000))
    began = time.thread_time()
    for _ in range(5000):
        data += b"a"
        assert beginning.end(data) is None
    # 10 ms; over 2 s if each byte had all those before it looked at again.
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize(
    ("head", "fresh", "old"),
    [
        ("GET / HTTP/1.1\r\nHost: a", True, True),
        ("HEAD / HTTP/1.1\r\nHost: a", True, True),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1", True, False),
        ("POST / HTTP/1.1\r\nHost: a", True, False),
        ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked", True, False),
        ("DELETE / HTTP/1.1\r\nHost: a", True, False),
    ],
)
def test_what_cannot_be_sent_twice_goes_over_no_connection_that_was_idle(head: str, fresh: bool, old: bool) -> None:
    exchange = Exchange(object(), parse_request(head.encode()), object())  # type: ignore[arg-type]
    assert (exchange.may_reuse(0.999), exchange.may_reuse(1.0)) == (fresh, old)
