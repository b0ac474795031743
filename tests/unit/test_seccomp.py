"""The filter of system calls, run here step by step for each machine; `tests/security` tries it on the kernel."""

from __future__ import annotations

import errno
import re
import socket
import struct
from pathlib import Path

import pytest

from sandcove import seccomp

ALLOW, KILL = "allow", "kill"
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NUMBERS = {
    "x86_64": {
        "prlimit64": 302,
        "setrlimit": 160,
        "read": 0,
        "ioctl": 16,
        "socket": 41,
        "clone": 56,
        "personality": 135,
        "unshare": 272,
        "clone3": 435,
    },
    "aarch64": {
        "prlimit64": 261,
        "setrlimit": 164,
        "read": 63,
        "ioctl": 29,
        "socket": 198,
        "clone": 220,
        "personality": 92,
        "unshare": 97,
        "clone3": 435,
    },
}
THREAD = 0x3D0F00
"""The flags of pthread_create."""
ARGUMENTS = {
    ("read", (0, 0, 0)): ALLOW,
    ("clone", (THREAD,)): ALLOW,
    ("clone", (17,)): ALLOW,
    ("clone", (0x4111,)): ALLOW,  # vfork, as posix_spawn does
    ("clone", (0x10000011,)): errno.EPERM,
    ("clone", (0x20000011,)): errno.EPERM,
    ("clone", (0x40000011,)): errno.EPERM,
    ("clone", (0x02000011,)): errno.EPERM,
    ("clone", (0x00020011,)): errno.EPERM,
    ("clone", (THREAD | 0x08000000,)): errno.EPERM,
    ("clone3", (0, 88)): errno.ENOSYS,
    ("unshare", (0x400,)): ALLOW,
    ("unshare", (0x80,)): errno.EPERM,
    ("unshare", (0x10000000,)): errno.EPERM,
    ("unshare", (0x400 | 0x40000000,)): errno.EPERM,
    ("socket", (socket.AF_UNIX, 1, 0)): ALLOW,
    ("socket", (socket.AF_INET, 1, 0)): ALLOW,
    ("socket", (socket.AF_INET6, 2, 17)): ALLOW,
    ("socket", (socket.AF_INET, 2, 1)): ALLOW,
    ("socket", (socket.AF_INET, 1, 132)): errno.EPROTONOSUPPORT,
    ("socket", (socket.AF_INET, 1, 262)): errno.EPROTONOSUPPORT,
    ("socket", (socket.AF_NETLINK, 3, 0)): ALLOW,
    ("socket", (socket.AF_NETLINK, 3, 4)): ALLOW,
    ("socket", (socket.AF_NETLINK, 3, 12)): errno.EPROTONOSUPPORT,
    ("socket", (socket.AF_NETLINK, 3, 1)): errno.EPROTONOSUPPORT,
    ("socket", (40, 1, 0)): errno.EAFNOSUPPORT,
    ("socket", (38, 5, 0)): errno.EAFNOSUPPORT,
    ("socket", (17, 3, 0)): errno.EAFNOSUPPORT,
    ("socket", (0, 1, 0)): errno.EAFNOSUPPORT,
    ("socket", ((1 << 32) + 40, 1, 0)): errno.EAFNOSUPPORT,  # the kernel looks at the lower half alone
    ("ioctl", (0, 0x5401)): ALLOW,
    ("ioctl", (0, 0x5412)): errno.EPERM,
    ("ioctl", (0, (7 << 32) + 0x5412)): errno.EPERM,
    ("ioctl", (0, 0x541C)): errno.EPERM,
    ("prlimit64", (0, 4, 0, 1)): ALLOW,
    ("prlimit64", (0, 4, 1, 0)): 0,
    ("prlimit64", (0, 4, 1 << 32, 0)): 0,
    ("prlimit64", (0, 7, 1, 0)): ALLOW,
    ("setrlimit", (4, 1)): 0,
    ("setrlimit", (7, 1)): ALLOW,
    ("personality", (0xFFFFFFFF,)): ALLOW,
    ("personality", (0x40000,)): ALLOW,
    ("personality", (0x400000,)): errno.EPERM,
}


