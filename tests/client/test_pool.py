"""Connections and their pool, both halves by one body, against a peer that says what each test wants."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sandcove.client._async.pool import AsyncPool
from sandcove.client._sync.pool import MOST_IDLE_EACH, Pool
from sandcove.client.endpoint import Broken, Endpoint, Unreachable
from tests.both import Blocking, blocking
from tests.client.peers import Connection, Peer, answer


@pytest.fixture(params=["sync", "async"])
def pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A pool with the blocking half's ways."""
    if request.param == "sync":
        made = Pool()
        yield made
        made.close()
        return
    with blocking() as portal:
        wrapped = Blocking(portal, AsyncPool())
        yield wrapped
        wrapped.close()


def pieces_of(pool: Any, data: list[bytes]) -> Any:
    """A request's body in pieces, as the half takes it."""
    if isinstance(pool, Pool):
        return iter(data)

    async def pieces() -> Any:
        for piece in data:
            yield piece

    return pieces()


def talk(connection: Connection) -> None:
    """Answers every request with its number on this connection, and its body's length."""
    number = 0
    while (request := connection.request())[0]:
        number += 1
        connection.sock.sendall(answer(b"%d %d" % (number, len(request[1]))))


def test_a_connection_is_used_again(pool: Any, tmp_path: Path) -> None:
    with Peer(tmp_path, talk) as peer:
        endpoint = Endpoint(unix=peer.path)
        bodies = [pool.request(endpoint, "POST", "/", b"x" * n).read() for n in (0, 5, 100_000)]
        assert bodies == [b"1 0", b"2 5", b"3 100000"]
        assert peer.connections == 1
        pool.close()


def test_a_connection_is_given_back_when_its_answer_was_read(pool: Any, tmp_path: Path) -> None:
    with Peer(tmp_path, talk) as peer:
        endpoint = Endpoint(unix=peer.path)
        first = pool.request(endpoint, "GET", "/")
        assert b"".join(first.pieces()) == b"1 0"
        assert pool.request(endpoint, "GET", "/").read() == b"2 0"
        pool.forget(endpoint)
        assert pool.request(endpoint, "GET", "/").read() == b"1 0"
        pool.close()


def test_a_connection_that_was_closed_while_idle_is_replaced(pool: Any, tmp_path: Path) -> None:
    """Also for a request that must not be made twice: nothing had been sent."""
    seen: list[bytes] = []
    closed = threading.Semaphore(0)

    def once(connection: Connection) -> None:
        seen.append(connection.request()[1])
        connection.sock.sendall(answer())
        connection.sock.close()
        closed.release()

    with Peer(tmp_path, once) as peer:
        endpoint = Endpoint(unix=peer.path)
        for body in (b"1", b"2", b"3"):
            assert pool.request(endpoint, "POST", "/", body).read() == b"ok"
            closed.acquire(timeout=20)
        assert seen == [b"1", b"2", b"3"]


def test_a_connection_that_breaks_before_the_answer(pool: Any, tmp_path: Path) -> None:
    """The pool can't know what was done already, and repeats nothing."""
    seen: list[bytes] = []

    def once_well(connection: Connection) -> None:
        seen.append(connection.request()[0][:4])
        connection.sock.sendall(answer())
        seen.append(connection.request()[0][:4])

    with Peer(tmp_path, once_well) as peer:
        endpoint = Endpoint(unix=peer.path)
        assert pool.request(endpoint, "GET", "/").read() == b"ok"
        with pytest.raises(Broken):
            pool.request(endpoint, "POST", "/", b"x")
        assert seen == [b"GET ", b"POST"]


def test_a_new_connection_that_breaks_is_not_tried_again(pool: Any, tmp_path: Path) -> None:
    def play(connection: Connection) -> None:
        connection.head()

    with Peer(tmp_path, play) as peer:
        with pytest.raises(Broken, match="in the middle of the answer"):
            pool.request(Endpoint(unix=peer.path), "GET", "/")
        assert peer.connections == 1


