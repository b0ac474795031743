"""The filter of system calls: each refused call is tried inside, and outside, where the kernel answers."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sandcove import Sandbox, seccomp
from tests.security.probes import NEEDS_ROOT, inside, outside

# Every argument is -1, so that none does anything where it is allowed; this one has no arguments.
WITHOUT = {"vhangup"}
TRY_ALL = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
answers = {}
for name, number in json.loads(sys.argv[1]).items():
    result = libc.syscall(number, *[ctypes.c_long(-1)] * 6)
    answers[name] = ctypes.get_errno() if result < 0 else 0
print(json.dumps(answers))
"""
SOCKETS = {
    "of the hypervisor": "socket.socket(40, socket.SOCK_STREAM)",
    "of the kernel's ciphers": "socket.socket(38, socket.SOCK_SEQPACKET)",
    "of the firewall": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)",
}
HALF = """
# Calls of a 32-bit program: int 0x80 from 64-bit code, getpid's number there.
import mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex("b814000000cd80c3"))
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
"""


@pytest.fixture(scope="module")
def numbers() -> dict[str, int]:
    place = seccomp.MACHINES.index(platform.machine())
    listed = {name: numbers[place] for calls, _ in seccomp.DENIED.values() for name, numbers in calls.items()}
    return {name: number for name, number in listed.items() if number is not None and name not in WITHOUT}


@pytest.fixture(params=["command", "isolated session", "cell", "cell of a new Python"])
def answers(request: pytest.FixtureRequest, cell: Sandbox, numbers: dict[str, int]) -> Iterator[dict[str, int]]:
    """What each call gets, in each kind of process that runs user code."""
    words = json.dumps(numbers)
    if "cell" not in request.param:
        place = cell if request.param == "command" else cell.create_session("calls", isolation=True)
        yield json.loads(place.exec(["python3", "-c", TRY_ALL, words]).stdout)
        return
    env = {"PYTHONHASHSEED": "1"} if "new" in request.param else {}
    context = cell.create_code_context(env_vars=env)
    done = cell.run_code(f"import sys; sys.argv[1:] = [{words!r}]\n{TRY_ALL}", context=context)
    cell.delete_code_context(context)
    yield json.loads("".join(done.logs.stdout))


@NEEDS_ROOT
def test_each_denied_call_is_refused(answers: dict[str, int], numbers: dict[str, int]) -> None:
    wanted = {name: error for calls, error in seccomp.DENIED.values() for name in calls if name in numbers}
    assert answers == wanted
    # The control: where nothing filters, the kernel looks at the arguments.
    words = json.dumps(numbers)
    free = json.loads(subprocess.check_output([sys.executable, "-c", TRY_ALL, words]))
    told_apart = {name for name in wanted if free[name] != wanted[name]}
    assert len(told_apart) >= 30
    assert {"bpf", "keyctl", "mount", "perf_event_open", "setns", "open_tree", "userfaultfd"} <= told_apart


@pytest.mark.parametrize("which", SOCKETS)
def test_a_socket(cell: Sandbox, which: str) -> None:
    answer = inside(cell, SOCKETS[which])
    assert not answer.reached
    assert answer.why.startswith(("EAFNOSUPPORT", "EPROTONOSUPPORT"))
    if not outside(SOCKETS[which]).reached:
        pytest.skip("this kernel does not have it at all")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="this machine has no second convention")
def test_a_call_of_a_32_bit_program_ends_the_process(cell: Sandbox) -> None:
    assert cell.exec(["python3", "-c", f"import ctypes\n{HALF}"]).exit_code == 128 + 31
    assert cell.exec(["python3", "-c", "print(1)"]).stdout == "1\n"
    free = subprocess.run([sys.executable, "-c", f"import ctypes\n{HALF}"], check=False)
    assert free.returncode in {0, -11}, "without a filter it returns, or the kernel lacks such calls"


def test_no_core_is_handed_to_the_host(cell: Sandbox) -> None:
    """Unless the limit is 1 the kernel starts the host's program for cores, as the host's root."""
    change = "import resource as r; r.setrlimit(r.RLIMIT_CORE, (0, 0)); print(r.getrlimit(r.RLIMIT_CORE))"
    assert cell.exec(["python3", "-c", change]).stdout == "(1, 1)\n"
    assert cell.exec("ulimit -c 0 && ulimit -n 100 && ulimit -n").stdout == "100\n", (
        "a script goes on, other limits are its"
    )
    assert subprocess.check_output([sys.executable, "-c", change], text=True) == "(0, 0)\n"


def test_programs_that_try_refused_calls_go_on(cell: Sandbox) -> None:
    """Threads: C libraries ask for clone3 first."""
    assert (
        cell.exec("python3 -c 'import threading as t; x = t.Thread(target=print, args=(7,)); x.start()'").stdout
        == "7\n"
    )
