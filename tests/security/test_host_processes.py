"""A sandbox can neither see, signal nor trace a process of the host."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from sandcove import Sandbox
from tests.security.probes import NEEDS_ROOT, check_apart, inside, outside

FIND = """
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        command = open(f"/proc/{pid}/cmdline").read()
    except OSError:
        continue
    if args[0] in command and int(pid) not in (os.getpid(), os.getppid()):
        say(pid)
if not said:
    refuse("not seen")
"""
SIGNAL = "os.kill(int(args[0]), 0)"
PIDFD = "os.pidfd_open(int(args[0]))"
# PTRACE_SEIZE (0x4206) does not stop it.
TRACE = "call(libc.ptrace(ctypes.c_long(0x4206), ctypes.c_long(int(args[0])), None, None))"
READ = """
here = ctypes.create_string_buffer(8)
class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
local, remote = Part(ctypes.addressof(here), 8), Part(int(args[1]), 8)
call(libc.process_vm_readv(int(args[0]), ctypes.byref(local), 1, ctypes.byref(remote), 1, 0))
say(here.raw)
"""


class Victim:
    """A process of the host, with a word in its memory."""

    def __init__(self) -> None:
        source = "import ctypes, sys; word = ctypes.create_string_buffer(b'secret!!'); print(ctypes.addressof(word), "
        source += "flush=True); sys.stdin.read()"
        argv = [sys.executable, "-c", source, "victim-of-a-probe"]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = int(self.process.stdout.readline())
        self.pid = self.process.pid

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    made = Victim()
    yield made
    made.end()


def test_it_is_not_seen(cell: Sandbox, victim: Victim) -> None:
    # The marker is an argument of the probe's own process too: in two parts it is not found there.
    find = FIND.replace("args[0]", "args[0] + args[1]")
    assert not inside(cell, find, "victim-of", "-a-probe").reached
    assert outside(find, "victim-of", "-a-probe").said == [str(victim.pid)]


@pytest.mark.parametrize("probe", [SIGNAL, PIDFD])
def test_it_gets_no_signal(cell: Sandbox, victim: Victim, probe: str) -> None:
    assert not inside(cell, probe, victim.pid).reached
    assert outside(probe, victim.pid).reached


@NEEDS_ROOT
@pytest.mark.parametrize("probe", [TRACE, READ])
def test_its_memory(cell: Sandbox, victim: Victim, probe: str) -> None:
    assert not inside(cell, probe, victim.pid, victim.address).reached
    assert outside(probe, victim.pid, victim.address).reached


def test_a_signal_to_all_reaches_the_sandbox_only(home: object, victim: Victim) -> None:
    with Sandbox() as sandbox:
        check_apart(sandbox)
        assert inside(sandbox, "os.setsid() if os.getpgrp() != os.getpid() else 0; os.kill(-1, 0)").reached
        sandbox.exec("kill -KILL -1", timeout=10)
        assert victim.process.poll() is None
        assert sandbox.exec("echo alive").stdout == "alive\n"
