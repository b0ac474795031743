"""Which addresses sandboxes are let to: public ones, and those that the operator lists. Never the server's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from sandcove.runtimes.base import Rule
from sandcove.server.egress.own import is_own

__all__ = ["AddressRefused", "Addresses", "Exempt", "parse_exempt"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# The special-purpose registries of IANA (RFC 6890 and after), and what clouds put their metadata at. Python's own
# `is_global` differs by version.
_REFUSED_4: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "of this host"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by a provider's customers"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "a cloud's metadata"),
    ("169.254.0.0/16", "link-local, where clouds have their metadata"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "of the protocol itself"),
    ("192.0.2.0/24", "for documentation"),
    ("192.88.99.0/24", "a relay of 6to4"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
)
_REFUSED_6: tuple[tuple[str, str], ...] = (
    ("2001::/23", "of the protocol itself, Teredo among it"),
    ("2001:db8::/32", "for documentation"),
    ("2002::/16", "6to4, which has another address in it"),
    ("3fff::/20", "for documentation"),
)
_REFUSED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), kind) for network, kind in _REFUSED_4 + _REFUSED_6
)
_GLOBAL_6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_RULES: tuple[Rule, ...] = (
    *(Rule(network, None, False) for network, _ in _REFUSED),
    *(
        Rule(IPv6Network((int(_NAT64[0]) | int(network[0]), _NAT64.prefixlen + network.prefixlen)), None, False)
        for network, _ in _REFUSED
        if network.version == 4
    ),
    Rule(_NAT64, None, True),
    Rule(_GLOBAL_6, None, True),
    Rule(IPv6Network("::/0"), None, False),
)
"""The same, as rules."""
_EXEMPT = re.compile(
    r"\[([0-9A-Fa-f:./]+)\](?::([0-9]{1,5}))?|([0-9.]+(?:/[0-9]+)?)(?::([0-9]{1,5}))?|([0-9A-Fa-f:/]+)"
)


class AddressRefused(Exception):  # noqa: N818 - a verdict; no user sees it as an exception
    """No sandbox is let to this address; the text says what it is."""


class Exempt(NamedTuple):
    """What an operator allows although it is refused: `port` None is every port."""

    network: Network
    port: int | None


def parse_exempt(text: str) -> list[Exempt]:
    """Those of a text: ``10.1.2.3:443, 10.2.0.0/16, fd00::/8, [fd00::1]:443``.

    Raises:
        ValueError: it is none.
    """
    found = []
    for word in text.replace(",", " ").split():
        match = _EXEMPT.fullmatch(word)
        if match is None:
            raise ValueError(word)
        port = match[2] or match[4]
        if port is not None and not 0 < int(port) < 65536:
            raise ValueError(word)
        found.append(Exempt(ip_network(match[1] or match[3] or match[5]), None if port is None else int(port)))
    return found


class Addresses:
    """Args:
    exempt: what the operator allows besides.
    own: whether an address is one of this machine's.
    """

    def __init__(self, exempt: Sequence[Exempt] = (), own: Callable[[str], bool] | None = None) -> None:
        self._exempt = tuple(exempt)
        self._own = own or is_own

    def rules(self, own: Iterable[Network]) -> list[Rule]:
        """What `check` says, of all addresses; `own`: those of this machine."""
        meant = [Rule(*each, True) for each in self._exempt if _is_meant(each.network)]
        networks = [Rule(*each, True) for each in self._exempt if not _is_meant(each.network)]
        shut = [Rule(each, None, False) for each in sorted(own, key=str) if not _is_shut(each, networks)]
        return [*meant, *shut, *networks, *_RULES]

    def check(self, text: str, port: int) -> str:
        """The address to connect to: the same, or the IPv4 address that it stands for.

        Raises:
            AddressRefused: no sandbox is let to it.
        """
        try:
            address = _plain(ip_address(text))
        except ValueError:
            raise AddressRefused("no address") from None
        for network, allowed in self._exempt:
            if address not in network or allowed not in (None, port):
                continue
            if _is_meant(network) or not self._own(str(address)):
                return str(address)
        if (kind := _special(address)) is not None:
            raise AddressRefused(kind)
        if self._own(str(address)):
            raise AddressRefused("of the server itself")
        return str(address)


def _is_meant(network: Network) -> bool:
    """A network that the server is in does not open the server; its own addresses have to be meant."""
    return network.num_addresses == 1 or network.is_loopback


def _is_shut(own: Network, networks: Iterable[Rule]) -> bool:
    """It needs no rule: most bridges have private addresses, and a machine may have many of them."""
    opened = (*(rule.network for rule in networks), _GLOBAL_6)
    return not any(own.version == each.version and own.overlaps(each) for each in opened) and (
        isinstance(own, IPv6Network)
        or any(isinstance(each, IPv4Network) and own.subnet_of(each) for each, _ in _REFUSED)
    )


def _plain(address: Address) -> Address:
    """The IPv4 address of one that is mapped into IPv6."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise AddressRefused("link-local")
        return address.ipv4_mapped or address
    return address


def _special(address: Address) -> str | None:
    """What is special about an address; None for a public one."""
    if isinstance(address, IPv6Address) and address in _NAT64:
        # A translator sends it on to the IPv4 address in its last bytes.
        return _special(IPv4Address(int(address) & 0xFFFFFFFF))
    for network, kind in _REFUSED:
        if address.version == network.version and address in network:
            return kind
    if isinstance(address, IPv6Address) and address not in _GLOBAL_6:
        return "loopback, private or link-local" if address.is_private or address.is_link_local else "not public"
    return None
