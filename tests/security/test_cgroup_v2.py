"""Control groups of version 2, on a kernel that may have all but one controller in version 1.

A program in a mount namespace of its own takes version 1 away from what it sees. What needs no controller is then done
as on a machine with version 2; the only controller that is free, hugetlb, stands for those that rooms have.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandcove.runtimes.local.cgroups import Cgroups, Group
from sandcove.wire.confine import oom_kills
from sandcove.wire.limits import ResourceLimits
from tests.security.probes import NEEDS_ROOT

ALONE = """
for place in $(awk '$(NF-2) == "cgroup" {print $5}' /proc/self/mountinfo); do umount "$place" || exit 99; done
exec "$@"
"""
DELEGATED = """
import json, os, signal, sys
from pathlib import Path
from sandcove.agent.confines import Confines
from sandcove.runtimes.local import cgroups
from sandcove.wire.limits import ResourceLimits

cgroups.CONTROLLERS, cgroups.NEEDED = ("memory", "cpu", "pids", "hugetlb"), {"hugetlb"}
home, top = Path(sys.argv[1]), Path(sys.argv[2])
ours = top / f"test-{os.getpid()}"
told = {}

def write(path, text):
    path.write_text(text)

def inside(group, into):
    "A process in a group, until it is killed."
    ready, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        Confines(enter=into).enter()
        os.write(said, Path("/proc/self/cgroup").read_bytes().splitlines()[-1])
        signal.pause()
    return pid, os.read(ready, 4096).decode().partition("::")[2]

ours.mkdir()
write(ours / "cgroup.procs", str(os.getpid()))
told["undelegated"] = cgroups.Cgroups.find(home).why
write(top / "cgroup.subtree_control", "+hugetlb")
try:
    stranger = os.posix_spawn("/bin/sleep", ["sleep", "60"], {}, setsid=True)
    trial = cgroups.Cgroups.find(home, trial=True)
    told["trial"] = trial.version
    trial.close()
    told["stayed"] = str(os.getpid()) in (ours / "cgroup.procs").read_text().split()
    groups = cgroups.Cgroups.find(home)
    told["version"], told["why"], told["controllers"] = groups.version, groups.why, list(groups.base)
    told["moved"] = Path("/proc/self/cgroup").read_text().strip().rpartition("/")[2].endswith("-server")
    told["empty"] = (ours / "cgroup.procs").read_text() == ""
    room = groups.make(ResourceLimits())
    folder = room.folders[0]
    told["room"] = [str(each.relative_to(folder)) for each in room.folders]
    told["enabled"] = (folder / "cgroup.subtree_control").read_text().split()
    user, where = inside(room, room.enter)
    told["user"] = where == "/" + str(room.user["hugetlb"].relative_to(top))
    agent, where = inside(room, room.enter_agent)
    told["agent"] = where.endswith("/agent")
    told["pids"] = room.pids() == [user]
    room.usage()
    groups.remove(room)
    told["left"] = folder.exists()
    for pid in (user, agent):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    other = groups.make(ResourceLimits())
    told["gone"] = not folder.exists()
    # The server ends before this room does: the next one finds what it has left.
    left = other.folders[0]
    groups.close()
    again = cgroups.Cgroups.find(home)
    told["swept"] = not left.exists() and again.version == 2
    again.close()
    os.kill(stranger, signal.SIGKILL)
    os.waitpid(stranger, 0)
    # In a group that others are in too, nothing is changed: rooms get theirs beside it.
    write(top / "cgroup.procs", str(os.getpid()))
    shared = ours / "shared"
    shared.mkdir()
    write(shared / "cgroup.procs", str(os.getpid()))
    if (parent := os.fork()) == 0:
        if os.fork() == 0:
            signal.pause()
        os._exit(0)
    os.waitpid(parent, 0)
    beside = cgroups.Cgroups.find(home)
    told["beside"] = [str(base.parent.relative_to(ours)) for base in beside.base.values()]
    told["untouched"] = [(shared / "cgroup.subtree_control").read_text(), len(os.listdir(shared)) > 0]
    told["stays"] = Path("/proc/self/cgroup").read_text().strip().endswith("/shared")
    beside.close()
