"""What a room's own network lets out, as messages to the kernel's packet filter (nf_tables) in the room's namespace.

Routes can't say it: who binds a socket to the device passes those that prohibit. The numbers are of
linux/netfilter/nf_tables.h. User code can't change the filter: it has no capability, and may open no socket to it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from sandcove.runtimes.base import Rule

__all__ = ["fence"]

_HEADER = struct.Struct("=IHHII")
"""``struct nlmsghdr``: length, type, flags, number, port."""
_OF_FILTER = struct.Struct(">BBH")
"""``struct nfgenmsg``: family, version, resource."""
_ATTRIBUTE = struct.Struct("=HH")
_NESTED = 0x8000
_REQUEST, _ACK, _CREATE, _APPEND = 1, 4, 0x400, 0x800
_BATCH_BEGIN, _BATCH_END, _TABLES = 16, 17, 10
_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN, _NEW_RULE = 0, 2, 3, 6
_BOTH_FAMILIES = 1
_HOOK_IN, _HOOK_FORWARD, _HOOK_OUT = 1, 2, 3
_NAME = b"sandcove\0"
_FORWARD, _IN, _OUT, _SHUT = b"forward\0", b"in\0", b"out\0", b"shut\0"
_DROP, _ACCEPT, _GOTO = 0, 1, 0xFFFFFFFC
_META_FROM, _META_TO, _META_FAMILY, _META_PROTOCOL = 4, 5, 15, 16
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_EQUAL, _AT_MOST, _AT_LEAST = 0, 3, 5
_BY_RESET, _BY_UNREACHABLE, _PROHIBITED = 1, 2, b"\x03"
_FAMILY = {4: 2, 6: 10}
_SOURCE = {4: 12, 6: 8}
_DESTINATION = {4: 16, 6: 24}
"""Where they lie in the header."""
_TCP, _UDP, _ICMP_6 = 6, 17, 58
_LOOPBACK = 1
"""The number of that device, in every network namespace."""
_NEIGHBOURS = (133, 137)
"""The types of ICMPv6 by which the kernel finds routers and neighbours. User code can send echoes alone."""


def fence(rules: Sequence[Rule]) -> bytes:
    """The messages, for one `send`: all of it is in force at once, in the place of what was there before.

    Loopback is open, nothing is forwarded. What goes to where the rules shut is refused, what comes from there is
    dropped: some versions of pasta let everybody send to a port that datagrams were sent from. The last rule asks
    for an acknowledgement.
    """
    table = _leaf(1, _NAME)
    made = [
        (_NEW_TABLE, table),  # so that there is one to delete
        (_DELETE_TABLE, table),
        (_NEW_TABLE, table),
        (_NEW_CHAIN, _chain(_FORWARD, _HOOK_FORWARD, _DROP)),
        (_NEW_CHAIN, _leaf(1, _NAME) + _leaf(3, _SHUT)),
        # A reset is heeded by a socket that is about to send, and an unreachable is not always.
        (_NEW_RULE, _rule(_SHUT, [*_is_protocol(_TCP), _reject(_BY_RESET)])),
        (_NEW_RULE, _rule(_SHUT, [_reject(_BY_UNREACHABLE)])),
        (_NEW_CHAIN, _chain(_OUT, _HOOK_OUT, _ACCEPT)),
        *((_NEW_RULE, _rule(_OUT, steps)) for steps in _steps(rules, out=True)),
        (_NEW_CHAIN, _chain(_IN, _HOOK_IN, _ACCEPT)),
        *((_NEW_RULE, _rule(_IN, steps)) for steps in _steps(rules, out=False)),
    ]
    messages = [_message(_BATCH_BEGIN, 0, 0, _TABLES)]
    for place, (kind, body) in enumerate(made, 1):
        flags = 0 if kind == _DELETE_TABLE else _CREATE | _APPEND
        if place == len(made):
            flags |= _ACK
        messages.append(_message(_TABLES << 8 | kind, flags, _BOTH_FAMILIES, 0, body))
    return b"".join([*messages, _message(_BATCH_END, 0, 0, _TABLES)])


def _steps(rules: Iterable[Rule], *, out: bool) -> Iterator[list[bytes]]:
    accept = _verdict(_ACCEPT)
    shut = _verdict(_GOTO, _leaf(2, _SHUT)) if out else _verdict(_DROP)
    yield [_meta(_META_TO if out else _META_FROM), _compare(_EQUAL, struct.pack("=I", _LOOPBACK)), accept]
    yield [
        *_is_family(6),
        *_is_protocol(_ICMP_6),
        _load(_TRANSPORT_HEADER, 0, 1),
        _compare(_AT_LEAST, bytes(_NEIGHBOURS[:1])),
        _compare(_AT_MOST, bytes(_NEIGHBOURS[1:])),
        accept,
    ]
    place, port_place = (_DESTINATION, 2) if out else (_SOURCE, 0)
    for network, port, is_open in rules:
        last = accept if is_open else shut
        version, mask = network.version, network.netmask.packed
        there = _is_family(version)
        if any(mask):
            address = network.network_address.packed
            there += [_load(_NETWORK_HEADER, place[version], len(mask)), _mask(mask), _compare(_EQUAL, address)]
        if port is None:
            yield [*there, last]
            continue
        for protocol in (_TCP, _UDP):
            its_port = [_load(_TRANSPORT_HEADER, port_place, 2), _compare(_EQUAL, struct.pack(">H", port))]
            yield [*there, *_is_protocol(protocol), *its_port, last]


def _is_family(version: int) -> list[bytes]:
    return [_meta(_META_FAMILY), _compare(_EQUAL, bytes([_FAMILY[version]]))]


def _is_protocol(protocol: int) -> list[bytes]:
    return [_meta(_META_PROTOCOL), _compare(_EQUAL, bytes([protocol]))]


def _meta(key: int) -> bytes:
    return _expression(b"meta", _number(1, 1), _number(2, key))


def _load(base: int, offset: int, length: int) -> bytes:
    return _expression(b"payload", _number(1, 1), _number(2, base), _number(3, offset), _number(4, length))


def _mask(mask: bytes) -> bytes:
    plain = bytes(len(mask))
    return _expression(
        b"bitwise",
        *(_number(1, 1), _number(2, 1), _number(3, len(mask))),
        *(_nest(4, _leaf(1, mask)), _nest(5, _leaf(1, plain))),
    )


def _compare(how: int, value: bytes) -> bytes:
    return _expression(b"cmp", _number(1, 1), _number(2, how), _nest(3, _leaf(1, value)))


def _verdict(code: int, *chain: bytes) -> bytes:
    return _expression(b"immediate", _number(1, 0), _nest(2, _nest(2, _number(1, code), *chain)))


def _reject(how: int) -> bytes:
    return _expression(b"reject", _number(1, how), _leaf(2, _PROHIBITED))


def _rule(chain: bytes, steps: Iterable[bytes]) -> bytes:
    return _leaf(1, _NAME) + _leaf(2, chain) + _nest(4, *steps)


def _chain(name: bytes, hook: int, policy: int) -> bytes:
    place = _nest(4, _number(1, hook), _number(2, 0))
    return _leaf(1, _NAME) + _leaf(3, name) + place + _number(5, policy) + _leaf(7, b"filter\0")


def _expression(name: bytes, *attributes: bytes) -> bytes:
    return _nest(1, _leaf(1, name + b"\0"), _nest(2, *attributes))


def _number(kind: int, value: int) -> bytes:
    return _leaf(kind, struct.pack(">I", value))


def _nest(kind: int, *attributes: bytes) -> bytes:
    return _leaf(kind | _NESTED, b"".join(attributes))


def _leaf(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)


def _message(kind: int, flags: int, family: int, resource: int, body: bytes = b"") -> bytes:
    length = _HEADER.size + _OF_FILTER.size + len(body)
    return _HEADER.pack(length, kind, flags | _REQUEST, 0, 0) + _OF_FILTER.pack(family, 0, resource) + body
