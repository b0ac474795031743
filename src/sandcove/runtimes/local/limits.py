"""Which mechanism holds which limit of a room on this machine, decided purely; and what the agent is asked for."""

from __future__ import annotations

from collections.abc import Container

from sandcove.wire.confine import Confine
from sandcove.wire.limits import ResourceLimits

__all__ = ["AGENT_MEMORY", "NOTHING", "agent_memory", "confine_of", "fits", "mechanisms"]

NOTHING = "nothing"
"""The mechanism of a limit that this machine can't hold."""
LEAST_SHM = 8 * 1024 * 1024
AGENT_MEMORY = 2 * 1024 * 1024 * 1024
"""Bytes that a room's agent may have for itself: many times what the largest calls take side by side."""


def mechanisms(version: int, controllers: Container[str], *, root: bool, disk: str) -> dict[str, str]:
    """What holds each limit.

    Args:
        version: of the control groups; 0: there are none.
        controllers: those that rooms' groups have.
        root: the room's root is the host's, which the kernel's limit of a user's processes does not bind.
        disk: what holds the disk's.
    """
    group = f"cgroup v{version}"
    return {
        "memory": group if "memory" in controllers else "rlimit, for each process",
        "cpus": group if "cpu" in controllers else NOTHING,
        "processes": group if "pids" in controllers else NOTHING if root else "rlimit",
        "open_files": "rlimit",
        "disk": disk,
        "inodes": disk,
        "logs": "agent",
    }


def agent_memory(limits: ResourceLimits) -> int:
    """Bytes that the agent's group may have, with the files that it writes into memory for callers; 0: no limit."""
    return AGENT_MEMORY + 2 * _shm(limits.memory) if limits.memory else 0


def _shm(memory: int) -> int:
    """Bytes of each of two file systems in memory: together they can't take all that the room's programs need."""
    return max(LEAST_SHM, memory // 4)


def confine_of(limits: ResourceLimits, controllers: Container[str]) -> Confine:
    """What the agent sees to. What no control group holds is left to the limits of single processes."""
    memory, processes = limits.memory or 0, limits.processes or 0
    return Confine(
        open_files=limits.open_files or 0,
        data=0 if "memory" in controllers else memory,
        processes=0 if "pids" in controllers else processes,
        file_size=limits.disk or 0,
        logs=limits.logs or 0,
        memory=memory,
        shm=_shm(memory) if memory else 0,
        inodes=limits.inodes or 0,
        agent=0 if "memory" in controllers else AGENT_MEMORY,
    )


def fits(wanted: Confine, made: Confine) -> bool:
    """A room made for `made` can be changed to `wanted`: limits of processes can be lowered, not raised again."""
    pairs = [(getattr(wanted, name), getattr(made, name)) for name in ("open_files", "data", "processes", "file_size")]
    return all(had == 0 or 0 < want <= had for want, had in pairs)
