"""A host beyond the server's, to be run in a network namespace of its own: it answers TCP, UDP and questions for names.

It says one line when it listens.
"""

from __future__ import annotations

import socket
import struct
import threading

TCP, UDP, NAMES = 8000, 9000, 53


def answer_tcp() -> None:
    listener = socket.create_server(("::", TCP), family=socket.AF_INET6, dualstack_ipv6=True)
    started.release()
    while True:
        sock, _ = listener.accept()
        with sock:
            sock.sendall(b"reached")


def answer_udp() -> None:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    sock.bind(("::", UDP))
    started.release()
    while True:
        data, said, _, who = sock.recvmsg(2000, 100)
        # From the address that it was sent to, of which this host has many.
        ((level, kind, here),) = said
        sock.sendmsg([b"reached" + data], [(level, kind, here[:16] + bytes(4))], 0, who)


def answer_names() -> None:
    """Every name has the address 198.18.7.1."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", NAMES))
    started.release()
    while True:
        data, who = sock.recvfrom(2000)
        end = data.index(b"\0", 12) + 5
        wanted = struct.unpack("!H", data[end - 4 : end - 2])[0] == 1
        record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton("198.18.7.1")
        head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, int(wanted), 0, 0)
        sock.sendto(head + data[12:end] + (record if wanted else b""), who)


if __name__ == "__main__":
    started = threading.Semaphore(0)
    for answer in (answer_tcp, answer_udp, answer_names):
        threading.Thread(target=answer, daemon=True).start()
    for _ in range(3):
        started.acquire()
    print("ready", flush=True)
    threading.Event().wait()
