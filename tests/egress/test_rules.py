"""The rules for an unfiltered network say of every address what the proxy says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandcove import linux
from sandcove.runtimes.base import Rule
from sandcove.runtimes.local import enter_network
from sandcove.runtimes.local.fence import fence
from sandcove.server.egress.addresses import Addresses, AddressRefused, parse_exempt
from sandcove.server.egress.own import is_own, own_networks
from tests.security.probes import NEEDS_ROOT

OWN = [ip_network(each) for each in ("8.8.4.4/32", "8.8.9.0/30", "10.2.3.4/32", "2606:4700::1001/128", "fd00::2/128")]
EXEMPT = "10.1.2.3:443, 10.2.0.0/16, 8.8.4.4:22, 127.0.0.0/8:80, fd00::/48, [fd01::1]:443, 224.0.0.251, 8.8.9.1"
EDGES = [
    *OWN,
    *(each.network for each in parse_exempt(EXEMPT)),
    *(rule.network for rule in Addresses().rules([])),
]


def near(network: IPv4Network | IPv6Network) -> Iterator[IPv4Address | IPv6Address]:
    """Those at both ends, and their neighbours."""
    for end in (network[0], network[-1]):
        for step in (-1, 0, 1):
            yield type(end)((int(end) + step) % (1 << network.max_prefixlen))


def is_open(rules: Sequence[Rule], address: IPv4Address | IPv6Address, port: int) -> bool:
    for rule in rules:
        if address.version == rule.network.version and address in rule.network and rule.port in (None, port):
            return rule.open
    return True


def own(text: str) -> bool:
    return any(ip_address(text) in each for each in OWN if each.version == ip_address(text).version)


def check(exempt: str, addresses: Iterable[IPv4Address | IPv6Address]) -> None:
    checked = Addresses(parse_exempt(exempt), own)
    rules = checked.rules(OWN)
    for address in addresses:
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            continue  # the kernel sends to the IPv4 address
        for port in (22, 80, 443):
            try:
                checked.check(str(address), port)
                said = True
            except AddressRefused:
                said = False
            assert is_open(rules, address, port) == said, (address, port)


@pytest.mark.parametrize("exempt", ["", EXEMPT])
def test_they_say_what_the_proxy_says(exempt: str) -> None:
    check(exempt, (address for edge in EDGES for address in near(edge)))


@given(address=st.ip_addresses())
def test_they_say_so_of_every_address(address: IPv4Address | IPv6Address) -> None:
    check("", [address])
    check(EXEMPT, [address])


def test_own_addresses_that_are_shut_anyway_need_no_rule() -> None:
    bridges = [ip_network(f"172.17.{number}.1/32") for number in range(200)]
    assert Addresses().rules([*bridges, ip_network("0.0.0.0/0")]) == Addresses().rules([ip_network("0.0.0.0/0")])
    assert len(Addresses().rules(OWN)) == len(Addresses().rules([])) + 3


def test_own_networks_are_those_that_the_kernel_takes_for_its_own() -> None:
    found = own_networks()
    assert ip_network("127.0.0.0/8") in found
    for network in found:
        if network.version == 4:
            assert is_own(str(network[0])), network
    assert all(is_own(str(network[0])) for network in found if network.prefixlen == 128 and not network.is_link_local)
    assert not any(ip_address("8.8.8.8") in network for network in found if network.version == 4)


LIST = """
import sys
from sandcove.server.egress.own import own_networks
print(*own_networks())
"""


def listed_after(*steps: str) -> set[str]:
    """What `own_networks` gives in a network of its own, in which ``ip`` has done this."""
    script = " && ".join(["ip link set lo up", *(f"ip {step}" for step in steps), 'exec "$@"'])
    command = ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, "-c", LIST]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.split())


@NEEDS_ROOT
@pytest.mark.skipif(not shutil.which("ip"), reason="needs iproute2")
def test_an_own_address_is_listed() -> None:
    listed = listed_after("addr add 8.8.4.4/24 dev lo", "addr add 2606:4700::1001/64 dev lo")
    assert {"8.8.4.4/32", "8.8.4.255/32", "127.0.0.0/8", "::1/128", "2606:4700::1001/128"} <= listed


@NEEDS_ROOT
@pytest.mark.skipif(not shutil.which("ip"), reason="needs iproute2")
def test_where_a_proxy_of_the_machine_gets_marked_packets_not_all_is_own() -> None:
    routes = "route add local default dev lo table", "-6 route add local default dev lo table"
    assert not {"0.0.0.0/0", "::/0"} & listed_after(*(f"{route} 100" for route in routes))
    assert {"0.0.0.0/0", "::/0"} <= listed_after(*(f"{route} main" for route in routes))


TELL = """
import subprocess, sys
from sandcove.runtimes.local import enter_network
for _ in range(2):
    enter_network.tell(bytes.fromhex(sys.argv[1]))
