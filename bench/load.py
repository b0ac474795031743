"""Offers load: on each of many connections the next request is sent when the answer to the one before is whole.

All answers are of one size, which is looked up before, so that the generator spends its time in the kernel. It takes
this time from the same cores as the contenders, from all of them alike.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.harness import Samples

__all__ = ["Load", "offer", "size_of_answer"]

READ = 256 * 1024
WITHIN = 30.0
"""Seconds in which some connection gets some bytes."""


@dataclass(frozen=True)
class Load:
    """What came of it.

    Attributes:
        rate: answers a second, over all connections.
        latencies: milliseconds from the request's first byte to the answer's last.
    """

    rate: float
    latencies: Samples


def offer(connections: Sequence[socket.socket], request: bytes, size: int, seconds: float) -> Load:
    """Does it for so long. The connections have nothing open afterwards, and can be used again.

    Args:
        size: bytes of each answer.

    Raises:
        RuntimeError: a connection ended, an answer had more bytes, or none came.
    """
    poll = select.epoll()
    for connection in connections:
        connection.setblocking(False)
        poll.register(connection.fileno(), select.EPOLLIN)
    left = {connection.fileno(): size for connection in connections}
    sent = dict.fromkeys(left, 0.0)
    latencies = []
    clock, read, write = time.perf_counter, os.read, os.write
    begin = clock()
    end = begin + seconds
    for number in left:
        sent[number] = clock()
        write(number, request)
    waiting = len(left)
    while waiting:
        events = poll.poll(WITHIN)
        if not events:
            raise RuntimeError(f"no answer came within {WITHIN:g} s")
        for number, _ in events:
            piece = read(number, READ)
            missing = left[number] - len(piece)
            if missing > 0 and piece:
                left[number] = missing
            elif missing:
                raise RuntimeError(f"an answer is of another size, or its connection ended: {piece[:200]!r}")
            else:
                now = clock()
                latencies.append((now - sent[number]) * 1e3)
                left[number] = size
                if now < end:
                    sent[number] = now
                    write(number, request)
                else:
                    waiting -= 1
    took = clock() - begin
    poll.close()
    return Load(len(latencies) / took, Samples(latencies))


def size_of_answer(connection: socket.socket, request: bytes) -> int:
    """Asks once: how many bytes the answer has with its head.

    Raises:
        RuntimeError: it is no 200 with a Content-Length.
    """
    connection.settimeout(WITHIN)
    connection.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = connection.recv(READ)
        if not piece:
            raise RuntimeError(f"the connection ended: {answer[:200]!r}")
        answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if not head.startswith(b"HTTP/1.1 200") or not lengths:
        raise RuntimeError(f"no 200 with a length: {answer[:400]!r}")
    size = len(head) + 4 + int(lengths[0].split(b":")[1])
    left = size - len(head) - 4 - len(body)
    while left:
        left -= len(connection.recv(left))
    return size
