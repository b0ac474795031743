"""Another user of the same machine reaches nothing of the first one's."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench import processes
from sandcove import Sandbox
from sandcove.errors import HostUnsupportedError
from sandcove.home import Home
from tests.security.probes import NEEDS_ROOT, outside

pytestmark = NEEDS_ROOT
OTHER = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
PROBES = {
    "the folder": "os.listdir(args[0])",
    "the registry": "open(args[0] + '/registry.db', 'rb')",
    "the log": "open(args[0] + '/server.log', 'rb')",
    "the server": "socket.socket(socket.AF_UNIX).connect(args[0] + '/server.sock')",
    "the agent": "socket.socket(socket.AF_UNIX).connect(f'{args[0]}/run/{args[1]}.sock')",
    "the sandbox's files": "os.listdir(f'{args[0]}/sandboxes/{args[1]}/root')",
    "a new sandbox": "os.mkdir(args[0] + '/sandboxes/planted')",
    "the folder by a process": "os.listdir(f'/proc/{args[2]}/root')",
    "the environment of the server": "open(f'/proc/{args[2]}/environ').read()",
}


@pytest.fixture(scope="module")
def python() -> str:
    """A Python that the other user may execute: this environment's may lie below somebody's home folder."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([*OTHER, candidate, "-c", ""], check=False, capture_output=True, timeout=20).returncode == 0:
            return candidate
    pytest.skip("there is no Python that everybody may execute")


@pytest.mark.parametrize("what", PROBES)
def test_another_user(cell: Sandbox, home: Path, python: str, what: str) -> None:
    args = (home, cell.id, _server(home))
    assert not outside(PROBES[what], *args, wrap=OTHER, python=python).reached
    assert outside(PROBES[what], *args).reached
    if what == "a new sandbox":
        (home / "sandboxes" / "planted").rmdir()


def _server(home: Path) -> int:
    return next(pid for pid, command in processes.of_home(home).items() if "sandcove.server" in command)


def test_a_folder_that_belongs_to_another_user_is_refused() -> None:
    with tempfile.TemporaryDirectory(prefix="sc-", dir="/tmp") as folder:
        Home(Path(folder)).make()
        os.chown(folder, 12345, 12345)
        with pytest.raises(HostUnsupportedError):
            Home(Path(folder)).make()
