"""Right messages made wrong, byte by byte, for hypothesis; and an exchange over a socket that never takes long.

``SANDCOVE_FUZZ=N`` tries N examples of each, and others every time; else there are few and always the same.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

__all__ = ["check_answers", "exchange", "fuzzed", "mutated"]

PATIENCE = 20.0
"""Seconds in which a connection that is shut for writing must be at its end."""
_MANY = int(os.environ.get("SANDCOVE_FUZZ", "0"))

INSERTED = (
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b"%",
    b"%00",
    b"%2e%2e/",
    b"\xff\xfe",
    b"\xc3\x28",
    b"{",
    b"[" * 3000,
    b'"',
    b"-1",
    b"9" * 25,
    b"ffffffffffffffff",
    b"18446744073709551616",
    b"0x10",
    b"1e400",
    b"\r\nTransfer-Encoding: chunked",
    b"\r\nContent-Length: 5",
    b"\r\nContent-Length: 99999999999999999999",
    b"\r\nExpect: 100-continue",
    b"\r\nConnection: upgrade\r\nUpgrade: websocket",
    b"\r\nUpgrade: h2c",
    b"\r\nHost: evil",
    b"\r\nConnection: close",
    b"\r\nX-Flood: " + b"x" * 70_000,
    b"\r\nx: y" * 2000,
    b"HTTP/1.0",
    b"HTTP/0.9",
    b"HTTP/2.0",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x05\x01\x00",
)
NUMBERS = (b"", b"0", b"-1", b"1", b"65536", b"4294967296", b"9" * 30, b"1_0", b"+5")


def fuzzed(few: int) -> settings:
    """The settings of a test that tries `few` examples, or as many as the environment says."""
    return settings(
        max_examples=_MANY or few,
        derandomize=not _MANY,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def mutated(draw: st.DrawFn, messages: Sequence[bytes]) -> list[bytes]:
    """One of `messages`, changed in up to three places, in the pieces that it shall be sent in."""
    data = draw(st.sampled_from(messages))
    for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2, 3)))):
        place = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("flip", "set", "insert", "delete", "repeat", "number", "swap", "cut", "twice"))):
            case "flip" if place < len(data):
                data = data[:place] + bytes([data[place] ^ (1 << draw(st.integers(0, 7)))]) + data[place + 1 :]
            case "set" if place < len(data):
                data = data[:place] + draw(st.binary(min_size=1, max_size=4)) + data[place + 1 :]
            case "insert":
                data = data[:place] + draw(st.sampled_from(INSERTED)) + data[place:]
            case "delete":
                data = data[:place] + data[place + draw(st.integers(1, 20)) :]
            case "repeat":
                end = place + draw(st.integers(1, 40))
                data = data[:end] + data[place:end] * draw(st.integers(1, 50)) + data[end:]
            case "number":
                found = [match.span() for match in re.finditer(rb"\d+", data)]
                if found:
                    start, end = draw(st.sampled_from(found))
                    data = data[:start] + draw(st.sampled_from(NUMBERS)) + data[end:]
            case "swap":
                lines = data.split(b"\r\n")
                one, other_one = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
                lines[one], lines[other_one] = lines[other_one], lines[one]
                data = b"\r\n".join(lines)
            case "cut":
                data = data[:place]
            case "twice":
                data += data
        data = data[:300_000]
    kind = draw(st.sampled_from(("whole", "whole", "bytes", "cut")))
    if kind == "whole":
        return [data]
    if kind == "bytes" and len(data) < 600:
        return [data[i : i + 1] for i in range(len(data))]
    edges = sorted({0, len(data), *draw(st.lists(st.integers(0, len(data)), max_size=8))})
    return [data[a:b] for a, b in pairwise(edges)]


def exchange(sock: socket.socket, pieces: Sequence[bytes], *, shut: bool = True) -> bytes:
    """What comes back until the other end closes, which it must soon after it has been told that no more follows.

    Without `shut` it is not told; then it need not close, and what comes first is given.
    """
    came = bytearray()
    until = time.monotonic() + PATIENCE
    with sock:
        sock.settimeout(PATIENCE)
        try:
            for piece in pieces:
                sock.sendall(piece)
            if not shut:
                return sock.recv(1 << 16)
            sock.shutdown(socket.SHUT_WR)
            while piece := sock.recv(1 << 16):
                came += piece
                assert time.monotonic() < until, "it goes on and on"
        except TimeoutError:
            raise AssertionError(f"it neither closes nor answers; until then it said {bytes(came[:300])!r}") from None
        except OSError:
            pass  # it refused what it had not read
    return bytes(came)


_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [ -~]*\r\n((?:[!#-'*+.0-9A-Z^-z|~-]+:[ \t]?[\t -~\x80-\xff]*\r\n)*)\r\n")


def check_answers(came: bytes, allowed: Sequence[int] = ()) -> list[int]:
    """The statuses of the answers, each well-formed but perhaps the last cut off; none is a failure of the server's
    own, except those `allowed`."""
    statuses: list[int] = []
    while came:
        match = _HEAD.match(came)
        if match is None:
            assert b"\r\n\r\n" not in came, came[:300]  # else it is cut off in its head
            return statuses
        status = int(match[1])
        statuses.append(status)
        assert status < 500 or status in allowed, came[:600]
        assert b"Traceback" not in came
        headers = match[2].lower()
        came = came[match.end() :]
        if status < 200 or status in (204, 304):
            if status == 101:
                return statuses
            continue
        if b"transfer-encoding: chunked" in headers:
            assert b"content-length" not in headers
            while came:
                size, _, rest = came.partition(b"\r\n")
                assert re.fullmatch(rb"[0-9a-f]{1,8}", size), size[:80]
                length = int(size, 16)
                came = rest[length + 2 :]
                if not length:
                    break
        else:
            length_of = re.search(rb"content-length: (\d+)\r\n", headers)
            if length_of is None:
                return statuses
            # That of an answer to HEAD has no body.
            length = int(length_of[1])
            came = came if came.startswith(b"HTTP/1.1 ") else came[length:]
    return statuses
