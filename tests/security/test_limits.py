"""One sandbox can't have all of the machine: memory, processor, processes, descriptors, disk, logs.

Each attack is bounded in its program, so that it harms nobody where a limit is taken away to see the test fail.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import processes
from sandcove import (
    ConflictError,
    ContainerNotReadyError,
    ContextEndedError,
    FileSystemError,
    InvalidRequestError,
    Sandbox,
)
from sandcove.home import Home
from sandcove.runtimes.base import RoomSpec
from sandcove.runtimes.local import disk
from sandcove.runtimes.local.cgroups import Cgroups
from sandcove.runtimes.local.disk import DiskWatch, in_turn
from sandcove.runtimes.local.measure import TOO_MUCH
from sandcove.runtimes.local.room import LocalRoom
from sandcove.wire.limits import ResourceLimits
from tests.faults.test_kernel_requests import ISOLATION
from tests.security.probes import agent_pid

MIB = 1 << 20
HOG = "held = []\nfor _ in range(100): held.append(bytearray(4 << 20))"
FORKS = """
import os, time
made = 0
for _ in range(150):
    try:
        if os.fork() == 0:
            time.sleep(3)
            os._exit(0)
    except OSError:
        break
    made += 1
print(made)
"""


@pytest.fixture
def groups(home: Path) -> None:
    """Skips where the machine has no control groups for the server."""
    with Sandbox() as sandbox:
        isolation = sandbox.info().isolation
        assert isolation is not None
        if not isolation.limits.startswith("cgroup"):
            pytest.skip("the server can't have control groups here")


@pytest.fixture
def small(groups: None) -> Iterator[Sandbox]:
    with Sandbox(limits={"memory": "96m", "processes": 48}) as made:
        yield made


def eventually(true: Callable[[], bool], within: float = 15.0) -> bool:
    """Whether that is so, or becomes so: of what the server finds by looking there is no event."""
    end = time.monotonic() + within
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_out_of_memory_ends_the_program_alone_and_is_told(small: Sandbox, home: Path) -> None:
    agent = agent_pid(home, small)
    small.exec("export KEPT=1")
    result = small.exec(["python3", "-c", HOG])
    assert (result.exit_code, result.out_of_memory) == (137, True)
    assert small.exec("python3 -c 'b = bytearray(400 << 20)' | cat").out_of_memory
    result = small.exec("echo $KEPT")
    assert (result.stdout, result.out_of_memory) == ("1\n", False)
    last = list(small.exec_stream(["python3", "-c", HOG]))[-1]
    assert (last.type, last.exit_code, last.out_of_memory) == ("complete", 137, True)
    last = list(small.exec_stream("true"))[-1]
    assert (last.exit_code, last.out_of_memory) == (0, False)
    assert agent_pid(home, small) == agent
    assert (small.get_usage().out_of_memory or 0) >= 3


def test_out_of_memory_of_a_process_is_told(small: Sandbox) -> None:
    process = small.start_process(["python3", "-c", HOG])
    assert process.wait(timeout=20) == 137
    process.refresh()
    assert (process.status, process.signal, process.out_of_memory) == ("killed", "SIGKILL", True)
    killed = small.start_process(["sleep", "60"])
    killed.kill("SIGKILL")
    assert (killed.wait(timeout=20), killed.out_of_memory) == (137, False)


def test_out_of_memory_of_a_context_is_told(small: Sandbox) -> None:
    with pytest.raises(ContextEndedError, match="memory had run out: the sandbox's limit is 96 MiB"):
        small.run_code(HOG)
    assert small.exec("echo on").stdout == "on\n"


def test_files_in_memory_count(small: Sandbox) -> None:
    """Written by the agent too, which is in no group of user code."""
    with pytest.raises(FileSystemError, match="disk is full"):
        small.write_file("/dev/shm/large", b"x" * (40 * MIB))
    assert small.exec("head -c 40000000 /dev/zero >/run/large").exit_code == 1


SOCKETS = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
held, queued = [], 0
for _ in range(60):
    client = socket.create_connection(listener.getsockname(), timeout=5)
    held += [client, listener.accept()[0]]
    for end in held[-2:]:
        end.settimeout(0.05)
        try:
            while queued < 200 << 20:
                queued += end.send(bytes(1 << 20))
        except TimeoutError:
            pass
print(queued >> 20)
"""


