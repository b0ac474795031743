"""In the network of a process: a sandbox, or the reference server, has one of its own."""

from __future__ import annotations

import os
import socket

from sandcove import linux

__all__ = ["connect_inside"]


def connect_inside(pid: int, port: int) -> socket.socket:
    """A TCP connection within the network of process `pid`, made by a child.

    Raises:
        ConnectionRefusedError: nothing listens on that port of 127.0.0.1 there.
    """
    namespaces = linux.CLONE_NEWNET | (0 if os.geteuid() == 0 else linux.CLONE_NEWUSER)
    near, far = socket.socketpair()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            linux.setns(os.pidfd_open(pid), namespaces)
            with socket.create_connection(("127.0.0.1", port), timeout=5) as made:
                socket.send_fds(far, [b"x"], [made.fileno()])
            status = 0
        finally:
            os._exit(status)
    far.close()
    with near:
        _, fds, _, _ = socket.recv_fds(near, 1, 1)
    os.waitpid(child, 0)
    if not fds:
        raise ConnectionRefusedError(f"nothing listens on port {port} in there")
    made = socket.socket(fileno=fds[0])
    made.settimeout(30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made
