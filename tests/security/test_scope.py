"""A group of its own for the server of an ordinary user, given by that user's systemd."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandcove.runtimes.local.scope import move_to_own_scope

FOUND = """
import json, subprocess, sys
from pathlib import Path
from sandcove.runtimes.local.cgroups import Cgroups
from sandcove.wire.limits import ResourceLimits
def group(pid="self"):
    return Path(f"/proc/{pid}/cgroup").read_text().strip()
child = subprocess.Popen(["sleep", "60"])
try:
    groups = Cgroups.find(Path(sys.argv[2]), trial=sys.argv[1] == "trial")
    told = [groups.version, sorted(groups.base), group(), group(child.pid)]
    if sys.argv[1] == "found":
        room = groups.make(ResourceLimits(memory=1 << 28, processes=50, cpus=0.5))
        files = ("memory", "memory.max"), ("pids", "pids.max"), ("cpu", "cpu.max")
        told.append([(room.user[name] / file).read_text().split()[0] for name, file in files])
        groups.remove(room)
    groups.close()
finally:
    child.kill()
    child.wait()
print(json.dumps(told))
"""


def say(*arguments: object) -> Any:
    if os.geteuid() == 0 or not Path(f"/run/user/{os.getuid()}/bus").is_socket():
        pytest.skip("needs an ordinary user whose systemd runs")
    command = [sys.executable, "-c", FOUND, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_server_that_a_user_starts_has_groups(tmp_path: Path) -> None:
    version, controllers, own, child, limits = say("found", tmp_path)
    assert (version, controllers) == (2, ["cpu", "memory", "pids"])
    assert "/sandcove-" in own and own.endswith("-server") and child == own
    assert limits == [str(1 << 28), "50", "50000"]


def test_the_doctor_finds_what_a_server_would_have(tmp_path: Path) -> None:
    version, controllers, own, _ = say("trial", tmp_path)
    assert (version, controllers) == (2, ["cpu", "memory", "pids"])
    assert own.endswith(".scope")


def test_root_and_machines_without_a_systemd_of_the_user_are_not_moved() -> None:
    if os.geteuid() != 0 and Path(f"/run/user/{os.getuid()}/bus").is_socket():
        pytest.skip("this user's systemd runs")
    before = Path("/proc/self/cgroup").read_text()
    assert not move_to_own_scope({os.getpid()})
    assert Path("/proc/self/cgroup").read_text() == before