def test_nothing_listens(pool: Any, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="No such file"):
        pool.request(Endpoint(unix=str(tmp_path / "none.sock")), "GET", "/")
    with Peer(tmp_path, talk) as peer:
        (tmp_path / "left.sock").symlink_to(peer.path)
    with pytest.raises(Unreachable):
        pool.request(Endpoint(unix=str(tmp_path / "left.sock")), "GET", "/")
    with pytest.raises(Unreachable, match="refused"):
        pool.request(Endpoint(host="127.0.0.1", port=9), "GET", "/")


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 3_000_000])
def test_answers_in_chunks_and_until_the_end(pool: Any, tmp_path: Path, body: bytes) -> None:
    def play(connection: Connection) -> None:
        connection.head()
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 100_000):
            piece = body[start : start + 100_000]
            connection.sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.sock.sendall(b"0\r\n\r\n")
        connection.head()
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + body)

    with Peer(tmp_path, play) as peer:
        endpoint = Endpoint(unix=peer.path)
        assert pool.request(endpoint, "GET", "/").read() == body
        assert pool.request(endpoint, "GET", "/").read() == body
        assert peer.connections == 1


def test_bodies_in_pieces(pool: Any, tmp_path: Path) -> None:
    data = [os.urandom(300_000) for _ in range(10)]
    whole = b"".join(data)

    def play(connection: Connection) -> None:
        head = connection.head()
        assert b"Content-Length: 3000000" in head
        assert connection.body(len(whole)) == whole
        connection.sock.sendall(answer())
        head = connection.head()
        assert b"Transfer-Encoding: chunked" in head and b"Content-Length" not in head
        for piece in data:
            assert connection.body(7) == b"493e0\r\n"
            assert connection.body(len(piece) + 2) == piece + b"\r\n"
        assert connection.body(5) == b"0\r\n\r\n"
        connection.sock.sendall(answer())

    with Peer(tmp_path, play) as peer:
        endpoint = Endpoint(unix=peer.path)
        assert pool.request(endpoint, "PUT", "/", (pieces_of(pool, data), len(whole))).read() == b"ok"
        assert pool.request(endpoint, "PUT", "/", pieces_of(pool, data)).read() == b"ok"


def test_an_answer_that_comes_before_the_body_was_sent(pool: Any, tmp_path: Path) -> None:
    """As a server does that refuses an upload: the answer counts, and the connection is not used again."""

    def play(connection: Connection) -> None:
        connection.head()
        connection.sock.sendall(answer(b"too large", 413))
        connection.wait_for_end()

    with Peer(tmp_path, play) as peer:
        pieces = pieces_of(pool, [bytes(1_000_000)] * 200)
        response = pool.request(Endpoint(unix=peer.path), "PUT", "/", pieces)
        assert (response.status, response.read()) == (413, b"too large")


def test_an_answer_and_a_closed_connection_before_the_body_was_sent(pool: Any, tmp_path: Path) -> None:
    def play(connection: Connection) -> None:
        connection.head()
        connection.sock.sendall(answer(b"no", 400, b"Connection: close"))
        connection.sock.shutdown(1)  # our end of stream, so that the client's next bytes do not reset it unread
        connection.wait_for_end()

    with Peer(tmp_path, play) as peer:
        response = pool.request(Endpoint(unix=peer.path), "PUT", "/", pieces_of(pool, [bytes(1_000_000)] * 200))
        assert (response.status, response.read()) == (400, b"no")


def test_a_body_that_fails_midway_closes_the_connection(pool: Any, tmp_path: Path) -> None:
    ended = threading.Event()

    def play(connection: Connection) -> None:
        connection.head()
        connection.wait_for_end()
        ended.set()

    def failing() -> Iterator[bytes]:
        yield b"x"
        raise ZeroDivisionError

    async def failing_async() -> Any:
        yield b"x"
        raise ZeroDivisionError

    with Peer(tmp_path, play) as peer:
        with pytest.raises(ZeroDivisionError):
            pool.request(Endpoint(unix=peer.path), "PUT", "/", failing() if isinstance(pool, Pool) else failing_async())
        assert ended.wait(20)


