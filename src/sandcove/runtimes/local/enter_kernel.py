"""The way of a fork of the kernels' zygote into a room that stands, to be a Python kernel there.

It joins the namespaces of the first process for user code, the nested PID namespace among them, and gives up every
privilege, before anything of the sandbox's is looked at. Two more forks make it a child of that first process, which
reaps it and tells the agent how it ended.

It runs code of the user's in this very process. So nothing of the server may be reachable from it: no descriptor, no
variable of the environment, and its program is a sealed copy (see `zygote.Kind`).
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import ModuleType
from typing import NoReturn

import msgspec

from sandcove import linux, seccomp
from sandcove.wire.kernel import KERNEL_FDS, Start

__all__ = ["enter"]

_LONGEST_START = 16 * 1024 * 1024


def enter(kernel: ModuleType, *fds: int) -> NoReturn:
    """In the fork: joins a room and becomes a kernel there.

    It ends without a word when it can't, or when the room's packages are not those that were preloaded; the agent then
    starts one by itself.

    Args:
        kernel: has ``changed()`` and ``serve(channel, acks)``; see `sandcove.kernels.python.main`.
        fds: see `sandcove.wire.kernel`; then those of the control groups of the room's user code, see
            `sandcove.runtimes.local.cgroups`.
    """
    # What fails here is not the sandbox's business: that the process ends tells the agent.
    with contextlib.suppress(BaseException):
        channel, acks, stdout, stderr = fds[:4]
        namespaces, groups = fds[4:KERNEL_FDS], fds[KERNEL_FDS:]
        for group in groups:
            os.write(group, b"0")
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, fd in ((0, os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)), (1, stdout), (2, stderr)):
            os.dup2(fd, number)
        for namespace, kind in zip(namespaces, linux.NAMESPACES.values(), strict=True):
            linux.setns(namespace, kind)
        linux.become_room_root()
        _close_all_but(channel, acks)
        linux.leave_keyring()
        os.chdir("/")
        os.umask(0o022)
        # The first child is in the PID namespace; its own is that namespace's orphan.
        if os.fork() > 0 or os.fork() > 0:
            os._exit(0)
        os.setsid()
        # The namespace's first process has those of all user code.
        linux.take_limits(1)
        linux.drop_privileges()
        seccomp.install()
        start = _read_start(channel)
        os.chdir(start.cwd)
        os.environ.clear()
        os.environ.update(start.env)
        if kernel.changed() is None:
            linux.set_dumpable(True)
            _kill_first()
            kernel.serve(channel, acks)
    os._exit(1)


def _close_all_but(*kept: int) -> None:
    after = 3
    for fd in sorted(kept):
        os.closerange(after, fd)
        after = fd + 1
    os.closerange(after, linux.MOST_OPEN_FILES)


def _kill_first() -> None:
    """When memory runs out the kernel takes this process, not the first one of user code."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _read_start(channel: int) -> Start:
    """The first line, and not a byte of what follows it."""
    data = bytearray()
    while not data.endswith(b"\n"):
        piece = os.read(channel, 1 << 16)
        if not piece or len(data) > _LONGEST_START:
            os._exit(0)
        data += piece
    return msgspec.json.decode(data, type=Start)
