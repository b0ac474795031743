"""Both ends of the question about egress: a service on loopback, and what asks it, with and without the proxy.

Run as ``egress_source.py PORT PROXY SIZE TIMES``, it asks, and prints a list: MB/s of a tunnel's answers of SIZE
bytes, or, where SIZE is 0, ms for each request over one connection; where it is -1, over a new connection each. PROXY
is its port, or 0.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time

ADDRESS = "127.0.0.1"


def serve() -> tuple[socket.socket, int]:
    """A service that answers with as many bytes as the last part of the path says."""
    listener = socket.create_server((ADDRESS, 0))

    def answer(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        block = bytes(1 << 20)
        with sock:
            while data := sock.recv(65536):
                while not data.endswith(b"\r\n\r\n"):  # tinyproxy sends a head in pieces
                    data += sock.recv(65536)
                size = int(data.split(b" ")[1].rpartition(b"/")[2])
                sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
                while size:
                    sock.sendall(block[:size])
                    size -= min(size, len(block))

    def accept() -> None:
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener, listener.getsockname()[1]


def ask(port: int, proxy: int, size: int, times: int) -> list[float]:
    """What this program prints."""
    if size < 0:
        return [sum(ask(port, proxy, 0, 1)) for _ in range(times)]
    begun = time.perf_counter()
    sock = socket.create_connection((ADDRESS, proxy or port))
    target = f"{ADDRESS}:{port}"
    if proxy and size:
        sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        assert b" 200 " in sock.recv(4096)
    url = f"http://{target}/{size}" if proxy and not size else f"/{size}"
    request = f"GET {url} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()
    buffer = bytearray(1 << 20)
    found = []
    for n in range(times):
        if n or size:
            begun = time.perf_counter()
        sock.sendall(request)
        got = 0
        while got < max(size, 1):
            got += sock.recv_into(buffer)
        took = time.perf_counter() - begun
        found.append(size / 1e6 / took if size else took * 1000)
        while size and got < size:
            got += sock.recv_into(buffer)
        if size:
            sock.settimeout(0.05)
            try:
                while sock.recv_into(buffer):
                    pass
            except TimeoutError:
                sock.settimeout(None)
    sock.close()
    return found


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(ask(*map(int, sys.argv[1:]))))
    else:
        _, served = serve()
        print(served, flush=True)
        threading.Event().wait()