@pytest.mark.parametrize("head", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
def test_an_answer_that_breaks_off(pool: Any, tmp_path: Path, head: bytes) -> None:
    def play(connection: Connection) -> None:
        connection.head()
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n5\r\nabc")

    with Peer(tmp_path, play) as peer:
        endpoint = Endpoint(unix=peer.path)
        with pytest.raises(Broken):
            pool.request(endpoint, "GET", "/").read()
        with pytest.raises(Broken):
            list(pool.request(endpoint, "GET", "/").pieces())


def test_leaving_an_answer_closes_its_connection(pool: Any, tmp_path: Path) -> None:
    ended = threading.Event()

    def play(connection: Connection) -> None:
        connection.head()
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        connection.wait_for_end()
        ended.set()

    with Peer(tmp_path, play) as peer:
        response = pool.request(Endpoint(unix=peer.path), "GET", "/")
        assert response.next_piece() == b"a"
        response.close()
        assert ended.wait(20)


def test_idle_connections_are_bounded(pool: Any, tmp_path: Path) -> None:
    with Peer(tmp_path, talk) as peer:
        endpoint = Endpoint(unix=peer.path)
        responses = [pool.request(endpoint, "GET", "/") for _ in range(MOST_IDLE_EACH + 8)]
        # Answers that have come whole give their connections back; the ninth that waits too many is closed.
        assert {response.read() for response in responses} <= {b"1 0", b"%d 0" % len(responses)} | {
            b"%d 0" % n for n in range(1, len(responses) + 1)
        }
        pool.close()


def test_bytes_that_nobody_asked_for_end_a_connection(pool: Any, tmp_path: Path) -> None:
    """An answer without a request would be taken for that of the next one."""

    def play(connection: Connection) -> None:
        connection.head()
        connection.sock.sendall(answer(b"mine") + answer(b"not yours"))
        connection.wait_for_end()

    with Peer(tmp_path, play) as peer:
        endpoint = Endpoint(unix=peer.path)
        for _ in range(3):
            assert pool.request(endpoint, "GET", "/").read() == b"mine"
        assert peer.connections == 3


def test_a_reader_that_waits_slows_the_sender_down(pool: Any, tmp_path: Path) -> None:
    """50 MB are sent to someone who reads nothing: what has left the sender stays in the buffers between."""
    sent = 0

    def play(connection: Connection) -> None:
        nonlocal sent
        while not (head := connection.head()).startswith(b"GET /big"):
            if not head:
                return
            connection.sock.sendall(answer())
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(500):
            connection.sock.sendall(bytes(100_000))
            sent += 100_000

    with Peer(tmp_path, play) as peer:
        endpoint = Endpoint(unix=peer.path)
        big = pool.request(endpoint, "GET", "/big")
        for _ in range(50):
            assert pool.request(endpoint, "GET", "/").read() == b"ok"
        assert sent < 5_000_000
        assert len(big.read()) == 50_000_000
        pool.close()


def test_threads_share_a_pool(tmp_path: Path) -> None:
    pool = Pool()
    with Peer(tmp_path, talk) as peer:
        endpoint = Endpoint(unix=peer.path)

        def call(size: int) -> bool:
            return pool.request(endpoint, "POST", "/", bytes(size)).read().endswith(b" %d" % size)

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(call, range(1000)))
        assert peer.connections <= 8
        pool.close()


def test_tasks_share_a_pool(tmp_path: Path) -> None:
    async def main(endpoint: Endpoint) -> None:
        pool = AsyncPool()

        async def call(size: int) -> bool:
            response = await pool.request(endpoint, "POST", "/", bytes(size))
            return (await response.read()).endswith(b" %d" % size)

        for _ in range(4):
            assert all(await asyncio.gather(*(call(size) for size in range(60))))
        pool.close()

    with Peer(tmp_path, talk) as peer:
        asyncio.run(main(Endpoint(unix=peer.path)))


def test_a_cancelled_request_closes_its_connection(tmp_path: Path) -> None:
    asked = threading.Event()
    ended = threading.Event()

    def play(connection: Connection) -> None:
        connection.head()
        asked.set()
        connection.wait_for_end()
        ended.set()

    async def main(endpoint: Endpoint) -> None:
        pool = AsyncPool()
        request = asyncio.ensure_future(pool.request(endpoint, "POST", "/"))
        await asyncio.to_thread(asked.wait, 20)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert await asyncio.to_thread(ended.wait, 20)

    with Peer(tmp_path, play) as peer:
        asyncio.run(main(Endpoint(unix=peer.path)))
