"""Limits as texts, the server's bounds of them, and where control groups are: decided purely."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandcove.agent.log import LEAST as LEAST_LOG
from sandcove.agent.log import Log, LogSpace
from sandcove.errors import InvalidRequestError, QuotaExceededError
from sandcove.runtimes.local import measure as measuring
from sandcove.runtimes.local.cgroups import Hierarchies, memory_here, parse_hierarchies
from sandcove.runtimes.local.limits import confine_of, fits, mechanisms
from sandcove.runtimes.local.measure import TOO_MUCH, held, measure
from sandcove.server.limits import DEFAULTS, Bounds, parse
from sandcove.trees import delete_tree
from sandcove.wire.keys import Limits
from sandcove.wire.limits import LEAST, MOST, NO_LIMITS, ResourceLimits, read_limits, shown_limits

WHOLE = {
    name: st.none() | st.just(0) | st.integers(int(least), MOST - 1) for name, least in LEAST.items() if name != "cpus"
}
LIMITS = st.builds(ResourceLimits, cpus=st.none() | st.floats(0.05, 1000, allow_nan=False), **WHOLE)
V1_CGROUP = "8:pids:/\n4:memory:/some/where\n2:cpu,cpuacct:/\n0::/\n"
V1_MOUNTS = """\
31 30 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
32 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 30 0:28 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
34 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


@given(LIMITS)
def test_a_text_of_limits_is_read_as_it_was_shown(limits: ResourceLimits) -> None:
    pairs = dict(part.split("=") for part in shown_limits(limits).split(",") if part)
    read = read_limits(pairs).given()
    assert read == pytest.approx(limits.given())
    assert read.keys() == limits.given().keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory", "2x"),
        ("memory", "1m"),
        ("memory", -1),
        ("memory", True),
        ("memory", 2.5),
        ("processes", "1g"),
        ("cpus", float("nan")),
        ("cpus", "-1"),
        ("cpus", 0.01),
        ("disk", 10**400),
        ("disk", "9" * 400),
        ("inodes", None),
        ("swap", 1),
    ],
)
def test_what_is_no_limit_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidRequestError, match=name if name in LEAST else "no limit 'swap'"):
        read_limits({name: value})


def test_sizes_have_units_of_1024() -> None:
    assert read_limits({"memory": "1.5G", "disk": "2GiB", "logs": "1024k"}).given() == {
        "memory": 3 << 29,
        "disk": 2 << 30,
        "logs": 1 << 20,
    }


def test_a_share_of_the_machine_is_for_the_server_alone() -> None:
    whole, half = parse("memory=100%").memory, parse("memory=50%").memory
    assert whole is not None and half is not None and whole // 2 == half
    for text in ("memory=101%", "memory=0%", "disk=50%", "memory", "x=1"):
        with pytest.raises(ValueError, match="limits such as"):
            parse(text)
    with pytest.raises(InvalidRequestError):
        read_limits({"memory": "50%"})


@given(LIMITS, LIMITS, LIMITS)
def test_nobody_gets_more_than_the_ceilings(
    recorded: ResourceLimits, defaults: ResourceLimits, most: ResourceLimits
) -> None:
    had = Bounds(defaults, most).of_sandbox(recorded).given()
    for name, ceiling in most.given().items():
        if ceiling:
            assert 0 < had[name] <= ceiling
    for name, value in recorded.given().items():
        if not getattr(most, name):
            assert had[name] == value


def test_who_asks_for_more_is_refused() -> None:
    bounds = Bounds.of("memory=1g", "memory=2g,cpus=2")
    assert bounds.of_sandbox(NO_LIMITS).processes == parse(DEFAULTS).processes
    assert bounds.admit(ResourceLimits(memory=1 << 31), Limits()).memory == 1 << 31
    for asked in (ResourceLimits(memory=3 << 30), ResourceLimits(memory=0), ResourceLimits(cpus=2.5)):
        with pytest.raises(InvalidRequestError, match="the most that this server gives"):
            bounds.admit(asked, Limits())
    key = Limits(memory=1 << 29, cpus=1)
    assert bounds.admit(NO_LIMITS, key) == ResourceLimits(memory=1 << 29, cpus=1)
    with pytest.raises(QuotaExceededError, match="the most that the key allows"):
        bounds.admit(ResourceLimits(memory=1 << 30), key)
    with pytest.raises(QuotaExceededError):
        Bounds().admit(ResourceLimits(cpus=0), key)


