"""A service for previews to lead to: it runs in a sandbox, or in a thread of the test, and tells what it was asked.

By path:
    /echo           the request as JSON: method, target, headers, the body's length, digest and trailers
    /raw?...        answers with the bytes that the query has, hexadecimal, and closes
    /count          how many requests have come
    /long           a head that is too long
    /slow           two events, the second when /go was asked for
    /send?n         n bytes, with a length
    /chunks?n       n bytes in chunks, then trailers
    /until-close    some bytes, ended by the end of the connection
    /upgrade        a raw echo after 101
    /early          answers before it has read the body, and closes
    /once           answers, and closes the connection after a moment without having said so
"""

from __future__ import annotations

import hashlib
import json
import socket
import sys
import threading
from io import BufferedReader
from typing import Any

__all__ = ["serve"]

GO = threading.Event()
LOCK = threading.Lock()
COUNT = [0]


def read_head(reader: BufferedReader[Any]) -> list[str]:
    lines: list[str] = []
    while True:
        line = reader.readline()
        if line in (b"\r\n", b""):
            return lines
        lines.append(line.decode("latin-1").rstrip("\r\n"))


def read_body(reader: BufferedReader[Any], headers: dict[str, str]) -> tuple[int, str, list[str]]:
    """Gives the length, digest and trailers of the body, which is never all in memory."""
    digest, size = hashlib.sha256(), 0
    if headers.get("transfer-encoding") == "chunked":
        while True:
            left = int(reader.readline().split(b";")[0], 16)
            size += left
            if not left:
                return size, digest.hexdigest(), read_head(reader)
            while left:
                piece = reader.read(min(left, 1 << 20))
                digest.update(piece)
                left -= len(piece)
            reader.readline()
    left = int(headers.get("content-length", 0))
    while left:
        piece = reader.read(min(left, 1 << 20))
        if not piece:
            break
        digest.update(piece)
        size += len(piece)
        left -= len(piece)
    return size, digest.hexdigest(), []


def talk(sock: socket.socket) -> None:
    reader = BufferedReader(socket.SocketIO(sock, "r"), 1 << 18)
    while True:
        head = read_head(reader)
        if not head:
            return
        method, target, version = head[0].split(" ")
        pairs = [line.split(": ", 1) for line in head[1:]]
        headers = {name.lower(): value for name, value in pairs}
        path, _, query = target.partition("?")
        if path == "/raw":
            sock.sendall(bytes.fromhex(query))
            return
        with LOCK:
            COUNT[0] += 1
        if path == "/count":
            count = str(COUNT[0]).encode()
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(count), count))
            continue
        if path == "/long":
            sock.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n")
            return
        if path == "/early":
            sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            return
        if path == "/upgrade" and "upgrade" in headers:
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello ")
            while piece := reader.read1(1 << 16):
                sock.sendall(piece)
            sock.sendall(b"bye")
            return
        if path == "/continue" and headers.get("expect") == "100-continue":
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        size, digest, trailers = read_body(reader, headers)
        if path == "/slow":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
            GO.wait(20)
            GO.clear()
            sock.sendall(b"data: 2\n\n")
            return
        if path == "/go":
            GO.set()
        if path == "/send":
            size = int(query)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            piece = bytes(1 << 20)
            while size and method != "HEAD":
                sock.sendall(piece[: min(size, len(piece))])
                size -= min(size, len(piece))
            continue
        if path == "/chunks":
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n")
            for number in range(int(query)):
                sock.sendall(b"4;ext=1\r\n%04d\r\n" % number)
            sock.sendall(b"0\r\nX-Sum: 7\r\nContent-Length: 5\r\n\r\n")
            continue
        if path == "/until-close":
            sock.sendall(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
            return
        body = json.dumps(
            {
                "method": method,
                "target": target,
                "version": version,
                "headers": pairs,
                "size": size,
                "digest": digest,
                "trailers": trailers,
                "connection": sock.getpeername()[1],
            }
        ).encode()
        if method == "HEAD":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            continue
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        if path == "/once":
            sock.shutdown(socket.SHUT_RDWR)
            return


def one(sock: socket.socket) -> None:
    with sock:
        try:
            talk(sock)
        except OSError:
            pass


def serve(port: int) -> None:
    with socket.create_server(("127.0.0.1", port), backlog=1024) as server:
        print("listening", flush=True)
        while True:
            sock, _ = server.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=one, args=(sock,), daemon=True).start()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
