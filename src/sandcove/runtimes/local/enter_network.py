"""Becomes a program as the root of a room, who has the host's network and files: `pasta`, which needs both.

It puts up the fence in the room's network first. It stands alone, so that it starts fast. Its arguments: descriptors of
the room's user and network namespaces, and of a file with the fence's messages; the process id of the server; and the
program with its own arguments, without which there is the fence alone. When the server ends, so does the program.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import stat
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWNS = 0x20000
CLONE_NEWNET = 0x4000_0000
NETLINK_NETFILTER = 12
NLMSG_ERROR = 2
"""With the error 0 it is the acknowledgement."""
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


def put_up(network: int, messages: int) -> None:
    """The fence, by a child: there is no way back from the room's network to the host's."""
    child = os.fork()
    if child == 0:
        check(libc.setns(network, CLONE_NEWNET), "its network namespace")
        try:
            tell(os.pread(messages, os.fstat(messages).st_size, 0))
        except OSError as error:
            sys.exit(f"the kernel's packet filter (nf_tables) can't be set, without which there is no network: {error}")
        sys.exit(0)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit(1)


def tell(messages: bytes) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
        kernel.bind((0, 0))
        # A message takes no more than the buffer; the kernel gives twice what everybody may have.
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)
        if kernel.send(messages) != len(messages):
            raise OSError("it takes no more")
        # The kernel has answered before `send` is over: errors, and at last the acknowledgement.
        answer = kernel.recv(1 << 20, socket.MSG_DONTWAIT)
    code = int.from_bytes(answer[16:20], sys.byteorder, signed=True)
    if int.from_bytes(answer[4:6], sys.byteorder) != NLMSG_ERROR or code != 0:
        raise OSError(-code, os.strerror(-code))


def main(user_namespace: int, network: int, messages: int, server: int, command: list[str]) -> None:
    let_all_use_tun()
    check(libc.setns(user_namespace, 0), "its user namespace")
    if os.geteuid() != 0:
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    put_up(network, messages)
    if not command:
        os.write(1, b"ready")
        return
    for fd in (user_namespace, network, messages):
        os.close(fd)
    # Python ignores it, and pasta takes that for a failure.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # After the change of user, which takes it back.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == server:
        os.execv(command[0], command)


if __name__ == "__main__":
    first, second, third, fourth = map(int, sys.argv[1:5])
    main(first, second, third, fourth, sys.argv[5:])
