"""User code can't see or touch the agent, nor the first process of its own PID namespace, nor inherits from either."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import processes
from sandcove import Sandbox
from sandcove.agent.way_out import way_out
from tests.security.probes import NEEDS_ROOT, agent_pid, inside, outside

# Everything in /proc/PID that shows or reaches into a process, and calls that do the same.
ENTER = {
    "environ": "open(f'/proc/{args[0]}/environ').read()",
    "memory": "open(f'/proc/{args[0]}/mem', 'rb')",
    "memory to write": "os.open(f'/proc/{args[0]}/mem', os.O_RDWR)",
    "maps": "open(f'/proc/{args[0]}/maps').read()",
    "auxv": "open(f'/proc/{args[0]}/auxv', 'rb').read()",
    "descriptors": "[os.readlink(f'/proc/{args[0]}/fd/{number}') for number in os.listdir(f'/proc/{args[0]}/fd')]",
    "root": "os.readlink(f'/proc/{args[0]}/root')",
    "folder": "os.readlink(f'/proc/{args[0]}/cwd')",
    "program": "os.readlink(f'/proc/{args[0]}/exe')",
    "namespaces": "os.open(f'/proc/{args[0]}/ns/pid', os.O_RDONLY)",
    "trace": "call(libc.ptrace(ctypes.c_long(0x4206), ctypes.c_long(int(args[0])), None, None))",
    "take a descriptor": "call(libc.syscall(438, os.pidfd_open(int(args[0])), 0, 0))",
}
SIGNALS = """
for number in signal.valid_signals() - {signal.SIGCONT, signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH}:
    os.kill(int(args[0]), number)
"""
SEEN = """
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        status = open(f"/proc/{pid}/status").read()
        command = open(f"/proc/{pid}/cmdline").read()
    except OSError:
        continue
    if args[0] in command and "-c" not in command.split(chr(0)) and "CapEff:\\t0000000000000000" not in status:
        say(pid)
if not said:
    refuse("no such process with a capability is seen")
"""
LIST = """python3 -c '
import json, os
own = os.open("/proc/self/fd", os.O_RDONLY)
places = {n: f"/proc/self/fd/{n}" for n in os.listdir(own) if int(n) != own}
names = {n: os.readlink(place) for n, place in places.items() if os.path.lexists(place)}
print(json.dumps(names))'"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """An ordinary process, for controls."""
    with subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL) as process:
        yield process
        process.kill()


@NEEDS_ROOT
def test_the_agent_is_not_seen(cell: Sandbox) -> None:
    assert not inside(cell, SEEN, "sandcove").reached
    assert outside(SEEN, "sandcove").reached


def test_every_process_it_sees_is_its_own(cell: Sandbox, home: Path) -> None:
    """The agent's number in each PID namespace that it is in ends before the namespace that user code sees."""
    agent = agent_pid(home, cell)
    hidden = Path(f"/proc/{agent}/ns/pid").stat().st_ino
    assert inside(cell, "say(os.stat('/proc/self/ns/pid').st_ino)").said != [str(hidden)]
    pids = processes.of_sandbox(home, cell.id)
    first = [pid for pid in pids if _numbers(pid)[-1:] == [1] and len(_numbers(pid)) == len(_numbers(agent)) + 1]
    assert len(first) == 1
    assert hidden != Path(f"/proc/{first[0]}/ns/pid").stat().st_ino


