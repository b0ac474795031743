"""The filter of system calls for user code, as a BPF program: see seccomp(2), and `DENIED` for what it refuses and why.

What it refuses fails with an error number, as on a kernel that lacks the call or for want of a privilege, so that
programs go on with what they do then. Only a call by another machine's convention (32 bits) ends the process, by
SIGSYS: its numbers mean other calls.

Calls whose arguments don't matter cost nothing: the kernel works out once which are always allowed (Linux 5.11 and
later). Those with arguments come first in the program.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Iterable

__all__ = ["DENIED", "LAST", "MACHINES", "install", "program"]

MACHINES = ("x86_64", "aarch64")

# What is refused outright: (number on x86-64, number on arm64; None where it has none).
_Calls = dict[str, tuple[int, int | None]]
_MOUNTS: _Calls = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
}
_NAMESPACES: _Calls = {"setns": (308, 268)}
_KEYS: _Calls = {"add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219)}
_WIDE: _Calls = {
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "fanotify_init": (300, 262),
    "kcmp": (312, 272),
    "lookup_dcookie": (212, 18),
    "modify_ldt": (154, None),
}
_HANDLES: _Calls = {"open_by_handle_at": (304, 265)}
_MACHINE: _Calls = {
    "acct": (163, 89),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "settimeofday": (164, 170),
    "syslog": (103, 116),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "create_module": (174, None),
    "query_module": (178, None),
    "get_kernel_syms": (177, None),
    "ioperm": (173, None),
    "iopl": (172, None),
    "vhangup": (153, 58),
}
_PLACES: _Calls = {
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
}
_OLD: _Calls = {
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "nfsservctl": (180, 42),
}
_QUEUES: _Calls = {"io_setup": (206, 0)}
_RINGS: _Calls = {"io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427)}

DENIED: dict[str, tuple[_Calls, int]] = {
    "mounts are the room's walls": (_MOUNTS, errno.EPERM),
    "no namespace but its own": (_NAMESPACES, errno.EPERM),
    "keys belong to users of the host": (_KEYS, errno.EPERM),
    "a wide surface of the kernel that a sandbox's programs do without": (_WIDE, errno.EPERM),
    "files by handle pass every mount": (_HANDLES, errno.EPERM),
    "the machine's clock, log, modules, accounting, swap": (_MACHINE, errno.EPERM),
    "where memory lies is the machine's business": (_PLACES, errno.EPERM),
    "old calls that no program needs": (_OLD, errno.ENOSYS),
    "asynchronous I/O: the machine has a number of requests for all; programs fall back": (_QUEUES, errno.ENOSYS),
    "io_uring: calls that pass this filter; programs fall back": (_RINGS, errno.ENOSYS),
}
"""Why -> the calls, and the error they get."""

LAST = 469
"""The newest call that was looked at (Linux 6.17). Newer ones fail with `ENOSYS`, as on an older kernel."""

_NEW_NAMESPACES = 0x7E020000
"""An or of every CLONE_NEW* but that of time, whose bit is an exit signal's in clone(2)."""
_NEW_TIME = 0x80
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
_PROTOCOLS = (0, socket.IPPROTO_ICMP, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMPV6)
_NETLINK = (0, 4, 15)
"""Routes, sockets' states, news of devices: what getifaddrs, ss and udev ask."""
_TERMINAL = (0x5412, 0x541C, 0x5423)
"""TIOCSTI and TIOCLINUX type into a terminal that others may read; TIOCSETD has the kernel load drivers for lines."""
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0x40000, 0xFFFFFFFF)
"""Plain, 32 bits, UNAME26, both, no random addresses (debuggers), and the question which it is."""

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_RLIMIT_CORE = 4
"""It is 1, by which the kernel hands no core to a program of the host's; to set it seems to succeed."""

_CALLS = {
    "prlimit64": (302, 261),
    "setrlimit": (160, 164),
    "ioctl": (16, 29),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "clone": (56, 220),
    "unshare": (272, 97),
    "personality": (135, 92),
    "clone3": (435, 435),
}
_OF_AGENTS = {"clone", "unshare", "prlimit64", "setrlimit"}

# Instructions of classic BPF: linux/filter.h, linux/bpf_common.h.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _JUMP, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x05, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_SECCOMP_SET_MODE_FILTER = 1


def _step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("<HBBI", code, then, otherwise, value)


def _fail(error: int) -> bytes:
    return _step(_RETURN, _ERROR | error)


def _argument(number: int) -> bytes:
    """Its lower half: what is looked at here are ints, and flags below 2**32, of which the kernel sees no more."""
    return _step(_LOAD, _ARGUMENTS + 8 * number)


def _among(values: Iterable[int], error: int) -> bytes:
    """Allows the call when what is loaded is one of these; else it fails."""
    wanted = list(values)
    tests = [_step(_EQUAL, value, then=len(wanted) - place) for place, value in enumerate(wanted)]
    return b"".join(tests) + _fail(error) + _step(_RETURN, _ALLOW)


