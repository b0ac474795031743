"""Which addresses are this machine's own, as its kernel knows them; see rtnetlink(7)."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from sandcove.waiting import readable

__all__ = ["is_own", "own_changes", "own_networks"]

_HEADER = struct.Struct("=IHHII")
"""``struct nlmsghdr``: length, type, flags, number, port."""
_ROUTE = struct.Struct("=8BI")
"""``struct rtmsg``: family, length of the destination, ..., the eighth its type, flags."""
_ATTRIBUTE = struct.Struct("=HH")
_NLM_F_REQUEST, _NLM_F_DUMP, _NLMSG_DONE = 1, 0x300, 3
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE, _RTA_DST = 24, 25, 26, 1
_RTN_OWN = range(2, 6)
"""Local, and what reaches this machine among others: broadcast, anycast, multicast."""
_SOL_NETLINK, _NETLINK_GET_STRICT_CHK = 270, 12
_CHANGES = 0x40 | 0x400
"""RTMGRP_IPV4_ROUTE and RTMGRP_IPV6_ROUTE."""


def is_own(address: str) -> bool:
    """Whether what is sent to the address stays on this machine, by the kernel's own choice of a route.

    That there is a route at all is not asked: RTM_GETROUTE.
    """
    version_6 = ":" in address
    family = socket.AF_INET6 if version_6 else socket.AF_INET
    packed = socket.inet_pton(family, address)
    wanted = _ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0)
    wanted += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(packed), _RTA_DST) + packed
    with _kernel() as kernel:
        kernel.send(_HEADER.pack(_HEADER.size + len(wanted), _RTM_GETROUTE, _NLM_F_REQUEST, 0, 0) + wanted)
        # The kernel has answered before `send` is over.
        answer = kernel.recv(65536, socket.MSG_DONTWAIT)
    if _HEADER.unpack_from(answer)[1] != _RTM_NEWROUTE:
        return False  # no way leads there
    kind: int = _ROUTE.unpack_from(answer, _HEADER.size)[7]
    return kind in _RTN_OWN


def own_networks() -> set[IPv4Network | IPv6Network]:
    """Those of whose addresses `is_own` is true."""
    found = set()
    with _kernel() as kernel:
        # A kernel that does not know how to leave out routes of other types gives them all.
        with contextlib.suppress(OSError):
            kernel.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        for family in (socket.AF_INET, socket.AF_INET6):
            for wanted in _RTN_OWN:
                request = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, wanted, 0)
                length, flags = _HEADER.size + len(request), _NLM_F_REQUEST | _NLM_F_DUMP
                kernel.send(_HEADER.pack(length, _RTM_GETROUTE, flags, 0, 0) + request)
                kind = _RTM_NEWROUTE
                while kind == _RTM_NEWROUTE:
                    for kind, message in _messages(kernel.recv(65536, socket.MSG_DONTWAIT)):
                        if kind == _RTM_NEWROUTE and (network := _own_route(message)) is not None:
                            found.add(network)
                if kind != _NLMSG_DONE:
                    raise OSError("the kernel does not list its routes")
    # Those for all addresses are mostly for packets with a mark, which a proxy of the machine is to get.
    return {each for each in found if each.prefixlen or is_own(str(each[each.num_addresses // 2]))}


async def own_changes() -> AsyncIterator[None]:
    """Each time that they may have changed, and at first, when it listens."""
    with _kernel(_CHANGES) as kernel:
        yield
        while True:
            changed = False
            await readable(kernel.fileno())
            try:
                while True:
                    for kind, message in _messages(kernel.recv(65536, socket.MSG_DONTWAIT)):
                        changed |= kind in (_RTM_NEWROUTE, _RTM_DELROUTE) and _own_route(message) is not None
            except BlockingIOError:
                pass
            except OSError:
                changed = True  # there were too many
            if changed:
                yield


def _kernel(groups: int = 0) -> socket.socket:
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    kernel.bind((0, groups))
    return kernel


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The type of each, and what it has."""
    while data:
        size, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : size]
        data = data[size + -size % 4 :]


def _own_route(message: bytes) -> IPv4Network | IPv6Network | None:
    """The destination of a route, if it is this machine itself."""
    family, prefix, _, _, _, _, _, kind, _ = _ROUTE.unpack_from(message)
    if kind not in _RTN_OWN or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    packed = bytes(4 if family == socket.AF_INET else 16)
    rest = message[_ROUTE.size :]
    while rest:
        size, attribute = _ATTRIBUTE.unpack_from(rest)
        if attribute == _RTA_DST:
            packed = rest[_ATTRIBUTE.size : size]
        rest = rest[size + -size % 4 :]
    return ip_network((packed, prefix))
