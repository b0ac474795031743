"""What is left of a server that was killed, made to stay: the next one ends it, or clears it away."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench import processes
from sandcove.runtimes.local.remains import sweep
from tests.crash.tracer import CAN_TRACE, Tracer
from tests.crash.world import World, below, wait_for


def has_ended(pid: int, within: float) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(within * 1e3))
    finally:
        os.close(handle)


def like_bubblewrap(stack: ExitStack, home: Path, server: int, *more: str) -> int:
    """A process that looks like bubblewrap at work for this server; `more`: arguments that it has besides."""
    words = [
        "bwrap",
        "-c",
        "import time; time.sleep(1000)",
        *more,
        "--",
        "holder",
        str(home / "sandboxes/x/root"),
        str(server),
    ]
    process = subprocess.Popen(words, executable=sys.executable)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process.pid


def test_a_zygote_that_ends_late_harms_no_room_of_the_next_server(world: World) -> None:
    zygote = world.ask("GET", "/v1/server")["zygotePid"]
    os.kill(zygote, signal.SIGSTOP)
    with ExitStack() as stack:
        world.kill()
        old, new = (like_bubblewrap(stack, world.home, pid) for pid in (world.pid, os.getpid()))
        os.kill(zygote, signal.SIGCONT)
        assert has_ended(old, 10) and has_ended(zygote, 10)
        assert not has_ended(new, 0)
        world.start()
        assert has_ended(new, 10)


def test_no_more_is_read_of_a_process_than_bubblewrap_says(tmp_path: Path) -> None:
    with ExitStack() as stack:
        short, long = (like_bubblewrap(stack, tmp_path, 1, *more) for more in ((), ("x" * 100_000,)))
        before = len(os.listdir("/proc/self/fd"))
        sweep(str(tmp_path), 2)
        assert not has_ended(short, 0)
        sweep(str(tmp_path), 1)
        assert has_ended(short, 10) and not has_ended(long, 0.5)
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(not CAN_TRACE, reason="tracer.py does not know the numbers of this machine's system calls")
def test_a_zygote_that_is_killed_while_it_gets_ready_leaves_nothing_for_good(world: World) -> None:
    world.kill()
    world.launch()
    wait_for(lambda: len(below(world.pid)) > 1)
    (zygote,) = below(world.pid) - {world.pid}
    tracer = Tracer(zygote, world.home, "openat trash/sandcove-")
    tracer.join()
    assert tracer.killed
    world.kill()
    assert list((world.home / "trash").iterdir())
    world.start()
    world.settle()
    world.check()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has control groups only where they are delegated")
def test_control_groups_of_a_dead_server_are_cleared_though_its_home_is_gone(world: World) -> None:
    with ExitStack() as stack:
        other = World(Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp")))
        stack.callback(shutil.rmtree, other.home, ignore_errors=True)
        stack.callback(other.kill)
        other.launch()
        assert other.wait_until_ready()
        other.create("box")
        other.settle()
        there = other.groups()
        if not there:
            pytest.skip("no control groups are to be had here")
        # A server that lives keeps its own, whoever starts.
        world.kill()
        world.start()
        assert other.groups() == there
        other.kill()
        assert processes.all_gone(other.home, within=10) == {}
        shutil.rmtree(other.home)
        world.kill()
        world.start()
        assert other.groups() == []
        world.settle()
        world.check()