def _numbers(pid: int) -> list[int]:
    """The process's number in every PID namespace that it is in, outermost first."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return [int(word) for word in line.split()[1:]]
    return []


@pytest.mark.parametrize("what", ENTER)
def test_the_first_process(cell: Sandbox, child: subprocess.Popen[bytes], what: str) -> None:
    answer = inside(cell, ENTER[what], 1)
    assert not answer.reached
    assert answer.why.startswith(("EACCES", "EPERM"))
    if os.geteuid() == 0:
        assert outside(ENTER[what], child.pid).reached
    else:
        # Unprivileged tracers may be refused by the machine's policy: the probe works on itself at least.
        assert what in ("trace", "take a descriptor") or outside(ENTER[what], "self").reached


def test_the_first_process_outlives_signals(cell: Sandbox, child: subprocess.Popen[bytes]) -> None:
    started = "open('/proc/1/stat').read().rpartition(')')[2].split()[19]"
    before = inside(cell, f"say({started})").said
    assert inside(cell, SIGNALS, 1).reached
    assert inside(cell, f"say({started})").said == before
    assert "State:\tT" not in cell.read_file("/proc/1/status")
    outside(SIGNALS, child.pid)
    assert child.wait(10) < 0


def _kinds(sandbox: Sandbox) -> dict[str, str]:
    """`LIST` by every way that runs a program among user code."""
    isolated = sandbox.create_session("isolated", isolation=True)
    plain = sandbox.create_session("plain", isolation=False)
    streamed = "".join(event.data or "" for event in sandbox.exec_stream(LIST, timeout=20) if event.type == "stdout")
    as_list = ["python3", *_words(LIST)]
    sandbox.exec("sleep 0 & wait")
    sandbox.exec(f"({LIST} > /tmp/background; echo > /tmp/done) & wait", timeout=20)
    return {
        "command": sandbox.exec(LIST, timeout=20).stdout,
        "command with its own environment": sandbox.exec(LIST, env={"A": "1"}, timeout=20).stdout,
        "command with standard input": sandbox.exec(LIST, stdin="x", timeout=20).stdout,
        "list": sandbox.exec(as_list, timeout=20).stdout,
        "stream": streamed,
        "background": sandbox.read_file("/tmp/background"),
        "isolated session": isolated.exec(LIST, timeout=20).stdout,
        "plain session": plain.exec(LIST, timeout=20).stdout,
    }


def _words(line: str) -> list[str]:
    return ["-c", line.partition("'")[2].rpartition("'")[0]]


def test_a_command_inherits_three_descriptors(home: Path) -> None:
    with Sandbox() as sandbox:
        for kind, answer in _kinds(sandbox).items():
            assert set(json.loads(answer)) == {"0", "1", "2"}, f"{kind} has {answer}"
    # The control: a descriptor that is passed on is listed.
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        argv = [sys.executable, *_words(LIST)]
        done = subprocess.run(argv, pass_fds=(fd,), capture_output=True, text=True, check=True)
    finally:
        os.close(fd)
    assert str(fd) in json.loads(done.stdout)


def test_tar_inherits_three_descriptors(home: Path, tmp_path: Path) -> None:
    with Sandbox() as sandbox:
        sandbox.exec("cp /bin/tar /bin/tar.real")
        script = f'#!/bin/sh\n{LIST} > /workspace/descriptors\nexec /bin/tar.real "$@"\n'
        sandbox.write_file("/tmp/tar", script, mode=0o755)
        sandbox.exec("mv /tmp/tar $(readlink -f /bin/tar)")
        (tmp_path / "up").mkdir()
        sandbox.upload(tmp_path / "up", "/workspace/up")
        assert set(json.loads(sandbox.read_file("/workspace/descriptors"))) == {"0", "1", "2"}
        sandbox.delete_file("/workspace/descriptors")
        sandbox.download("/workspace/up", tmp_path / "down")
        assert set(json.loads(sandbox.read_file("/workspace/descriptors"))) == {"0", "1", "2"}


def test_the_environment_is_a_new_one(cell: Sandbox) -> None:
    names = set(inside(cell, "[say(name) for name in os.environ]").said)
    known = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}
    assert names <= known | set(way_out()) | {"NODE_OPTIONS"}


# A cell's process has a channel whose other end the agent holds; SO_PEERPIDFD gives a descriptor of who made it.
PEERS = """
import ctypes, os, signal, socket
libc = ctypes.CDLL(None, use_errno=True)
reached = []
for number in map(int, os.listdir("/proc/self/fd")):
    try:
        with socket.socket(fileno=os.dup(number)) as channel:
            peer = int.from_bytes(channel.getsockopt(socket.SOL_SOCKET, 77, 4), "little")
            if os.getpid() == int.from_bytes(channel.getsockopt(socket.SOL_SOCKET, 17, 12)[:4], "little"):
                continue
    except OSError:
        continue
    for name, attack in {
        "signal": lambda: signal.pidfd_send_signal(peer, 0),
        "descriptor": lambda: 0 if libc.syscall(438, peer, 0, 0) >= 0 else os.fstat(-1),
        "namespaces": lambda: 0 if libc.setns(peer, 0x20000) >= 0 else os.fstat(-1),
    }.items():
        try:
            attack()
            reached.append(name)
        except OSError:
            reached.append("no " + name)
print(*reached)
"""


@NEEDS_ROOT
def test_the_channel_of_a_cell_is_no_way_to_the_agent(cell: Sandbox) -> None:
    said = "".join(cell.run_code(PEERS).logs.stdout).strip()
    if not said:
        pytest.skip("this kernel tells no descriptors of peers")
    assert said == "no signal no descriptor no namespaces"
    # The control: a child with a channel of its parent's making reaches that one.
    made, passed = socket.socketpair()
    with made, passed:
        argv = [sys.executable, "-c", PEERS]
        done = subprocess.run(argv, pass_fds=[passed.fileno()], capture_output=True, text=True, check=True)
    assert done.stdout.split()[:2] == ["signal", "descriptor"]


@NEEDS_ROOT
def test_the_agent_has_no_file_of_the_sandbox_mapped(home: Path) -> None:
    """What the agent executes is the host's, whatever it does: a library loaded late would be the sandbox's."""
    with Sandbox() as sandbox:
        sandbox.write_file("/workspace/big", b"x" * 600_000)
        sandbox.read_file("/workspace/big", encoding=None)
        sandbox.list_files("/workspace")
        sandbox.create_session("isolated", isolation=True).exec("true")
        with pytest.raises(Exception, match="does not exist"):
            sandbox.read_file("/nothing")
        sandbox.delete_file("/workspace/big")
        mapped = _mapped(agent_pid(home, sandbox))
        assert mapped, "the agent's maps can be read"
        foreign = {path for device, inode, path in mapped if not _is_the_hosts(device, inode, path)}
        assert not foreign
        # The control: a Python of user code has the sandbox's files mapped, and it shows.
        reading = "import time, json; print('ready', flush=True); time.sleep(60)"
        sandbox.start_process(["python3", "-c", reading]).wait_for_log("ready")
        users = [pid for pid in processes.of_sandbox(home, sandbox.id) if b"time.sleep" in _command(pid)]
        if all(_is_the_hosts(*entry) for pid in users for entry in _mapped(pid)):
            pytest.skip("this kernel tells a file within an overlay as the one below it")


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _mapped(pid: int) -> list[tuple[str, int, str]]:
    """The files that a process has mapped: device, inode and path."""
    lines = (line.split(maxsplit=5) for line in Path(f"/proc/{pid}/maps").read_text().splitlines())
    return [(words[3], int(words[4]), words[5]) for words in lines if len(words) == 6 and words[5].startswith("/")]


def _is_the_hosts(device: str, inode: int, path: str) -> bool:
    if path.startswith(("/dev/zero", "/memfd:", "/SYSV")):
        return True
    try:
        status = os.stat(path)
    except OSError:
        return False
    return (f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}", status.st_ino) == (device, inode)