def test_groups_of_version_1_are_below_the_servers_own() -> None:
    found = parse_hierarchies(V1_CGROUP, V1_MOUNTS)
    assert found.version == 1
    assert found.own == {
        "memory": Path("/sys/fs/cgroup/memory/some/where"),
        "cpu": Path("/sys/fs/cgroup/cpu"),
        "cpuacct": Path("/sys/fs/cgroup/cpu"),
        "pids": Path("/sys/fs/cgroup/pids"),
    }


def test_groups_of_version_2_are_below_the_servers_own() -> None:
    mounts = "29 23 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
    found = parse_hierarchies("0::/user.slice/run-1.scope\n", mounts)
    assert (found.version, found.top) == (2, Path("/sys/fs/cgroup"))
    assert found.own["memory"] == Path("/sys/fs/cgroup/user.slice/run-1.scope")
    # A container that sees only a part of the tree, and one that is outside of what it sees.
    part = mounts.replace(" / /sys", " /docker/abc /sys")
    assert parse_hierarchies("0::/docker/abc/in\n", part).own["pids"] == Path("/sys/fs/cgroup/in")
    assert parse_hierarchies("0::/docker/abcd\n", part).version == 0
    assert parse_hierarchies("0::/../other\n", mounts).version == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has control groups only where they are delegated")
def test_memory_is_what_the_control_groups_allow() -> None:
    assert 0 < memory_here() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    hierarchies = Hierarchies.of_this_process()
    own = hierarchies.own.get("memory")
    limit = {1: "memory.limit_in_bytes", 2: "memory.max"}.get(hierarchies.version)
    if own is None or limit is None:
        pytest.skip("no control groups of memory are to be had here")
    if hierarchies.version == 2:  # a group that has processes has no controllers for those below it
        given = (each for each in own.parents if "memory" in (each / "cgroup.subtree_control").read_text().split())
        own = next(given)
    outer = own / f"sandcove-test-{os.getpid()}"
    try:
        (outer / "inner").mkdir(parents=True)
        (outer / limit).write_text(str(1 << 30))
        code = "from sandcove.server.limits import parse; print(parse('memory=50%').memory)"
        enter = f'echo $$ > {outer}/inner/cgroup.procs && exec {sys.executable} -c "{code}"'
        told = subprocess.run(["sh", "-c", enter], check=True, capture_output=True, text=True)
        assert int(told.stdout) == 1 << 29
    finally:
        for folder in (outer / "inner", outer):
            folder.rmdir()


def test_what_no_group_holds_is_left_to_single_processes() -> None:
    limits = ResourceLimits(memory=1 << 30, processes=100)
    held = confine_of(limits, ("memory", "pids"))
    assert (held.data, held.processes, held.memory) == (0, 0, 1 << 30)
    alone = confine_of(limits, ())
    assert (alone.data, alone.processes) == (1 << 30, 100)
    assert mechanisms(1, ("memory",), root=True, disk="measured")["processes"] == "nothing"
    assert mechanisms(0, (), root=False, disk="measured")["processes"] == "rlimit"
    assert mechanisms(2, ("cpu",), root=True, disk="measured")["cpus"] == "cgroup v2"


def test_a_room_made_ahead_fits_what_needs_only_less() -> None:
    made = confine_of(ResourceLimits(open_files=1000, disk=1 << 30), ("memory", "pids"))
    for limits, does in (
        (ResourceLimits(open_files=1000, disk=1 << 30, memory=1 << 40), True),
        (ResourceLimits(open_files=500, disk=1 << 20), True),
        (ResourceLimits(open_files=1001, disk=1 << 20), False),
        (ResourceLimits(open_files=0, disk=1 << 20), False),
    ):
        assert fits(confine_of(limits, ("memory", "pids")), made) is does


