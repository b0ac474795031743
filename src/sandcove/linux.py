"""The kernel calls that Python 3.11 lacks, by ctypes, each a function that raises `OSError` when it fails.

Sources: the manual pages setns(2), unshare(2), mount(2), prctl(2), capabilities(7), capset(2), open_tree(2),
move_mount(2), mount_setattr(2).
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import re
import resource
import socket
import threading
from collections.abc import Iterable

__all__ = [
    "BACKLOG",
    "CLONE_NEWCGROUP",
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "MOST_OPEN_FILES",
    "MOST_PASSED",
    "NAMESPACES",
    "attach_mount",
    "become_room_root",
    "become_subreaper",
    "close_at_once",
    "detached_mount",
    "drop_privileges",
    "leave_keyring",
    "most_open_files",
    "mount",
    "open_files",
    "raise_open_files",
    "receive_fds",
    "resize_tmpfs",
    "restrict_devices",
    "restrict_proc",
    "sealed_memfd",
    "set_dumpable",
    "set_name",
    "setns",
    "take_limits",
    "unmount",
    "unshare",
]

BACKLOG = 2048
"""Connections to a listening socket of ours that can wait to be taken."""

MOST_PASSED = 253
"""Descriptors that a message can have (SCM_MAX_FD). The kernel itself closes those that there is no room for."""

_CLONE_FILES = 0x00000400
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
NAMESPACES = {
    "user": CLONE_NEWUSER,
    "mnt": CLONE_NEWNS,
    "pid": CLONE_NEWPID,
    "net": CLONE_NEWNET,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "cgroup": CLONE_NEWCGROUP,
}
"""By their names in ``/proc/self/ns``. Who joins the first may join the others."""

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REC = 0x4000
MS_PRIVATE = 0x40000

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE = 0x1
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOUNT_ATTR_RDONLY = 0x1
_MOUNT_ATTR_NOSUID = 0x2
_MOUNT_ATTR_NODEV = 0x4
_MOUNT_ATTR_IDMAP = 0x100000

_MS_RDONLY = 0x1
_MS_REMOUNT = 0x20
_MS_BIND = 0x1000
_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
_PROC_READ_ONLY = ("acpi", "bus", "fs", "irq", "mtrr", "scsi", "sys", "sysrq-trigger")
_PROC_HIDDEN = (
    "config.gz",
    "interrupts",
    "iomem",
    "kallsyms",
    "kcore",
    "keys",
    "key-users",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "sched_debug",
    "slabinfo",
    "timer_list",
    "vmallocinfo",
)
MOST_OPEN_FILES = 65536
"""That a process of ours has."""
MOST_TERMINALS = 256
"""Pseudo-terminals of a room."""
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_EINVAL = 22
_ENOSYS = 38
_KEYCTL_JOIN_SESSION_KEYRING = 1
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
]
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]


def _check(result: int, what: str) -> None:
    if result != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")


def setns(fd: int, namespaces: int) -> None:
    """Joins `namespaces` (an or of CLONE_NEW*) of the process that the pidfd `fd` stands for, or the one of this kind
    that `fd` stands for."""
    _check(_libc.setns(fd, namespaces), "setns")


def unshare(namespaces: int) -> None:
    """Leaves the given namespaces for new ones; a new PID namespace begins with the next child."""
    _check(_libc.unshare(namespaces), "unshare")


def mount(source: str, target: str, fstype: str | None, flags: int, data: str = "") -> None:
    """Mounts, or changes how a mount propagates."""
    kind = fstype.encode() if fstype else None
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), kind, flags, data.encode()), f"mount on {target}")


def detached_mount(path: str, user_namespace: int) -> int:
    """A descriptor of a read-only mount of a folder that is nowhere yet; its owners are seen through the mapping of a
    user namespace, given by descriptor: the root of this one is root of that.

    Where the folder's file system, or overlayfs on this kernel (before 5.19), can't have owners mapped, they stay as
    they are: strangers to that namespace.
    """
    fd: int = _libc.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | os.O_CLOEXEC)
    if fd < 0:
        _check(-1, f"open_tree({path})")
    read_only = _MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV
    attempts = [(read_only, 0)]
    if _release() >= (5, 19):
        attempts.insert(0, (read_only | _MOUNT_ATTR_IDMAP, user_namespace))
    for number, (attributes, namespace) in enumerate(attempts, 1):
        wanted = (ctypes.c_uint64 * 4)(attributes, 0, 0, namespace)
        if _libc.syscall(_MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH, wanted, ctypes.sizeof(wanted)) == 0:
            return fd
        if number == len(attempts) or ctypes.get_errno() != _EINVAL:
            os.close(fd)
            _check(-1, f"mount_setattr({path})")
    return fd


def _release() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])


def attach_mount(fd: int, target: str) -> None:
    """Puts what `detached_mount` gave to a place of this mount namespace."""
    _check(
        _libc.syscall(_MOVE_MOUNT, fd, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH),
        f"move_mount to {target}",
    )


def become_room_root() -> None:
    """Takes the ids of the root of the user namespace that was just joined, where the own ones have no number in it."""
    if os.geteuid() != 0:
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)


def unmount(target: str) -> None:
    """Takes a mount out of the tree at once; it ends when nothing uses it any more."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), f"unmount of {target}")


def pid_of(pidfd: int) -> int:
    """The id of the process that a pidfd stands for."""
    with open(f"/proc/self/fdinfo/{pidfd}") as facts:
        return next(int(line.split()[1]) for line in facts if line.startswith("Pid:"))