if sys.argv[2:]:
    subprocess.run(sys.argv[2:], check=True)
"""


def told(messages: bytes, *then: str) -> subprocess.CompletedProcess[str]:
    command = ["unshare", "--net", sys.executable, "-c", TELL, messages.hex(), *then]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


RULES = [
    Rule(ip_network("10.1.2.3/32"), 443, True),
    Rule(ip_network("10.0.0.0/9"), None, False),
    Rule(ip_network("fc00::/7"), None, False),
    Rule(ip_network("2000::/3"), None, True),
    Rule(ip_network("::/0"), None, False),
]
LISTED = """
table inet sandcove {
chain forward {
type filter hook forward priority filter; policy drop;
}

chain shut {
meta l4proto tcp reject with tcp reset
reject with icmpx admin-prohibited
}

chain out {
type filter hook output priority filter; policy accept;
oif "lo" accept
icmpv6 type 133-137 accept
ip daddr 10.1.2.3 tcp dport 443 accept
ip daddr 10.1.2.3 udp dport 443 accept
ip daddr 10.0.0.0/9 goto shut
ip6 daddr fc00::/7 goto shut
ip6 daddr 2000::/3 accept
meta nfproto ipv6 goto shut
}

chain in {
type filter hook input priority filter; policy accept;
iif "lo" accept
icmpv6 type 133-137 accept
ip saddr 10.1.2.3 tcp sport 443 accept
ip saddr 10.1.2.3 udp sport 443 accept
ip saddr 10.0.0.0/9 drop
ip6 saddr fc00::/7 drop
ip6 saddr 2000::/3 accept
meta nfproto ipv6 drop
}
}
"""


@NEEDS_ROOT
@pytest.mark.skipif(not shutil.which("nft"), reason="needs nft, which says what the kernel has")
def test_the_kernel_understands_them_as_they_are_meant() -> None:
    done = told(fence(RULES), "nft", "list", "ruleset")
    assert [line.strip() for line in done.stdout.splitlines()] == LISTED.strip().splitlines(), done.stderr


@NEEDS_ROOT
def test_a_filter_that_the_kernel_does_not_take_is_an_error() -> None:
    messages = fence(RULES)
    assert told(messages).returncode == 0
    for bad in (messages.replace(b"bitwise", b"bitwish"), b""):
        assert "Error: [Errno" in told(bad).stderr


def entered(messages: bytes) -> subprocess.CompletedProcess[str]:
    """A program that is to run behind a fence, around namespaces that this test makes."""
    with ExitStack() as after:
        holder = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo made; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        after.enter_context(holder)
        assert holder.stdout is not None and holder.stdout.readline() == "made\n"
        passed = [os.open(f"/proc/{holder.pid}/ns/{kind}", os.O_RDONLY) for kind in ("user", "net")]
        passed.append(linux.sealed_memfd("fence", messages))
        for fd in passed:
            after.callback(os.close, fd)
        command = [
            sys.executable,
            "-IS",
            enter_network.__file__,
            *map(str, passed),
            str(os.getpid()),
            "/bin/echo",
            "ran",
        ]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30, pass_fds=passed)


def test_nothing_runs_without_its_fence(capable: None) -> None:
    assert entered(fence(RULES)).stdout == "ran\n"
    without = entered(fence(RULES).replace(b"bitwise", b"bitwish"))
    assert without.returncode != 0 and "packet filter" in without.stderr and without.stdout == ""