def decide(
    machine: str, number: int, arguments: tuple[int, ...] = (), audit: int | None = None, *, agent: bool = False
) -> str | int:
    """What the filter says: the error number that the call gets, or a word."""
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, AUDIT[machine] if audit is None else audit, 0, *padded)
    steps = list(struct.iter_unpack("<HBBI", seccomp.program(machine, agent=agent)))
    at = loaded = 0
    while True:
        code, then, otherwise, value = steps[at]
        at += 1
        if code == 0x20:
            (loaded,) = struct.unpack_from("<I", data, value)
        elif code == 0x05:
            at += value
        elif code == 0x06:
            action, error = value & 0xFFFF0000, value & 0xFFFF
            return ALLOW if action == 0x7FFF0000 else KILL if action == 0x80000000 else int(error)
        else:
            holds = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[code]
            at += then if holds else otherwise


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_each_denied_call_gets_its_error_and_all_others_pass(machine: str) -> None:
    place = seccomp.MACHINES.index(machine)
    denied = {
        number: error
        for calls, error in seccomp.DENIED.values()
        for numbers in calls.values()
        if (number := numbers[place]) is not None
    }
    looked_at = set(NUMBERS[machine].values()) | {53, 199}
    for number in range(seccomp.LAST + 1):
        if number not in looked_at:
            assert decide(machine, number) == denied.get(number, ALLOW), number
    for number in (seccomp.LAST + 1, 0x40000000, 0x40000000 + 41, 0xFFFFFFFF):
        assert decide(machine, number) == errno.ENOSYS, number


@pytest.mark.parametrize("machine", seccomp.MACHINES)
@pytest.mark.parametrize(("call", "arguments"), ARGUMENTS)
def test_arguments_decide(machine: str, call: str, arguments: tuple[int, ...]) -> None:
    assert decide(machine, NUMBERS[machine][call], arguments) == ARGUMENTS[call, arguments]


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_an_agent_makes_walls_and_no_more(machine: str) -> None:
    place = seccomp.MACHINES.index(machine)
    walls = {"mount", "umount2", "setns", "open_tree", "move_mount", "pivot_root"}
    for calls, error in seccomp.DENIED.values():
        for name, numbers in calls.items():
            if (number := numbers[place]) is not None:
                free = "mount" in calls or "setns" in calls
                assert decide(machine, number, agent=True) == (ALLOW if free else error), name
                assert free or name not in walls
    for call, arguments in (("clone", (0x10000011,)), ("unshare", (0x20000000,))):
        assert decide(machine, NUMBERS[machine][call], arguments, agent=True) == ALLOW
    assert decide(machine, NUMBERS[machine]["socket"], (40, 1, 0), agent=True) == errno.EAFNOSUPPORT


@pytest.mark.parametrize("machine", seccomp.MACHINES)
@pytest.mark.parametrize("audit", [0x40000003, 0x40000028, 0xC0000016, 0])
def test_another_machines_convention_ends_the_process(machine: str, audit: int) -> None:
    assert decide(machine, 0, audit=audit) == KILL


@pytest.mark.parametrize(
    ("machine", "header", "pattern"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", r"#define __NR_(\w+) (\d+)$"),
        ("aarch64", "/usr/include/asm-generic/unistd.h", r"#define __NR(?:3264)?_(\w+) (\d+)$"),
    ],
)
def test_the_numbers_are_the_kernels(machine: str, header: str, pattern: str) -> None:
    path = Path(header)
    if not path.exists():
        pytest.skip(f"{header} is not here; the package linux-libc-dev has it")
    place = seccomp.MACHINES.index(machine)
    known = {name: int(number) for name, number in re.findall(pattern, path.read_text(), re.MULTILINE)}
    listed = {name: numbers[place] for calls, _ in seccomp.DENIED.values() for name, numbers in calls.items()}
    wrong = {
        name: (number, known[name])
        for name, number in {**listed, **NUMBERS[machine]}.items()
        if name in known and known[name] != number
    }
    assert not wrong
    # Numbers that the header lacks are those of newer calls, or none on this machine.
    assert sum(name in known for name in listed) > len(listed) / 2