finally:
    Path(top, "cgroup.procs").write_text(str(os.getpid()))
    made = [Path(line) for line in (home / "cgroups").read_text().splitlines()] if (home / "cgroups").exists() else []
    for folder, _, _ in (each for place in (ours, *made) for each in os.walk(place, topdown=False)):
        for pid in Path(folder, "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        while Path(folder, "cgroup.procs").read_text():
            pass
        os.rmdir(folder)
    write(top / "cgroup.subtree_control", "-hugetlb")
print(json.dumps(told))
"""
SERVED = """
import json, os, sys
from pathlib import Path
os.environ["SANDCOVE_HOME"] = sys.argv[1]
from bench.rooms import stop_server
from sandcove import Sandbox
try:
    with Sandbox(limits={"memory": "128m"}) as sandbox:
        info = sandbox.info()
        hog = sandbox.exec(["python3", "-c", "bytearray(200 << 20)"])
        told = [info.isolation.limits, info.limited_by["memory"], hog.exit_code, "MemoryError" in hog.stderr]
        print(json.dumps(told))
finally:
    stop_server(Path(sys.argv[1]))
"""


UNDELEGATED = """
import json, sys
from pathlib import Path
from sandcove.runtimes.local.cgroups import Cgroups
print(json.dumps(Cgroups.find(Path(sys.argv[1])).why))
"""


def alone(script: str, *arguments: object, before: str = "") -> Any:
    """What a program says that sees no groups of version 1, after these words of a shell."""
    command = ["unshare", "-m", "sh", "-c", before + ALONE, "sh", sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 99:
        pytest.skip("this machine's groups can't be taken away")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def top() -> Path:
    """Where version 2 is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.startswith("cgroup2 "):
            return Path(fields.split()[4])
    pytest.skip("there are no control groups of version 2")


def words(path: Path) -> set[str]:
    return set(path.read_text().split())


@NEEDS_ROOT
def test_groups_are_made_moved_into_and_removed(top: Path, tmp_path: Path) -> None:
    if "hugetlb" not in words(top / "cgroup.controllers"):
        pytest.skip("no controller is free here")
    # Those that are in version 1 are none of this one's.
    there = {"memory", "cpu", "pids"} & words(top / "cgroup.subtree_control") | {"hugetlb"}
    told = alone(DELEGATED, tmp_path, top)
    assert "Delegate=yes" in told.pop("undelegated")
    assert (told.pop("trial"), told.pop("stayed")) == (2, True)
    assert (told.pop("version"), told.pop("why"), set(told.pop("controllers"))) == (2, "", there)
    assert told.pop("moved") and told.pop("empty"), "a group with controllers below it holds no processes itself"
    assert told.pop("room") == [".", "agent", "user"]
    assert set(told.pop("enabled")) == there
    assert told.pop("user") and told.pop("agent") and told.pop("pids")
    assert told.pop("left") and told.pop("gone"), "a group that processes are in goes with the next"
    assert told.pop("swept")
    assert set(told.pop("beside")) == {"."} and told.pop("untouched") == ["", True] and told.pop("stays")
    assert not told


@NEEDS_ROOT
def test_without_controllers_a_server_does_without(top: Path, fresh_home: Path) -> None:
    if {"memory", "pids"} <= words(top / "cgroup.controllers"):
        pytest.skip("the controllers are there")
    assert alone(SERVED, fresh_home) == ["rlimit", "rlimit, for each process", 1, True]
    assert "Delegate=yes" in (fresh_home / "server.log").read_text()


@NEEDS_ROOT
def test_where_the_kernel_does_not_tell_children_a_server_does_without(top: Path, tmp_path: Path) -> None:
    if {"memory", "pids"} <= words(top / "cgroup.controllers"):
        pytest.skip("the controllers are there")
    assert "Delegate=yes" in alone(UNDELEGATED, tmp_path, before="mount -t tmpfs none /proc/$$/task/$$ || exit 99\n")


def test_a_controller_that_is_not_there_is_told_and_leaves_nothing(top: Path) -> None:
    """As the kernel does when it was taken away after the server had started."""
    base = top / f"test-lacks-{id(top)}"
    try:
        base.mkdir()
    except OSError as error:
        pytest.skip(f"no group can be made: {error}")
    try:
        groups = Cgroups(2, {"memory": base})
        with pytest.raises(OSError, match=r"No such file|Invalid argument"):
            groups.make(ResourceLimits(memory=1 << 30))
        assert not [each for each in base.iterdir() if each.is_dir()]
    finally:
        base.rmdir()


def test_what_is_written_and_read_by_the_kernels_description(tmp_path: Path) -> None:
    """The files of cgroup-v2.rst, where no controller is there to try: plain files play them."""
    user, agent = tmp_path / "user", tmp_path / "agent"
    for folder in (user, agent):
        folder.mkdir()
        for name in ("memory.max", "cpu.max", "pids.max"):
            (folder / name).write_text("max")
    group = Group(2, user=dict.fromkeys(("memory", "cpu", "pids"), user), agent=agent)
    group.set(ResourceLimits(memory=1 << 30, cpus=0.5, processes=100))
    assert [(user / f"{name}.max").read_text() for name in ("memory", "cpu", "pids")] == [
        str(1 << 30),
        "50000 100000",
        "100",
    ]
    assert (agent / "memory.max").read_text() == str((2 << 30) + (1 << 29))
    group.set(ResourceLimits(memory=0, cpus=0, processes=0))
    assert [(user / f"{name}.max").read_text()[:3] for name in ("memory", "cpu", "pids")] == ["max"] * 3
    (user / "memory.current").write_text("4096\n")
    (user / "memory.reclaim").write_text("")
    with pytest.raises(OSError, match="busy"):
        group.set(ResourceLimits(memory=4000))
    assert (user / "memory.reclaim").read_text() == "96" and (user / "memory.max").read_text()[:3] == "max"
    (user / "memory.peak").write_text("8192\n")
    (user / "pids.current").write_text("3\n")
    (user / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\nsystem_usec 2\n")
    (user / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 4\noom_kill 2\noom_group_kill 7\n")
    with (user / "memory.events").open("rb") as events:
        group.oom = events.fileno()
        used = group.usage()
        assert oom_kills(events.fileno()) == 2
    group.oom = -1
    assert (used.memory, used.memory_peak, used.processes, used.cpu_seconds) == (4096, 8192, 3, 1.5)
    assert used.out_of_memory == 2
    assert not group.agent_ran_out()
    (agent / "memory.events").write_text("oom 1\noom_kill 1\n")
    assert group.agent_ran_out()
