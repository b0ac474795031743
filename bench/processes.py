"""Which processes belong to a Sandcove folder or to one sandbox in it, and how much memory they have.

A process inside a room has mounts from its sandbox's folder: /proc/PID/mountinfo names them
(proc_pid_mountinfo(5)). The bwrap processes that hold the room from outside are its ancestors.

An ordinary user may not look into agents, not even into those of his own sandboxes: they are not dumpable. So memory is
measured by root alone, and what a folder's server has started is found by parentage too.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

__all__ = [
    "agents",
    "all_gone",
    "available_memory",
    "mounts_below",
    "of_home",
    "of_sandbox",
    "peak_memory",
    "proportional_memory",
]


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _read(pid: int, name: str) -> bytes:
    """A file of /proc/PID; empty when the process has ended or is not ours to look at."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _program(pid: int) -> str:
    """The name of the program that the process runs; empty when it can't be told."""
    try:
        # Zygotes, and bubblewrap where the server is root, run from memory.
        return Path(os.readlink(f"/proc/{pid}/exe")).name.removeprefix("memfd:").removesuffix(" (deleted)")
    except OSError:
        return ""


def _state_and_parent(pid: int) -> tuple[bytes, int]:
    """A letter as in proc_pid_stat(5), ``Z`` too for one that is gone; and the parent, 0 for none."""
    # The command's name, in parentheses, may itself hold blanks and parentheses.
    after_name = _read(pid, "stat").rpartition(b")")[2].split()
    return (after_name[0], int(after_name[1])) if after_name else (b"Z", 0)


def _parent(pid: int) -> int:
    return _state_and_parent(pid)[1]


def of_sandbox(home: Path, sandbox_id: str) -> set[int]:
    """The process ids (as the host sees them) of all that lives for this sandbox: bwrap, agent, shells, commands."""
    needle = os.fsencode(home / "sandboxes" / sandbox_id) + b"/"
    inside = {pid for pid in _pids() if needle in _read(pid, "mountinfo")}
    outside = set()
    for pid in inside:
        parent = _parent(pid)
        while parent > 1 and parent not in inside and _program(parent) == "bwrap":
            outside.add(parent)
            parent = _parent(parent)
    return inside | outside


def agents(pids: Iterable[int]) -> list[int]:
    """Those of `pids` that run Python: of an idle sandbox, its agent and that one's helpers."""
    return [pid for pid in pids if _program(pid).startswith("python")]


def of_home(home: Path) -> dict[int, str]:
    """Every process that has to do with this Sandcove folder, by id, with its command line; not the caller."""
    needle = os.fsencode(home)
    everyone = [pid for pid in _pids() if pid != os.getpid()]
    parents = {pid: _parent(pid) for pid in everyone}
    # The zygote has neither argument nor environment of the folder, but the server's log as its standard error.
    found = {
        pid
        for pid in everyone
        if any(
            needle in mark
            for mark in (_read(pid, "cmdline"), _read(pid, "environ"), _read(pid, "mountinfo"), *_open_files(pid))
        )
    }
    while more := {pid for pid in everyone if parents[pid] in found} - found:
        found |= more
    return {pid: _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip() for pid in found}


def _open_files(pid: int) -> Iterator[bytes]:
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            yield os.fsencode(os.readlink(f"/proc/{pid}/fd/{number}"))
    except OSError:
        return  # it has ended, or is not ours to look at


def mounts_below(home: Path) -> list[str]:
    """The mount points below this folder that the caller's mount namespace has."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [point for point in (line.split()[4] for line in lines) if point.startswith(f"{home}/")]


def all_gone(
    home: Path, within: float, also: Mapping[int, str] | None = None, only: set[int] | None = None
) -> dict[int, str]:
    """Waits up to `within` seconds for the folder's processes to end, and returns those that did not.

    Args:
        also: others to wait for: what `of_home` said before the server was stopped.
        only: of all these, just those.
    """
    deadline = time.monotonic() + within

    def there() -> dict[int, str]:
        # A server that this process started is a zombie when it has ended: nobody waits for it.
        known = dict(also or {}) | of_home(home)
        if only is not None:
            known = {pid: command for pid, command in known.items() if pid in only}
        return {pid: command for pid, command in known.items() if _state_and_parent(pid)[0] not in (b"Z", b"X")}

    while left := there():
        pid = next(iter(left))
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not poll.poll(remaining * 1e3):
                return there()
        finally:
            os.close(handle)
    return {}


def proportional_memory(pids: Iterable[int]) -> float:
    """Their proportional set size in MB (10^6 bytes): private pages whole, shared ones divided by who shares them.

    Raises:
        PermissionError: the caller is not root, and so would see a part of it only.
    """
    if os.geteuid() != 0:
        raise PermissionError("the memory of agents can be measured by root alone: they are not dumpable")
    kilobytes = 0
    for pid in pids:
        for line in _read(pid, "smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                kilobytes += int(line.split()[1])
    return kilobytes * 1024 / 1e6


def available_memory() -> float:
    """The machine's memory that programs could still have, in MB (10^6 bytes): MemAvailable of proc_meminfo(5)."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024 / 1e6


def _resident(pid: int, field: bytes) -> float:
    for line in _read(pid, "status").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


class peak_memory:  # noqa: N801 - a context manager that reads like a function
    """Measures by how much the processes' resident memory rises above where it was: `with peak_memory(pids) as peak:`.

    Afterwards ``peak.over_idle`` is the greatest rise among them, in MB (10^6 bytes).
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._before = dict.fromkeys(pids, 0.0)
        self.over_idle = 0.0

    def __enter__(self) -> Self:
        for pid in self._before:
            # 5 resets the kernel's note of the peak (proc_pid_clear_refs(5)).
            Path(f"/proc/{pid}/clear_refs").write_text("5")
            self._before[pid] = _resident(pid, b"VmRSS:")
        return self

    def __exit__(self, *_: object) -> None:
        self.over_idle = max((_resident(pid, b"VmHWM:") - before for pid, before in self._before.items()), default=0.0)