def test_usage_counts_a_linked_file_once_and_follows_nothing(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * 100_000)
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    (tmp_path / "out").symlink_to("/")
    size, files = measure(str(tmp_path), 0)
    assert 100_000 <= size < 130_000
    assert files == 3
    assert measure(str(tmp_path), 1)[1] == 2


def test_how_far_a_room_is_above_its_limits_is_told(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / str(number)).write_bytes(bytes(1 << 20))
    asked = json.dumps({"a room": (str(tmp_path), [], 1 << 20, 7), "gone": (str(tmp_path / "gone"), [], 0, 0)})
    command = [sys.executable, "-I", "-S", measuring.__file__]
    told = subprocess.run(command, input=asked, stdout=subprocess.PIPE, text=True, check=True).stdout
    name, size, *others = json.loads(told)
    assert (name, others) == ("a room", [12, 0, 0]) and size >= 12 << 20


HOLDS = """
import ctypes, os, sys, threading
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
how, name = sys.argv[1:]
def hold():
    if how == "of-a-thread":
        assert libc.unshare(0x400) == 0  # CLONE_FILES
    fd = os.memfd_create("held") if how == "in-memory" else os.open(name, os.O_RDWR | os.O_CREAT)
    os.write(fd, bytes(1 << 20))
    if how != "in-memory":
        os.unlink(name)
    if how == "mapped":
        # Low, where the names in /proc/PID/map_files are shorter than those in maps.
        assert libc.mmap(0x200000, 4096, 1, 0x11, fd, 0) == 0x200000  # MAP_SHARED | MAP_FIXED
        os.close(fd)
    print("held", flush=True)
    sys.stdin.read(1)
    os._exit(0)
if how == "open" or how == "mapped" or how == "in-memory":
    hold()
threading.Thread(target=hold).start()
if how == "without-its-first-thread":
    libc.syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)  # exit
"""


@pytest.mark.parametrize("how", ["open", "mapped", "of-a-thread", "without-its-first-thread", "in-memory"])
def test_files_without_a_name_count_however_they_are_held(how: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, how, str(tmp_path / "file")]
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=none, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        size, files = held([process.pid, process.pid], 0, 0)
        process.communicate("x")
    assert files == (how != "in-memory")
    # Only a privileged server sees how large a file is that is only mapped.
    whole = 4096 if how == "mapped" and os.geteuid() else 1 << 20
    assert whole * files <= size <= (whole + 65536) * files


@pytest.mark.parametrize("longest", ["LONGEST", "LATEST"])
def test_descriptors_that_take_too_long_to_count_are_too_much(longest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert held([os.getpid()], 0, 0)[0] < TOO_MUCH
    monkeypatch.setattr(measuring, longest, 0.0)
    assert held([os.getpid()], 0, 0) == (TOO_MUCH, TOO_MUCH)


def test_a_nesting_too_deep_to_count_is_too_much(tmp_path: Path) -> None:
    before = os.getcwd()
    tree = tmp_path / "tree"
    tree.mkdir()
    os.chdir(tree)
    try:
        for _ in range(1100):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(before)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, limits[1]))
        found = measure(str(tree), 0)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        delete_tree(tree)
    assert found == TOO_MUCH


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 90_000)), max_size=30))
@example([(0, 30_001), (0, 90_000), (1, 90_000), (2, 90_000)])
def test_logs_share_their_space(writes: list[tuple[int, int]]) -> None:
    """What is kept is what was printed last, and all together are no larger than they may be."""
    with tempfile.TemporaryDirectory() as folder:
        space = LogSpace(300_000)
        logs = [Log(200_000, folder, space) for _ in range(3)]
        printed = [b"", b"", b""]
        for number, (index, size) in enumerate(writes):
            data = bytes([number % 251]) * size
            logs[index].append("stdout", data)
            printed[index] += data
        assert space.used <= max(300_000, 3 * LEAST_LOG + 200_000)
        for log, all_of_it in zip(logs, printed, strict=True):
            kept, _, more = log.newest(1 << 20)
            assert all_of_it.endswith(kept)
            assert more or kept == all_of_it
            assert len(kept) >= min(len(all_of_it), LEAST_LOG)
            log.delete()
        assert space.used == 0
