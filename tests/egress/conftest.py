"""A host for the proxy; and a server in a network namespace of its own, whose sandboxes have the unfiltered network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sandcove import Sandbox
from tests.conftest import sandcove_home
from tests.egress import peer
from tests.egress.proxy import Host
from tests.egress.world import EXEMPT, NETWORK, OWN, OWN_6, PLAYED, US, US_6, WORLD, WORLD_6, ip

NEEDS = ("pasta", "ip")
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


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.close()


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
def unfiltered_home(capable: None, start: list[str]) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDCOVE_EGRESS_CEILING", "unfiltered")
        patch.setenv("SANDCOVE_EGRESS_PRIVATE", f"{EXEMPT[0]}:{peer.TCP} [{EXEMPT[1]}]:{peer.TCP} {NETWORK}")
        with sandcove_home() as path:
            subprocess.run(start, check=True, timeout=60)
            yield path


@pytest.fixture
def unfiltered(unfiltered_home: Path) -> Iterator[Sandbox]:
    with Sandbox(egress="unfiltered") as sandbox:
        yield sandbox