def test_what_waits_in_sockets_counts(small: Sandbox) -> None:
    result = small.exec(["python3", "-c", SOCKETS], timeout=60)
    # Either the kernel takes no more of it, or the program is ended.
    assert not result.success or int(result.stdout) < 120, result.stdout


def test_processes_are_bounded(small: Sandbox) -> None:
    with Sandbox(limits={"processes": 400}) as large:
        made = int(large.exec(["python3", "-c", FORKS], timeout=20).stdout)
    assert made == 150
    made = int(small.exec(["python3", "-c", FORKS], timeout=20).stdout)
    assert 30 < made < 48
    # While they live the agent needs no process for its own work.
    small.write_file("/tmp/x", "y")
    assert small.read_file("/tmp/x") == "y"


def test_kernels_are_in_the_group_too(small: Sandbox) -> None:
    made = small.run_code(FORKS + "\nmade").text
    assert made is not None and 20 < int(made) < 48


def test_processor_time_is_bounded(groups: None) -> None:
    spin = (
        "import time\nbegan, used = time.monotonic(), time.process_time()\n"
        "while time.process_time() < used + 0.4: pass\nprint(time.monotonic() - began)"
    )
    with Sandbox(limits={"cpus": 0.2}) as slow:
        assert float(slow.exec(["python3", "-c", spin], timeout=30).stdout) > 1.4
        assert (slow.get_usage().cpu_seconds or 0) >= 0.4
        slow.set_limits({"cpus": 0})
        assert slow.info().limits.cpus == 0


def test_limits_change_what_runs(groups: None) -> None:
    use = ["python3", "-c", "held = bytearray(100 << 20)"]
    with Sandbox(limits={"memory": "64m", "open_files": 400}) as sandbox:
        assert sandbox.exec(use).out_of_memory
        assert sandbox.exec("ulimit -Hn; ulimit -n").stdout == "400\n400\n"
        info = sandbox.set_limits({"memory": "256m", "open_files": 300})
        assert (info.limits.memory, info.limits.open_files) == (256 * MIB, 300)
        assert sandbox.exec(use).success
        assert eventually(lambda: sandbox.exec("ulimit -Hn").stdout == "300\n")
        sandbox.exec("head -c 50000000 /dev/zero >/dev/shm/held")
        with pytest.raises(ConflictError, match=r"uses [0-9,]+ bytes of memory now"):
            sandbox.set_limits({"memory": "32m"})
        assert sandbox.info().limits.memory == 256 * MIB
        with pytest.raises(InvalidRequestError, match="limit memory=1"):
            sandbox.set_limits({"memory": 1})


def test_limits_outlast_sleep(home: Path) -> None:
    sandbox = Sandbox("limited", limits={"disk": "64m", "processes": 50})
    try:
        sandbox.sleep()
        sandbox.exec("true")
        assert (sandbox.info().limits.disk, sandbox.info().limits.processes) == (64 * MIB, 50)
        assert sandbox.exec("head -c 70000000 /dev/zero >/workspace/large").exit_code != 0
        assert Sandbox("limited", limits={"processes": 60}).exec("true").success
        assert sandbox.info().limits.processes == 60
    finally:
        sandbox.destroy()


HOLD = """python3 -c '
import os, time
for number in range(10):
    fd = os.open(f"/usr/local/{number}", os.O_RDWR | os.O_CREAT)
    for _ in range(12): os.write(fd, bytes(1 << 20))
    os.unlink(f"/usr/local/{number}")
time.sleep(30)
'"""


