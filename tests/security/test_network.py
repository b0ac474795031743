"""A sandbox has its own loopback and nothing else: no interface, no port and no abstract socket of the host."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from sandcove import Sandbox
from tests.security.probes import NEEDS_ROOT, inside, outside

INTERFACES = "[say(name) for _, name in socket.if_nameindex()]"
TCP = "socket.create_connection((args[0], int(args[1])), 2)"
ABSTRACT = "socket.socket(socket.AF_UNIX).connect(chr(0) + args[0])"
UDP = """
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(2)
client.connect((args[0], int(args[1])))
client.send(b"ping")
say(client.recv(16))
"""
LISTED = "args[0] in open('/proc/net/unix').read() or refuse('not listed')"
ROUTES = "len(open('/proc/net/route').readlines()) > 1 or refuse('no route')"


@pytest.fixture(params=[("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)], ids=["IPv4", "IPv6"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A port of the host's loopback."""
    address, family = request.param
    with socket.socket(family) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            pytest.skip(f"this machine has no {address}")
        sock.listen(8)
        yield sock


def test_interfaces(cell: Sandbox) -> None:
    assert inside(cell, INTERFACES).said == ["lo"]
    if os.path.isdir("/sys/class/net") and len(os.listdir("/sys/class/net")) > 1:
        assert len(outside(INTERFACES).said) > 1
        assert outside(ROUTES).reached
    assert not inside(cell, ROUTES).reached


def test_a_port_of_the_host(cell: Sandbox, listener: socket.socket) -> None:
    address, port = listener.getsockname()[:2]
    assert not inside(cell, TCP, address, port).reached
    assert outside(TCP, address, port).reached


def test_a_datagram_to_the_host(cell: Sandbox) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        assert not inside(cell, UDP, "127.0.0.1", sock.getsockname()[1]).reached
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(16)
        # The control sends, and nobody answers; what counts is that it came.
        outside(UDP, "127.0.0.1", sock.getsockname()[1])
        assert sock.recv(16) == b"ping"


def test_an_abstract_socket_of_the_host(cell: Sandbox) -> None:
    name = f"sandcove-probe-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("\0" + name)
        sock.listen(8)
        for probe in (ABSTRACT, LISTED):
            assert not inside(cell, probe, name).reached
            assert outside(probe, name).reached


@NEEDS_ROOT
@pytest.mark.parametrize(
    "probe",
    [
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
        "socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)",
    ],
)
def test_raw_packets(cell: Sandbox, probe: str) -> None:
    assert not inside(cell, probe).reached
    assert outside(probe).reached
