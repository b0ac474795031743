"""What user code may use, besides what its namespaces keep from it: entered by the first process for user code."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Sequence

from sandcove.wire.confine import NO_CONFINES, Confine, oom_kills

__all__ = ["Confines"]

NO_CORE = 1
"""Bytes: too few for a dump into a file, and the size at which Linux hands none to a program of the host's."""
SPARED_FILES = 4096
"""Descriptors that user code may have fewer than this process. As many can be on their way through sockets as who sends
may have, and those of all processes of the user count: what user code sends must not keep the agent, or a server of the
same user, from sending."""
MOST = {
    resource.RLIMIT_RTPRIO: 0,
    resource.RLIMIT_NICE: 0,
    resource.RLIMIT_MEMLOCK: 8 * 1024 * 1024,
    resource.RLIMIT_SIGPENDING: 8192,
}
"""What user code has at most of what the server's user may have: priority over all others, memory that is never
paged out, queued signals, which all sandboxes share where they have the server's user."""


class Confines:
    """The limits in force for what starts next.

    Args:
        confine: them.
        soft: the open files that programs begin with, if they may have so many.
        enter: descriptors; a process that writes "0" to each is in the control groups of user code from then on.
        oom: the open file in which the kernel counts processes that it killed for want of memory; -1: nobody does.
    """

    def __init__(
        self, confine: Confine = NO_CONFINES, *, soft: int = 1024, enter: Sequence[int] = (), oom: int = -1
    ) -> None:
        self.confine = confine
        self.soft = soft
        own, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most_files = max(own - SPARED_FILES, own // 2)
        self._enter = enter
        self._oom = oom

    def enter(self) -> None:
        """Makes them this process's, and those of all that it will start; it can't get out again."""
        for fd in self._enter:
            os.write(fd, b"0")
        self.apply(0)

    def apply(self, pid: int) -> None:
        """Sets the limits of a process, 0: this one. What is above the kernel's hard limit stays as it is."""
        confine = self.confine
        _limit(pid, resource.RLIMIT_CORE, NO_CORE)
        files = min(confine.open_files or self._most_files, self._most_files)
        _limit(pid, resource.RLIMIT_NOFILE, files, soft=self.soft)
        _limit(pid, resource.RLIMIT_DATA, confine.data)
        _limit(pid, resource.RLIMIT_NPROC, confine.processes)
        _limit(pid, resource.RLIMIT_FSIZE, confine.file_size)
        for kind, most in MOST.items():
            _, hard = resource.prlimit(pid, kind)
            if hard > most or hard == resource.RLIM_INFINITY:
                resource.prlimit(pid, kind, (most, most))

    def oom_kills(self) -> int:
        """How many processes of the sandbox the kernel has killed for want of memory."""
        return oom_kills(self._oom)

    def out_of_memory(self) -> str:
        """What befell one of them, in words."""
        memory = self.confine.memory
        limit = f"the sandbox's limit is {memory / 2**20:,.0f} MiB" if memory else "the machine has no more"
        return f"memory had run out: {limit}"


def _limit(pid: int, kind: int, wanted: int, soft: int | None = None) -> None:
    now_soft, now_hard = resource.prlimit(pid, kind)
    hard = wanted or now_hard
    if now_hard != resource.RLIM_INFINITY and (hard == resource.RLIM_INFINITY or hard > now_hard):
        # Only root of the whole machine may raise it.
        with contextlib.suppress(PermissionError, ValueError):
            resource.prlimit(pid, kind, (now_soft, hard))
            now_hard = hard
        hard = now_hard
    begin = hard if soft is None else soft
    if hard != resource.RLIM_INFINITY and (begin > hard or begin == resource.RLIM_INFINITY):
        begin = hard
    resource.prlimit(pid, kind, (begin, hard))
