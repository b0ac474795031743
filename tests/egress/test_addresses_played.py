"""Addresses that this test may not ask, played by a network namespace that it makes: there they are this host's own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.security.probes import NEEDS_ROOT

PROGRAM = """
import json, sys
from sandcove.server.egress import addresses
from tests.egress.proxy import Host, Proxy, ask, run

address, exempt, own = sys.argv[1:]
if own == "unprotected":
    addresses.is_own = lambda address: False
victim = Host(address)

async def attempt():
    proxy = Proxy("public", exempt, lambda name: [address])
    came = [
        await ask(proxy.port, b"GET http://%b:%d/ HTTP/1.0\\r\\n\\r\\n" % (host, victim.port))
        for host in (b"a.test", b"[%b]" % address.encode() if ":" in address else address.encode())
    ]
    return {"reached": [b"reached" in each for each in came], "why": proxy.entries[0].reason, "seen": len(victim.seen)}

print(json.dumps(run(attempt)))
"""
ROOT = Path(__file__).parents[2]


def attempt(address: str, exempt: str = "", own: str = "protected") -> dict[str, object]:
    # The last is another one of the same network than the first that the machine has there.
    script = """
        ip link set lo up && case "$1" in */*) ip addr add "${1%.*}.254/${1#*/}" dev lo;; esac &&
        ip addr add "$1" dev lo && shift && exec "$@"
    """
    command = [
        "unshare",
        "--net",
        "sh",
        "-c",
        script,
        "sh",
        address,
        sys.executable,
        "-c",
        PROGRAM,
        address.partition("/")[0],
        exempt,
        own,
    ]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30, cwd=ROOT)
    found: dict[str, object] = json.loads(ran.stdout)
    return found


pytestmark = [
    NEEDS_ROOT,
    pytest.mark.skipif(not shutil.which("ip"), reason="needs iproute2"),
]


@pytest.mark.parametrize("address", ["169.254.169.254", "10.0.0.1", "168.63.129.16", "fd00:ec2::254"])
def test_metadata_and_private_addresses(address: str) -> None:
    shut = attempt(address)
    assert (shut["reached"], shut["seen"]) == ([False, False], 0), shut
    assert attempt(address, f"[{address}]" if ":" in address else address)["reached"] == [True, True]


@pytest.mark.parametrize("address", ["8.8.8.8", "8.8.8.8/24", "2606:4700::1111"])
def test_a_public_address_of_the_server_itself(address: str) -> None:
    shut = attempt(address)
    assert (shut["reached"], shut["seen"]) == ([False, False], 0), shut
    assert "of the server itself" in str(shut["why"])
    assert attempt(address, own="unprotected")["reached"] == [True, True]
