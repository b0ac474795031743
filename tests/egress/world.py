"""A machine with one way out, and the world at its other end: addresses, and small programs that ask there."""

from __future__ import annotations

import subprocess

from tests.security.probes import Answer, outside

__all__ = [
    "DATAGRAM",
    "EXEMPT",
    "NAME",
    "NETWORK",
    "OWN",
    "OWN_6",
    "PING",
    "PLAYED",
    "PUBLIC",
    "PUBLIC_6",
    "SHUT",
    "STREAM",
    "US",
    "US_6",
    "WORLD",
    "WORLD_6",
    "in_ours",
    "ip",
]

US, WORLD = "198.18.7.2", "198.18.7.1"
US_6, WORLD_6 = "2001:db8:7::2", "2001:db8:7::1"
PUBLIC, PUBLIC_6 = "8.8.8.8", "2606:4700::1111"
OWN, OWN_6 = "8.8.4.4", "2606:4700::1001"
"""Public addresses that the server's machine has besides those of its device to the world."""
EXEMPT = ("10.7.7.8", "fd00:7::8")
"""The operator lets sandboxes to the peer's TCP port there, and to `NETWORK`."""
NETWORK = "10.8.0.0/16"
SHUT = (
    *("10.7.7.7", "100.64.7.7", "168.63.129.16", "169.254.169.254", "172.16.7.7", "192.168.7.7", WORLD),
    *("fd00:ec2::254", WORLD_6, "64:ff9b::a07:707", "2002:a07:707::1"),
)
PLAYED = (PUBLIC, PUBLIC_6, *EXEMPT, "10.8.7.7", *SHUT)
"""What the world plays."""
PING = """
kind = socket.IPPROTO_ICMPV6 if ":" in args[0] else socket.IPPROTO_ICMP
s = socket.socket(socket.AF_INET6 if ":" in args[0] else socket.AF_INET, socket.SOCK_DGRAM, kind)
s.settimeout(2)
s.sendto(bytes([128 if ":" in args[0] else 8, 0, 0, 0, 0, 7, 0, 1]) + b"hello", (args[0], 0))
s.recv(99)
"""
DATAGRAM = """
s = socket.socket(socket.AF_INET6 if ":" in args[0] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
s.sendto(b"hello", (args[0], int(args[1])))
assert s.recv(99) == b"reachedhello"
"""
STREAM = """
s = socket.create_connection((args[0], int(args[1])), 2)
assert s.recv(99) == b"reached"
"""
NAME = f"assert socket.gethostbyname('any.thing.test') == {WORLD!r}"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def in_ours(ours: str, body: str, *args: object) -> Answer:
    return outside(body, *args, wrap=("ip", "netns", "exec", ours))