@pytest.mark.parametrize(
    ("limits", "fill"),
    [
        ({"disk": "64m"}, "for n in 1 2 3 4; do head -c 50000000 /dev/zero >/workspace/$n; done"),
        ({"inodes": 2000}, "mkdir /workspace/d && cd /workspace/d && seq 9000 | xargs touch"),
        ({"disk": "16m"}, "head -c 14m /dev/zero >/workspace/1; cp /workspace/1 /workspace/2"),
        ({"inodes": 1000}, "mkdir /workspace/d && cd /workspace/d && seq 1200 | xargs touch"),
        ({"disk": "40m"}, HOLD),
    ],
    ids=["bytes", "files", "few-bytes", "few-files", "nameless"],
)
def test_a_full_disk_ends_the_room_and_can_be_mended(home: Path, limits: dict[str, str], fill: str) -> None:
    sandbox = Sandbox("full", limits=limits)
    try:
        # A look at the file system while it is filled takes the connection along.
        with pytest.raises(ContainerNotReadyError, match="ended during the call"):
            sandbox.exec(f"{fill}; sleep 30", timeout=40)
        assert eventually(lambda: "more than its limit" in (sandbox.info().note or ""))
        sandbox.exec("rm -r /workspace/*")
        assert sandbox.exec("ls /workspace").stdout == ""
    finally:
        sandbox.destroy()


