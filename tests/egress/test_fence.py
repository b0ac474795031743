"""What an unfiltered network does not reach, and what does not reach a sandbox that has one."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from sandcove import Sandbox, linux
from tests.egress import peer
from tests.egress.world import EXEMPT, OWN, OWN_6, PUBLIC, PUBLIC_6, SHUT, STREAM, US, US_6, WORLD, in_ours, ip
from tests.security.probes import inside, outside

TRY = """
IPV6_PKTINFO, IP_PKTINFO = 50, 8
IPV6_UNICAST_IF, IP_UNICAST_IF = 76, 50

def sockets(address, kind, protocol):
    \"""By each way that a program has to choose a device.\"""
    six = ":" in address
    family = socket.AF_INET6 if six else socket.AF_INET
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
    for way in ("plain", "bound", "mapped", "chosen", "told"):
        if (way == "mapped" and (six or protocol)) or (way == "told" and kind != socket.SOCK_DGRAM):
            continue
        s = socket.socket(socket.AF_INET6 if way == "mapped" else family, kind, protocol)
        s.settimeout(0.5)
        if way == "bound":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"outside")
        elif way == "chosen":
            s.setsockopt(level, IPV6_UNICAST_IF if six else IP_UNICAST_IF, struct.pack("!I", index))
        yield way, s, ("::ffff:" if way == "mapped" else "") + address

import struct
index = socket.if_nametoindex("outside") if any(name == "outside" for _, name in socket.if_nameindex()) else 0
tcp, udp, *addresses = args
for address in addresses:
    six = ":" in address
    echo = bytes([128 if six else 8, 0, 0, 0, 0, 7, 0, 1]) + b"hello"
    for name, kind, protocol, port in (
        ("TCP", socket.SOCK_STREAM, 0, int(tcp)),
        ("UDP", socket.SOCK_DGRAM, 0, int(udp)),
        ("echo", socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP, 0),
    ):
        for way, s, to in sockets(address, kind, protocol):
            with s:
                try:
                    if kind == socket.SOCK_STREAM:
                        s.connect((to, port))
                    elif way == "told":
                        here = struct.pack("16sI" if six else "I8s", *((b"", index) if six else (index, b"")))
                        level, option = (41, IPV6_PKTINFO) if six else (0, IP_PKTINFO)
                        s.sendmsg([echo], [(level, option, here)], 0, (to, port))
                    else:
                        s.sendto(echo, (to, port))
                    s.recv(99)
                    say(f"{name} {way} {address}")
                except OSError:
                    pass
"""
"""Says by which ways an address is reached, where there is a device `outside`."""
BY_ALL = {
    *(f"TCP {way}" for way in ("plain", "bound", "mapped", "chosen")),
    *(f"UDP {way}" for way in ("plain", "bound", "mapped", "chosen", "told")),
    *(f"echo {way}" for way in ("plain", "bound", "chosen", "told")),
}


@pytest.fixture
def box(unfiltered: Sandbox) -> Sandbox:
    return unfiltered


def tried(box: Sandbox, *addresses: str, tcp: int = peer.TCP, udp: int = peer.UDP) -> set[str]:
    return set(inside(box, TRY, tcp, udp, *addresses).said)


def reached(box: Sandbox, expected: set[str], *addresses: str) -> set[str]:
    """As `tried`, three times where some are missing: on a busy machine an answer may be late."""
    found: set[str] = set()
    for _ in range(3):
        found |= tried(box, *addresses)
        if found >= expected:
            break
    return found


def test_every_way_leads_to_a_public_address(box: Sandbox) -> None:
    for address in (PUBLIC, PUBLIC_6):
        expected = {f"{way} {address}" for way in BY_ALL if not (":" in address and "mapped" in way)}
        assert reached(box, expected, address) == expected


@pytest.mark.parametrize("address", SHUT)
def test_what_the_proxy_refuses_is_not_reached(box: Sandbox, ours: str, address: str) -> None:
    assert in_ours(ours, STREAM, address, peer.TCP).reached  # it is there
    assert tried(box, address) == set()


GROUP = """
s = socket.socket(socket.AF_INET6 if ":" in args[0] else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.connect((args[0], 5353, 0, socket.if_nametoindex("outside")) if ":" in args[0] else (args[0], 5353))
s.send(b"hello")
"""


@pytest.mark.parametrize("address", ["224.0.0.251", "255.255.255.255", "ff02::fb", "ff0e::fb", "fe80::7"])
def test_nothing_is_sent_to_neighbours_and_groups(box: Sandbox, address: str) -> None:
    assert inside(box, GROUP, address).why.startswith("EPERM")


def test_it_is_said_at_once(box: Sandbox) -> None:
    for address in ("10.7.7.7", "fd00:ec2::254"):
        why = inside(box, STREAM, address, peer.TCP).why
        assert why.startswith("ECONNREFUSED"), why