def receive_fds(sock: socket.socket, size: int, count: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """A message and up to `count` descriptors that came with it, closed on exec from the start.

    `socket.recv_fds` of Python 3.11 drops the flag that asks for this.
    """
    fds = array.array("i")
    space = socket.CMSG_SPACE(count * fds.itemsize)
    data, ancillary, _, _ = sock.recvmsg(size, space, flags | socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, list(fds)


def close_at_once(fds: Iterable[int]) -> None:
    """Closes descriptors that code which is not trusted has passed, or whose messages that nobody has read may have
    some, and waits for nothing.

    The last close of a TCP socket with SO_LINGER waits for as long as that says, unless who closes is ending: so for
    a moment a thread has a table of descriptors of its own, in which they stay open, and ends with it.
    """
    held, closed = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            unshare(_CLONE_FILES)
        finally:
            held.set()
        closed.wait()

    threading.Thread(target=hold, name="close", daemon=True).start()
    held.wait()
    try:
        for fd in fds:
            os.close(fd)
    finally:
        closed.set()


def sealed_memfd(name: str, data: bytes) -> int:
    """A descriptor of a file in memory that holds `data`, and that nobody can ever change; closed on exec.

    Everybody may read and execute it.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    os.fchmod(fd, 0o555)
    return fd


def raise_open_files() -> int:
    """Lets this process have as many descriptors as it may, up to 65,536; returns how many it might have before.

    The common limit of 1,024 is there for programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most_open_files()
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return soft


def most_open_files() -> int:
    """Descriptors that this process may have when it has raised their number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)


def open_files() -> int:
    """Descriptors that this process has."""
    # Since Linux 6.2 the folder's size is their number; before, it is 0.
    return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))


def take_limits(pid: int) -> None:
    """Makes the resource limits of another process this one's."""
    for name in ("CORE", "NOFILE", "DATA", "NPROC", "FSIZE", "RTPRIO", "NICE", "MEMLOCK", "SIGPENDING"):
        kind = getattr(resource, f"RLIMIT_{name}")
        resource.setrlimit(kind, resource.prlimit(pid, kind))


def resize_tmpfs(target: str, size: str, inodes: int) -> None:
    """Limits the file system in memory at `target`: `size` is bytes, or a share of the machine's memory as ``50%``."""
    mount("none", target, None, _MS_REMOUNT | MS_NOSUID | MS_NODEV, f"size={size},nr_inodes={inodes}")


def leave_keyring() -> None:
    """Leaves the session keyring, which holds keys of whoever started the server and would be shared by all rooms."""
    number = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
    if _libc.syscall(number, _KEYCTL_JOIN_SESSION_KEYRING, None) < 0 and ctypes.get_errno() != _ENOSYS:
        _check(-1, "keyctl(KEYCTL_JOIN_SESSION_KEYRING)")


def restrict_proc(proc: str = "/proc") -> None:
    """Makes read-only or hides what of a /proc speaks of the whole kernel.

    The kernel lets uid 0 write system-wide settings by file mode alone, whatever its capabilities; the room's uid 0 is
    that user where the server runs as root.
    """
    for name in _PROC_READ_ONLY:
        path = f"{proc}/{name}"
        if os.path.lexists(path):
            mount(path, path, None, _MS_BIND)
            _remount_read_only(path, MS_NODEV)
    for name in _PROC_HIDDEN:
        path = f"{proc}/{name}"
        if os.path.isdir(path):
            mount("tmpfs", path, "tmpfs", _MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=0,nr_inodes=1")
        elif os.path.lexists(path):
            mount("/dev/null", path, None, _MS_BIND)
            _remount_read_only(path)


def restrict_devices() -> None:
    """Makes the mounts of the devices in /dev read-only: they work, but their mode and times can't be changed.

    They are the host's own, and the room's uid 0 owns them where the server runs as root. Of terminals, of which the
    machine has some thousand for all, there are `MOST_TERMINALS`.
    """
    for name in _DEVICES:
        _remount_read_only(f"/dev/{name}")
    options = f"mode=620,ptmxmode=666,max={MOST_TERMINALS}"
    mount("none", "/dev/pts", None, _MS_REMOUNT | MS_NOSUID | MS_NOEXEC, options)


def _remount_read_only(path: str, flags: int = 0) -> None:
    mount("none", path, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | MS_NOSUID | MS_NOEXEC | flags)


def _prctl(option: int, first: int = 0, second: int = 0) -> None:
    _check(_libc.prctl(option, first, second, 0, 0), f"prctl({option})")


def set_dumpable(dumpable: bool) -> None:
    """Whether others of the same user may trace this process or read its /proc entry."""
    _prctl(_PR_SET_DUMPABLE, int(dumpable))


def set_name(name: str) -> None:
    """Names this process, and those that it will fork, in lists of processes: at most 15 bytes."""
    text = ctypes.create_string_buffer(name.encode(), 16)
    _prctl(_PR_SET_NAME, ctypes.addressof(text))


def become_subreaper() -> None:
    """Orphans among this process's descendants become its children, not init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def drop_privileges() -> None:
    """Gives up every capability for good, also across exec of set-uid files, and for all descendants."""
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            if ctypes.get_errno() == _EINVAL and capability > 0:
                break
            _check(-1, f"prctl(PR_CAPBSET_DROP, {capability})")
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