@pytest.mark.local("the runtime alone, in the test's process")
async def test_one_that_woke_over_its_limit_gains_nothing_step_by_step(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = RoomSpec("full", home, home / "socket", ResourceLimits(disk=MIB))
    watch = DiskWatch(home, list)
    rooms: list[LocalRoom] = []

    def judge(size: int, *, nameless: int = 0) -> bool:
        """It lives on."""
        watch._judge(rooms[-1], (size, 1), (nameless, 0))
        return rooms[-1].holds

    def wake() -> None:
        rooms.append(LocalRoom(spec, ISOLATION, Cgroups.off("none are needed"), {}))
        rooms[-1]._hold = os.open("/dev/null", os.O_RDONLY)

    wake()
    assert judge(MIB) and not judge(9 * MIB, nameless=99 * MIB)
    wake()
    assert judge(20 * MIB) and not judge(30 * MIB), "16 MiB more, but not again and again"
    wake()
    assert judge(10 * MIB) and not judge(30 * MIB), "what it has deleted it can't write again"
    wake()
    assert not judge(0, nameless=TOO_MUCH), "what can't be counted is too much"
    wake()
    assert not judge(TOO_MUCH)
    wake()
    assert judge(TOO_MUCH)
    monkeypatch.setattr(disk, "GRACE", -1.0)
    assert not judge(TOO_MUCH), "it had its time to delete some"


def test_one_with_very_many_files_keeps_no_other_from_being_measured() -> None:
    assert in_turn("abcd", "") == list("abcd")
    assert in_turn("abcd", "bcd") == list("cdab"), "b took all the time there was"
    assert in_turn("acde", "b") == list("acde"), "it has ended since"


def test_logs_are_bounded_together(home: Path) -> None:
    with Sandbox(limits={"logs": "1m"}) as sandbox:
        flood = sandbox.start_process("head -c 4000000 /dev/zero | tr '\\0' x")
        flood.wait(timeout=20)
        logs = flood.logs()
        assert (len(logs.stdout), logs.truncated) == (MIB, True)
        after = sandbox.start_process("echo after")
        after.wait(timeout=20)
        assert after.logs().stdout == "after\n"


def test_signals_that_wait_are_bounded(home: Path) -> None:
    send = (
        "import os, signal as s\ns.pthread_sigmask(s.SIG_BLOCK, [40])\nfor _ in range(10000): os.kill(os.getpid(), 40)"
    )
    with Sandbox() as sandbox:
        told = sandbox.exec(["python3", "-c", f"{send}\nprint(open('/proc/self/status').read())"])
        waiting, _, most = told.stdout.partition("SigQ:\t")[2].split()[0].partition("/")
        assert (waiting, most) == ("8192", "8192")


def test_no_dump_of_core_leaves(home: Path) -> None:
    with Sandbox() as sandbox:
        result = sandbox.exec("cd /tmp; ulimit -Hc; sh -c 'kill -ABRT $$'; ls /tmp")
        assert "core" not in result.stdout
        limits = sandbox.exec("grep core /proc/self/limits").stdout.split()
        assert limits[4:6] == ["1", "1"]


def test_the_room_sees_no_file_system_of_groups(home: Path) -> None:
    with Sandbox() as sandbox:
        assert sandbox.exec("awk '$3 ~ /cgroup/' /proc/self/mounts; ls -d /sys/fs/cgroup").stdout == ""


def bases(home: Path) -> list[Path]:
    return [Path(line) for line in (home / "cgroups").read_text().splitlines()]


def rooms_of(home: Path) -> set[str]:
    """The groups of rooms that there are."""
    return {
        str(folder)
        for base in bases(home)
        for folder in (*base.glob("*/"), *base.parent.glob(f"{base.name}-*/"))
        if folder.is_dir()
    }


def test_groups_end_with_their_room_and_their_server(groups: None, fresh_home: Path) -> None:
    sandbox = Sandbox("grouped")
    lines = sandbox.exec("cat /proc/self/cgroup").stdout.splitlines()
    line = next((line for line in lines if ":pids:" in line), lines[-1])  # version 2 has one alone
    name = line.removesuffix("/user").rpartition("/")[2]
    assert any(name in path for path in rooms_of(fresh_home))
    sandbox.sleep()
    # The group of a process that is just leaving goes with the next room.
    sandbox.exec("true")
    assert not any(name in path for path in rooms_of(fresh_home))
    sandbox.exec("true")
    # A server that is killed leaves groups; the next one removes them.
    pid = int(Home(fresh_home).server_log.read_text().rpartition("(pid ")[2].partition(")")[0])
    left = rooms_of(fresh_home)
    running = processes.of_home(fresh_home)
    os.kill(pid, signal.SIGKILL)
    assert not processes.all_gone(fresh_home, within=10, also=running)
    assert rooms_of(fresh_home) == left
    sandbox.exec("true")
    assert not rooms_of(fresh_home) & left
    sandbox.destroy()


def test_without_groups_single_processes_are_limited(fresh_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDCOVE_CGROUPS", "off")
    with Sandbox(limits={"memory": "256m", "open_files": 301, "processes": 64}) as sandbox:
        info = sandbox.info()
        assert info.isolation is not None
        assert info.isolation.limits == "rlimit"
        assert info.limited_by["memory"] == "rlimit, for each process"
        assert info.limited_by["cpus"] == "nothing"
        if info.isolation.host_user == "root":
            assert info.limited_by["processes"] == "nothing"
        else:
            assert info.limited_by["processes"] == "rlimit"
            assert int(sandbox.exec(["python3", "-c", FORKS]).stdout) < 64
        result = sandbox.exec(["python3", "-c", HOG])
        assert result.exit_code == 1
        assert "MemoryError" in result.stderr
        assert "MemoryError" in str(sandbox.run_code(HOG).error)
        assert sandbox.exec("ulimit -Hn").stdout == "301\n"
        assert sandbox.get_usage().memory is None


def test_the_operator_has_the_last_word(fresh_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDCOVE_LIMITS", "memory=128m")
    monkeypatch.setenv("SANDCOVE_MAX_LIMITS", "memory=256m,cpus=1")
    with Sandbox() as sandbox:
        limits = sandbox.info().limits
        assert (limits.memory, limits.cpus, limits.processes) == (128 * MIB, 1, 1024)
        with pytest.raises(InvalidRequestError, match="the most that this server gives"):
            sandbox.set_limits({"memory": "512m"})
    with pytest.raises(InvalidRequestError, match="the most that this server gives"), Sandbox(limits={"cpus": 2}):
        pass
