"""Own addresses that flap are shut also in a network that is made while others still get their rules."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.security.probes import NEEDS_ROOT

FLAPPING = """
import asyncio, socket, subprocess, sys
from pathlib import Path
from sandcove.server.database import Database
from sandcove.server.egress.outlets import Outlets
from sandcove.server.egress.purse import Secrets

class Room:
    "Notes its rules; gets new ones when it is let."
    def __init__(self):
        self.had = asyncio.Queue()
        self.let = asyncio.Event()
        self.let.set()
    def way_out(self):
        return socket.create_server(("127.0.0.1", 0))
    async def set_network(self, rules):
        self.rules = rules
    async def set_rules(self, rules):
        self.had.put_nowait(None)
        await self.let.wait()
        self.rules = rules

def address(change, text):
    subprocess.run(["ip", "addr", change, text, "dev", "lo"], check=True)

def shuts(room, text):
    return any(not rule.open and str(rule.network) == text for rule in room.rules)

async def main():
    outlets = Outlets("unfiltered", "", Secrets(Database(Path(sys.argv[1]))))
    watching = asyncio.ensure_future(outlets.watch_own())
    await asyncio.sleep(0)  # it listens
    first, second = Room(), Room()
    await outlets.open("1", "t", "first", ["unfiltered"], first)
    first.let.clear()
    address("add", "8.8.6.6/32")
    await first.had.get()
    address("del", "8.8.6.6/32")
    await outlets.open("2", "t", "second", ["unfiltered"], second)
    assert not shuts(second, "8.8.6.6/32")
    address("add", "8.8.6.6/32")
    first.let.set()
    await asyncio.wait_for(second.had.get(), 10)
    assert shuts(first, "8.8.6.6/32") and shuts(second, "8.8.6.6/32")
    outlets.close("1")
    outlets.close("2")
    watching.cancel()

asyncio.run(main())
"""


WITHOUT_DESCRIPTORS = """
import asyncio, os, resource, sys
from pathlib import Path
from sandcove.server.database import Database
from sandcove.server.egress import outlets
from sandcove.server.egress.purse import Secrets

async def main():
    outlets.AGAIN = 0.05
    made = outlets.Outlets("unfiltered", "", Secrets(Database(Path(sys.argv[1]))))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    watching = asyncio.ensure_future(made.watch_own())
    await asyncio.sleep(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    before = len(os.listdir("/proc/self/fd"))
    async with asyncio.timeout(10):
        while len(os.listdir("/proc/self/fd")) == before:
            assert not watching.done(), watching
            await asyncio.sleep(0.01)
    watching.cancel()

asyncio.run(main())
"""


def test_a_watch_that_fails_begins_anew(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_DESCRIPTORS, str(tmp_path / "db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "Too many open files" in done.stderr


@NEEDS_ROOT
@pytest.mark.skipif(not shutil.which("ip"), reason="needs iproute2")
def test_one_that_flaps_is_shut_in_a_network_made_meanwhile(tmp_path: Path) -> None:
    command = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, "-c", FLAPPING]
    done = subprocess.run([*command, tmp_path / "db"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