def _with_bits(bits: int, error: int) -> bytes:
    """Fails when one of these bits is set, else allows."""
    return _step(_ANY_BIT, bits, otherwise=1) + _fail(error) + _step(_RETURN, _ALLOW)


def _sockets() -> bytes:
    """By family, then by protocol: other protocols would have the kernel load modules for them."""
    by_protocol = _argument(2) + _among(_PROTOCOLS, errno.EPROTONOSUPPORT)
    netlink = _argument(2) + _among(_NETLINK, errno.EPROTONOSUPPORT)
    # Past the tests that are left, that for netlink, and the failure.
    tests = b"".join(_step(_EQUAL, family, then=len(_FAMILIES) - place + 1) for place, family in enumerate(_FAMILIES))
    return (
        _argument(0)
        + tests
        + _step(_EQUAL, socket.AF_NETLINK, then=1 + len(by_protocol) // 8)
        + _fail(errno.EAFNOSUPPORT)
        + by_protocol
        + netlink
    )


def _core() -> bytes:
    """Of prlimit64: no other value for the limit of cores; to ask for it is allowed, if by nothing else but asking."""
    return (
        _argument(1)
        + _step(_EQUAL, _RLIMIT_CORE, otherwise=4)
        + _argument(2)
        # A pointer to the new value: both halves are looked at.
        + _step(_EQUAL, 0, otherwise=3)
        + _step(_LOAD, _ARGUMENTS + 8 * 2 + 4)
        + _step(_EQUAL, 0, otherwise=1)
        + _step(_RETURN, _ALLOW)
        + _fail(0)
    )


def _checks() -> dict[str, bytes]:
    terminal = b"".join(_step(_EQUAL, request, then=len(_TERMINAL) - place) for place, request in enumerate(_TERMINAL))
    return {
        "prlimit64": _core(),
        "setrlimit": _argument(0) + _step(_EQUAL, _RLIMIT_CORE, otherwise=1) + _fail(0) + _step(_RETURN, _ALLOW),
        "ioctl": _argument(1) + terminal + _step(_RETURN, _ALLOW) + _fail(errno.EPERM),
        "socket": _sockets(),
        "socketpair": _sockets(),
        "clone": _argument(0) + _with_bits(_NEW_NAMESPACES, errno.EPERM),
        "unshare": _argument(0) + _with_bits(_NEW_NAMESPACES | _NEW_TIME, errno.EPERM),
        "personality": _argument(0) + _among(_PERSONALITIES, errno.EPERM),
        # Its flags lie in memory, which a filter can't read. C libraries fall back to clone.
        "clone3": _fail(errno.ENOSYS),
    }


def program(machine: str, *, agent: bool = False) -> bytes:
    """The filter for a machine as `platform.machine` names it, as an array of ``struct sock_filter``.

    That for an agent lets mounts and namespaces be made, of which it makes walls.
    """
    place = MACHINES.index(machine)
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, _ARCHITECTURES[machine], then=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        # x32's numbers are above this too.
        _step(_AT_LEAST, LAST + 1, otherwise=1),
        _fail(errno.ENOSYS),
    ]
    for name, check in _checks().items():
        if agent and name in _OF_AGENTS:
            continue
        steps += [_step(_EQUAL, _CALLS[name][place], otherwise=len(check) // 8), check]
    by_error: dict[int, list[int]] = {}
    for calls, error in DENIED.values():
        if agent and calls in (_MOUNTS, _NAMESPACES):
            continue
        by_error.setdefault(error, []).extend(
            number for numbers in calls.values() if (number := numbers[place]) is not None
        )
    for error, numbers in by_error.items():
        steps += [_step(_EQUAL, number, then=len(numbers) - at) for at, number in enumerate(numbers)]
        steps += [_step(_JUMP, 1), _fail(error)]
    steps.append(_step(_RETURN, _ALLOW))
    return b"".join(steps)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


_steps = {
    agent: program(platform.machine(), agent=agent) if platform.machine() in MACHINES else b""
    for agent in (False, True)
}
_libc = ctypes.CDLL(None, use_errno=True)


def install(*, agent: bool = False) -> None:
    """Filters the calls of this thread and of all that it will start, for good.

    Needs ``no_new_privs``, or CAP_SYS_ADMIN.

    Raises:
        OSError: the kernel has no filters, or there is none for this machine.
    """
    steps = _steps[agent]
    if not steps:
        raise OSError(errno.ENOSYS, f"there is no filter of system calls for {platform.machine()}")
    filter_ = _Program(len(steps) // 8, steps)
    number = {"x86_64": 317, "aarch64": 277}[platform.machine()]
    if _libc.syscall(number, _SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(filter_)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp: {os.strerror(error)}")
