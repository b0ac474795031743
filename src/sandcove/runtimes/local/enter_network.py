"""Becomes a program as the root of a room, who has the host's network and files: `pasta`, which needs both.

It stands alone, so that it starts fast. Its arguments: a descriptor of the room's user namespace, the process id of the
server, and the program with its own arguments. When the server ends, so does the program.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWNS = 0x20000
MS_PRIVATE = 0x4_4000
"""With MS_REC."""
TUN = "/dev/net/tun"

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result != 0:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")


def let_all_use_tun() -> None:
    """Where the device is root's alone, which is not usual, the program sees another one in its place."""
    if os.geteuid() == 0 and os.path.exists(TUN) and os.stat(TUN).st_mode & 0o006 != 0o006:
        check(libc.unshare(CLONE_NEWNS), "a mount namespace")
        check(libc.mount(None, b"/", None, MS_PRIVATE, None), "private mounts")
        check(libc.mount(b"tmpfs", os.path.dirname(TUN).encode(), b"tmpfs", 0, b"mode=755"), "a place for tun")
        os.umask(0)
        os.mknod(TUN, stat.S_IFCHR | 0o666, os.makedev(10, 200))


def main(user_namespace: int, server: int, command: list[str]) -> None:
    let_all_use_tun()
    check(libc.setns(user_namespace, 0), "its user namespace")
    if os.geteuid() != 0:
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    # Python ignores it, and pasta takes that for a failure.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # After the change of user, which takes it back.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == server:
        os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
