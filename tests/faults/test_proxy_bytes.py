"""What programs inside say to the egress proxy, made wrong byte by byte: no failure of ours, nothing left open, and
nothing reached that the policy does not name."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.egress.proxy import Host, Proxy, ask, run, socks
from tests.faults.mutations import check_answers, exchange, fuzzed, mutated

FEW = 120
ALLOWED = (502, 503, 504, 505, 501)

HELLO = bytes.fromhex(
    "16030100" + "5b" + "010000" + "57" + "0303" + "00" * 32 + "00" + "0002" + "1301" + "0100" + "002c"
    "0000000e000c0000096c6f63616c686f7374"  # the name: localhost
    "002b0003020304" + "000a00040002001d" + "000d0004000204030000000000"
)


def messages(port: int) -> list[bytes]:
    address = socket.inet_aton("127.0.0.1")
    get = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n" % port
    return [
        get.replace(b"GET /", b"GET http://127.0.0.1:%d/" % port),
        b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 5\r\n\r\nhello" % (port, port),
        b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n0\r\n\r\n" % (port, port),
        b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (port, port) + get,
        b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % port + HELLO,
        b"\x05\x01\x00" + socks(1, address, port) + get,
        b"\x05\x02\x00\x02" + socks(3, b"127.0.0.1", port) + HELLO,
        b"\x05\x01\x00" + socks(4, socket.inet_pton(socket.AF_INET6, "::1"), port),
        b"\x04\x01" + port.to_bytes(2, "big") + address + b"user\0",
    ]


@contextmanager
def serving(host: Host, other: Host, trouble: list[Any]) -> Iterator[int]:
    """A proxy in a thread of its own, which lets through to `host` alone; gives its port."""
    ready, done = threading.Event(), threading.Event()
    found: list[int] = []

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: trouble.append(context))
        proxy = Proxy(f"127.0.0.1:{host.port}", "127.0.0.0/8")
        found.append(proxy.port)
        ready.set()
        await loop.run_in_executor(None, done.wait)
        assert b"reached" in await ask(proxy.port, messages(host.port)[0])

    thread = threading.Thread(target=lambda: run(serve))
    thread.start()
    assert ready.wait(10)
    try:
        yield found[0]
    finally:
        done.set()
        thread.join(30)


def test_mutated_words_to_the_proxy(caplog: pytest.LogCaptureFixture) -> None:
    host, other = Host(), Host()
    trouble: list[Any] = []
    before = len(os.listdir("/proc/self/fd"))
    with caplog.at_level(logging.WARNING), serving(host, other, trouble) as port:
        right = messages(host.port)

        @fuzzed(FEW)
        @given(mutated([*right, *messages(other.port)]))
        def attack(pieces: list[bytes]) -> None:
            came = exchange(socket.create_connection(("127.0.0.1", port)), pieces)
            if not came.startswith((b"\x05", b"\x04", b"\0")):
                check_answers(came, ALLOWED)
            assert not trouble, trouble

        @fuzzed(FEW)
        @given(st.sampled_from(right), st.integers(0, 300))
        def cut(message: bytes, place: int) -> None:
            exchange(socket.create_connection(("127.0.0.1", port)), [message[:place]])
            assert not trouble, trouble

        attack()
        cut()
    assert not trouble, trouble
    assert not [record for record in caplog.records if record.exc_info], caplog.text
    # The one that no pattern names was not reached.
    assert other.seen == []
    host.close()
    other.close()
    assert len(os.listdir("/proc/self/fd")) <= before + 8


def test_a_hello_is_one() -> None:
    """What is mutated here is what it is meant to be."""
    from sandcove.server.egress.hello import server_name

    assert server_name(HELLO) == b"localhost"
