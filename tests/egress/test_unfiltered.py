"""The network that nobody filters: the server is in a network namespace of this test's, the world in another one."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from sandcove import HostUnsupportedError, InvalidRequestError, Sandbox, linux
from sandcove.wire.egress import parse_egress
from tests.conftest import COMMAND, sandcove_home
from tests.egress import peer
from tests.security.probes import Answer, inside, outside

NEEDS = ("pasta", "ip")
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
START = """
import os, sys
from sandcove import linux
from sandcove.client.launch import ensure_server
from sandcove.home import Home
linux.setns(os.open(sys.argv[1], os.O_RDONLY), linux.CLONE_NEWNET)
linux.unshare(linux.CLONE_NEWNS)
linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
linux.mount(sys.argv[2], "/etc/resolv.conf", None, 0x1000)
ensure_server(Home.default())
"""


SET = """
import sys
for name, value in zip(sys.argv[1::2], sys.argv[2::2]):
    open("/proc/sys/" + name.replace(".", "/"), "w").write(value)
"""


REACH = """
import socket, sys
for _ in range(100):
    try:
        sys.exit(socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.2).close())
    except OSError:
        pass
sys.exit(1)
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def ours() -> Iterator[str]:
    """The namespace that the server will be in; its only way out is to the peer."""
    missing = [name for name in NEEDS if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root and {', '.join(missing) or 'a machine that lets it make namespaces'}")
    ours, world = (f"sc-{os.getpid()}-{name}" for name in ("ours", "world"))
    with ExitStack() as after:
        try:
            for name in (ours, world):
                ip("netns", "add", name)
                after.callback(ip, "netns", "del", name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine has no network namespaces for tests: {error.stderr}")
        ip("link", "add", "near", "netns", ours, "type", "veth", "peer", "name", "far", "netns", world)
        # Echoes are for groups that an administrator names; most distributions name all.
        groups = "net.ipv4.ping_group_range=0 2147483647"
        ip("netns", "exec", ours, sys.executable, "-c", SET, *groups.split("=", 1))
        for name, link, address, address_6 in ((ours, "near", US, US_6), (world, "far", WORLD, WORLD_6)):
            ip("netns", "exec", name, sys.executable, "-c", SET, f"net.ipv6.conf.{link}.accept_dad", "0")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
            ip("-n", name, "addr", "add", f"{address_6}/64", "dev", link, "nodad")
            ip("-n", name, "link", "set", link, "up")
        ip("-n", ours, "route", "add", "default", "via", WORLD)
        ip("-n", ours, "-6", "route", "add", "default", "via", WORLD_6)
        for name, addresses in ((world, set(PLAYED) - {WORLD, WORLD_6}), (ours, {OWN, OWN_6, "10.8.7.8"})):
            for address in addresses:
                ip("-n", name, "addr", "add", f"{address}/{128 if ':' in address else 32}", "dev", "lo")
        started = subprocess.Popen(
            ["ip", "netns", "exec", world, sys.executable, peer.__file__], stdout=subprocess.PIPE, text=True
        )
        after.callback(started.wait)
        after.callback(started.kill)
        assert started.stdout is not None and started.stdout.readline() == "ready\n"
        after.callback(started.stdout.close)
        # IPv6 takes a moment after a link is up.
        subprocess.run(
            ["ip", "netns", "exec", ours, sys.executable, "-c", REACH, WORLD_6, str(peer.TCP)], check=True, timeout=30
        )
        yield ours


@pytest.fixture(scope="module")
def start(ours: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that starts the server."""
    resolvers = tmp_path_factory.mktemp("etc") / "resolv.conf"
    resolvers.write_text(f"nameserver {WORLD}\n")
    return [sys.executable, "-P", "-c", START, f"/run/netns/{ours}", str(resolvers)]


@pytest.fixture(scope="module")
def home(capable: None, start: list[str]) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDCOVE_EGRESS_CEILING", "unfiltered")
        patch.setenv("SANDCOVE_EGRESS_PRIVATE", f"{EXEMPT[0]}:{peer.TCP} [{EXEMPT[1]}]:{peer.TCP} {NETWORK}")
        with sandcove_home() as path:
            subprocess.run(start, check=True, timeout=60)
            yield path


@pytest.fixture
def box(home: Path) -> Iterator[Sandbox]:
    with Sandbox(egress="unfiltered") as sandbox:
        yield sandbox


def pastas(namespace: str) -> list[int]:
    """Those whose sockets are in this namespace."""
    there = os.stat(f"/run/netns/{namespace}").st_ino
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            program = os.readlink(f"/proc/{entry}/exe").rpartition("/")[2]
            if program.startswith("passt") and os.stat(f"/proc/{entry}/ns/net").st_ino == there:
                found.append(int(entry))
    return found


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
WAYS: dict[str, tuple[str, *tuple[object, ...]]] = {
    "TCP": (STREAM, PUBLIC, peer.TCP),
    "TCP by IPv6": (STREAM, PUBLIC_6, peer.TCP),
    "UDP": (DATAGRAM, PUBLIC, peer.UDP),
    "UDP by IPv6": (DATAGRAM, PUBLIC_6, peer.UDP),
    "names": (NAME,),
    "echo": (PING, PUBLIC, 0),
    "echo by IPv6": (PING, PUBLIC_6, 0),
}


def test_everything_is_reached_and_nothing_after_a_change(box: Sandbox) -> None:
    assert (box.info().egress, getattr(box.info().isolation, "network", "")) == ("unfiltered", "unfiltered")
    for name, (probe, *args) in WAYS.items():
        assert inside(box, probe, *args).reached, name
    box.set_egress("none")
    assert getattr(box.info().isolation, "network", "") == "loopback"
    for name, (probe, *args) in WAYS.items():
        assert not inside(box, probe, *args).reached, name


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


def tried(box: Sandbox, *addresses: str, tcp: int = peer.TCP, udp: int = peer.UDP) -> set[str]:
    return set(inside(box, TRY, tcp, udp, *addresses).said)


def in_ours(ours: str, body: str, *args: object) -> Answer:
    return outside(body, *args, wrap=("ip", "netns", "exec", ours))


def test_every_way_leads_to_a_public_address(box: Sandbox) -> None:
    assert tried(box, PUBLIC) == {f"{way} {PUBLIC}" for way in BY_ALL}
    assert tried(box, PUBLIC_6) == {f"{way} {PUBLIC_6}" for way in BY_ALL if "mapped" not in way}


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
        assert tried(box, address) == expected
    assert tried(box, "10.8.7.7") == {f"{way} 10.8.7.7" for way in BY_ALL}


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


def test_no_port_of_a_sandbox_is_open_to_the_world(box: Sandbox, ours: str) -> None:
    process = box.start_process("python3 -m http.server 7171 --bind 0.0.0.0")
    process.wait_for_port(7171, timeout=20)
    assert box.fetch("/", 7171).status == 200
    tried = "import socket, sys; socket.create_connection((sys.argv[1], 7171), 1)"
    for address in (US, "127.0.0.1"):
        there = ["ip", "netns", "exec", ours, sys.executable, "-c", tried, address]
        assert b"refused" in subprocess.run(there, check=False, capture_output=True).stderr


def test_user_code_cannot_change_it(box: Sandbox) -> None:
    assert box.exec("ip link set outside down || ip route del default").exit_code != 0
    assert box.exec("nft delete table inet sandcove || unshare --user --map-root-user true").exit_code != 0
    to_the_filter = "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)"
    assert inside(box, to_the_filter).why.startswith("EPROTONOSUPPORT") and outside(to_the_filter).reached
    assert inside(box, *WAYS["TCP"]).reached


def test_pasta_is_nobody_on_the_host(box: Sandbox, ours: str) -> None:
    isolation = box.info().isolation
    assert isolation is not None
    (pid,) = pastas(ours)

    def status_of_pasta() -> dict[str, str]:
        return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())

    end = time.monotonic() + 5
    while status_of_pasta()["Seccomp"] != "2" and time.monotonic() < end:
        pass  # it has said that it is ready a moment before
    status = status_of_pasta()
    assert status["Uid"].split() == status["Gid"].split() == [isolation.host_user] * 4
    assert os.stat(f"/proc/{pid}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino
    assert status["Seccomp"] == "2"


def test_it_ends_with_the_room_and_comes_back(home: Path, ours: str) -> None:
    with Sandbox("sleeper", egress="unfiltered") as sandbox:
        try:
            assert len(pastas(ours)) == 1
            sandbox.sleep()
            assert pastas(ours) == []
            assert inside(sandbox, *WAYS["UDP"]).reached
            # What kills pasta alone takes the network, and nothing else.
            (pid,) = pastas(ours)
            end = os.pidfd_open(pid)
            signal.pidfd_send_signal(end, signal.SIGKILL)
            os.close(end)
            while getattr(sandbox.info().isolation, "network", "") != "loopback":
                pass
            assert "pasta ended" in (sandbox.info().note or "")
            assert not inside(sandbox, *WAYS["UDP"]).reached
            sandbox.set_egress("unfiltered")
            assert sandbox.info().note is None
            assert inside(sandbox, *WAYS["UDP"]).reached
            assert not inside(sandbox, STREAM, SHUT[0], peer.TCP).reached
        finally:
            sandbox.destroy()
    assert pastas(ours) == []


def test_it_ends_with_a_killed_server(home: Path, ours: str, start: list[str]) -> None:
    with Sandbox("survivor", egress="unfiltered") as sandbox:
        (pid,) = pastas(ours)
        server = int(Path(f"/proc/{pid}/status").read_text().partition("PPid:")[2].split()[0])
        ends = [os.pidfd_open(each) for each in (pid, server)]
        os.kill(server, signal.SIGKILL)
        for end in ends:
            wait_for(end)
        subprocess.run(start, check=True, timeout=60)
        assert inside(sandbox, *WAYS["TCP"]).reached
        sandbox.destroy()


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [("PATH", "/nowhere", "passt"), ("SANDCOVE_EGRESS_CEILING", "public", "egress_ceiling")],
)
def test_it_wakes_also_where_it_may_not_any_more(
    home: Path, start: list[str], variable: str, value: str, why: str
) -> None:
    with Sandbox("left", egress="unfiltered") as sandbox:
        subprocess.run([COMMAND, "stop"], check=True, capture_output=True, timeout=60)
        subprocess.run(start, check=True, timeout=60, env={**os.environ, variable: value})
        try:
            assert sandbox.exec("echo lives").stdout == "lives\n"
            info = sandbox.info()
            assert getattr(info.isolation, "network", "") == "loopback" and why in (info.note or "")
            sandbox.set_egress("none")
            assert sandbox.info().egress == "none"
        finally:
            subprocess.run([COMMAND, "stop"], check=True, capture_output=True, timeout=60)
            subprocess.run(start, check=True, timeout=60)
            sandbox.destroy()


def wait_for(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(10_000), "a process is left"
    os.close(pidfd)


def test_the_operator_must_allow_it() -> None:
    wanted = parse_egress("unfiltered")
    for ceiling in ("public", "*:*", "python", "none"):
        assert wanted.beyond(parse_egress(ceiling)) == ["unfiltered"]
    for egress in ("unfiltered", "public", "python"):
        assert parse_egress(egress).beyond(wanted) == []
    with pytest.raises(InvalidRequestError, match="stands alone"):
        parse_egress(["unfiltered", "python"])


def test_without_pasta_it_says_how_to_get_it(capable: None, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDCOVE_EGRESS_CEILING", "unfiltered")
        patch.setenv("PATH", str(tmp_path))
        with sandcove_home():
            with pytest.raises(HostUnsupportedError, match="passt"), Sandbox(egress="unfiltered"):
                pass
            with Sandbox() as sandbox:
                with pytest.raises(HostUnsupportedError, match="passt"):
                    sandbox.set_egress("unfiltered")
                assert sandbox.info().egress == "none"
                assert sandbox.exec("echo lives").stdout == "lives\n"