def test_what_the_operator_allows_is_reached(box: Sandbox) -> None:
    for address in EXEMPT:
        expected = {f"{way} {address}" for way in BY_ALL if "TCP" in way and not (":" in address and "mapped" in way)}
        assert reached(box, expected, address) == expected
    expected = {f"{way} 10.8.7.7" for way in BY_ALL}
    assert reached(box, expected, "10.8.7.7") == expected


@pytest.fixture
def services(ours: str) -> Iterator[None]:
    """The server's machine answers at port 7070 of all its addresses, TCP and UDP."""
    with ExitStack() as after:
        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        after.callback(os.close, here)
        there = os.open(f"/run/netns/{ours}", os.O_RDONLY)
        after.callback(os.close, there)
        linux.setns(there, linux.CLONE_NEWNET)
        try:
            listener = after.enter_context(
                socket.create_server(("::", 7070), family=socket.AF_INET6, dualstack_ipv6=True)
            )
            datagrams = after.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            datagrams.bind(("::", 7070))
        finally:
            linux.setns(here, linux.CLONE_NEWNET)

        def answer() -> None:
            poll = select.poll()
            for each in (listener, datagrams, ended):
                poll.register(each, select.POLLIN)
            while True:
                ready = [fd for fd, _ in poll.poll()]
                if ended.fileno() in ready:
                    return
                if listener.fileno() in ready:
                    with listener.accept()[0] as sock:
                        sock.sendall(b"reached")
                if datagrams.fileno() in ready:
                    datagrams.sendto(b"reached", datagrams.recvfrom(99)[1])

        end, ended = map(after.enter_context, socket.socketpair())
        thread = threading.Thread(target=answer)
        thread.start()
        after.callback(thread.join)
        after.callback(end.send, b"!")
        yield


OWN_ADDRESSES = ("127.0.0.1", "::1", OWN, OWN_6, "10.8.7.8", US, US_6)


@pytest.mark.parametrize("address", OWN_ADDRESSES)
def test_the_servers_own_services_are_not_reached(box: Sandbox, ours: str, services: None, address: str) -> None:
    assert in_ours(ours, STREAM, address, 7070).reached  # it is there
    reached = {word for word in tried(box, address, tcp=7070, udp=7070) if "echo" not in word}
    assert reached == set()


def test_an_own_address_that_comes_later_is_shut(box: Sandbox, ours: str, services: None) -> None:
    refused = """
import time
end = time.monotonic() + 10
while time.monotonic() < end:
    try:
        s = socket.socket(socket.AF_INET6 if ":" in args[0] else socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(0.1)
        s.sendto(b"hello", (args[0], 7070))
        s.recv(99)
    except PermissionError:
        break
    except TimeoutError:
        pass
else:
    raise OSError("it is open")
"""
    for address in ("8.8.6.6/32", "2606:4700::6/128"):
        plain = address.partition("/")[0]
        ip("-n", ours, "addr", "add", address, "dev", "lo")
        try:
            assert in_ours(ours, STREAM, plain, 7070).reached
            assert inside(box, refused, plain).reached
        finally:
            ip("-n", ours, "addr", "del", address, "dev", "lo")


LISTEN = """
from pathlib import Path
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 7272))
s.settimeout(5)
s.sendto(b"hello", (args[0], int(args[1])))
say(s.recv(99).decode())
Path("sent").touch()
while (data := s.recvfrom(99)[0]) != b"end":
    say(data.decode())
"""
SEND = """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((args[1], 0))
s.sendto(args[2].encode(), (args[0], 7272))
"""


def test_no_datagram_comes_from_where_none_may_go(box: Sandbox, ours: str) -> None:
    """The sandbox has sent one from that port, so that there is a way in for the answer."""
    with ThreadPoolExecutor() as pool:
        heard = pool.submit(inside, box.create_session("listening"), LISTEN, PUBLIC, peer.UDP)
        while not box.exists("sent"):
            assert not heard.done()
        for place, to, source in (
            *((ours, to, to) for to in ("127.0.0.1", US)),
            *((ours.replace("ours", "world"), US, source) for source in (*SHUT[:6], WORLD, "10.8.7.7")),
        ):
            assert outside(SEND, to, source, f"from {source}", wrap=("ip", "netns", "exec", place)).reached
        outside(SEND, US, PUBLIC, "end", wrap=("ip", "netns", "exec", ours.replace("ours", "world")))
        assert heard.result().said == ["reachedhello", "from 10.8.7.7"]


def test_user_code_cannot_change_it(box: Sandbox) -> None:
    assert box.exec("ip link set outside down || ip route del default").exit_code != 0
    assert box.exec("nft delete table inet sandcove || unshare --user --map-root-user true").exit_code != 0
    to_the_filter = "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)"
    assert inside(box, to_the_filter).why.startswith("EPROTONOSUPPORT") and outside(to_the_filter).reached
    assert inside(box, STREAM, PUBLIC, peer.TCP).reached
