"""Two programs that are made here: static ELFs of some hundred bytes, executed from sealed memfds.

The **holder** keeps a room open: it says one byte when it runs, and ends when its standard input ends. It is the room's
first process. It must not be one of the sandbox's files (a sandbox may have replaced its `cat`, and this runs before
privileges are gone). In C:

    int main(void) { char c; write(1, ".", 1); read(0, &c, 1); _exit(0); }

Bubblewrap executes it when all mounts are done and `/` is the room's: its byte is the signal for that.

The **launcher** runs bubblewrap as the root of a user namespace that another process maps, which bubblewrap can't do by
itself: between a byte to standard output and one from standard input the maps are written. Bubblewrap finds the folder
that was the launcher's working directory at `/tmp`, to which its user could not even find the way, and of the host's
mounts no others than it needs: what else is mounted there can be unmounted while the room stands. In C, each call
checked:

    int main(int argc, char **argv, char **envp) {
        char c;
        unshare(CLONE_NEWNS);
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
        mount("/", "/tmp", NULL, MS_BIND, NULL);
        mount("/usr", "/tmp/usr", NULL, MS_BIND | MS_REC, NULL);    // and /proc and /dev
        mount(".", "/tmp/tmp", NULL, MS_BIND | MS_REC, NULL);
        chdir("/tmp"); pivot_root(".", "."); umount2(".", MNT_DETACH);
        unshare(CLONE_NEWUSER);
        write(1, "/", 1); read(0, &c, 1);
        setgroups(0, NULL); setresgid(0, 0, 0); setresuid(0, 0, 0);
        execve(argv[1], argv + 2, envp);
    }
"""

from __future__ import annotations

import platform
import struct

from sandcove import linux
from sandcove.errors import HostUnsupportedError

__all__ = ["elf", "launcher", "open_holder", "open_launcher"]

_BASE = 0x400000
_HOLDER_X86_64 = bytes.fromhex(
    "b801000000"  # mov eax, 1 (write)
    "bf01000000"  # mov edi, 1
    "488d351e000000"  # lea rsi, [rip + 0x1e]: the byte after the code
    "ba01000000"  # mov edx, 1
    "0f05"  # syscall
    "31c0"  # xor eax, eax (read)
    "31ff"  # xor edi, edi
    "4889e6"  # mov rsi, rsp
    "ba01000000"  # mov edx, 1
    "0f05"  # syscall
    "b83c000000"  # mov eax, 60 (exit)
    "31ff"  # xor edi, edi
    "0f05"  # syscall
)
_HOLDER_AARCH64 = struct.pack(
    "<13I",
    0xD2800020,  # mov x0, #1
    0x10000181,  # adr x1, #48: the byte after the code
    0xD2800022,  # mov x2, #1
    0xD2800808,  # mov x8, #64 (write)
    0xD4000001,  # svc #0
    0xD2800000,  # mov x0, #0
    0x910003E1,  # mov x1, sp
    0xD2800022,  # mov x2, #1
    0xD28007E8,  # mov x8, #63 (read)
    0xD4000001,  # svc #0
    0xD2800000,  # mov x0, #0
    0xD2800BA8,  # mov x8, #93 (exit)
    0xD4000001,  # svc #0
)
# Assembled from launcher/x86_64.s and launcher/aarch64.s.
_LAUNCHER = {
    "x86_64": bytes.fromhex(
        "31dbbf00000200b8100100000f05ffc385c00f859501000031ff488d359501000031d241ba004004004531c0b8a50000"
        "000f05ffc385c00f85700100004889f7488d357301000041ba00100000b8a50000000f05ffc385c00f854f010000488d"
        "3d5e010000488d355301000041ba00500000b8a50000000f05ffc385c00f852a010000488d3d42010000488d35370100"
        "00b8a50000000f05ffc385c00f850b010000488d3d2d010000488d3522010000b8a50000000f05ffc385c00f85ec0000"
        "00488d3df0000000488d350c010000b8a50000000f05ffc385c00f85cd000000488d3dd3000000b8500000000f05ffc3"
        "85c00f85b5000000488d3db90000004889feb89b0000000f05ffc385c00f859a000000be02000000b8a60000000f05ff"
        "c385c00f8584000000bf00000010b8100100000f05ffc385c07572bf01000000488d356f000000ba01000000b8010000"
        "000f0531ff488d7424f031c00f05ffc3ffc8754931ff31f6b8740000000f05ffc385c0753831d2b8770000000f05ffc3"
        "85c07529b8750000000f05ffc385c0751c488b7c2410488d742418488b1424488d54d410b83b0000000f05ffc389dfb8"
        "3c0000000f052f002e002f746d70002f746d702f757372002f746d702f70726f63002f746d702f646576002f746d702f"
        "746d7000"
    ),
    "aarch64": bytes.fromhex(
        "130080d24000a0d2280c80d2010000d473060091800c0035000080d2a10c0010020080d2030088d28300a0f2040080d2"
        "080580d2010000d473060091400b0035800b0010810b0010030082d2080580d2010000d473060091600a0035000b0030"
        "c10a003003008ad2080580d2010000d47306009180090035600a0050210a0050080580d2010000d473060091c0080035"
        "000a0010c1090010080580d2010000d473060091000800354008005041090030080580d2010000d47306009140070035"
        "a0070010280680d2010000d473060091a0060035e0060050c1060050280580d2010000d473060091e005003520060050"
        "410080d2e80480d2010000d473060091200500350000a2d2280c80d2010000d47306009180040035200080d2a1040010"
        "220080d2080880d2010000d4000080d2e14300d1e80780d2010000d4730600911f04007101030054000080d2010080d2"
        "e81380d2010000d47306009140020035020080d2a81280d2010000d473060091a0010035681280d2010000d473060091"
        "20010035e00b40f9e1630091e20340f9e26f228b42400091a81b80d2010000d473060091e00313aaa80b80d2010000d4"
        "2f002e002f746d70002f746d702f757372002f746d702f70726f63002f746d702f646576002f746d702f746d7000"
    ),
}
# What follows the code is data that it reads.
_HOLDER = {"x86_64": _HOLDER_X86_64 + b".", "aarch64": _HOLDER_AARCH64 + b"."}
_MACHINES = {"x86_64": 62, "aarch64": 183}


def elf(machine: str, programs: dict[str, bytes] = _HOLDER) -> bytes:
    """The program for a machine as `platform.machine` names it.

    Raises:
        HostUnsupportedError: there is none for it.
    """
    if machine not in programs:
        raise HostUnsupportedError(f"Sandcove runs on x86_64 and aarch64, not on {machine}")
    code = programs[machine]
    entry = _BASE + 64 + 2 * 56
    size = 64 + 2 * 56 + len(code)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",  # 64 bits, little endian, version 1
        2,  # ET_EXEC
        _MACHINES[machine],
        1,
        entry,
        64,  # program headers follow at once
        0,
        0,
        64,
        56,
        2,
        0,
        0,
        0,
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)  # PT_LOAD, readable and executable
    stack = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)  # PT_GNU_STACK, not executable
    return header + load + stack + code


def open_holder() -> int:
    """A descriptor of the holder for this machine, which nobody can change; execute ``/proc/self/fd/<it>``."""
    return linux.sealed_memfd("sandcove-room", elf(platform.machine()))


def launcher(machine: str) -> bytes:
    """The launcher's program for a machine."""
    return elf(machine, _LAUNCHER)


def open_launcher() -> int:
    """A descriptor of the launcher, as of the holder."""
    return linux.sealed_memfd("sandcove-launcher", launcher(platform.machine()))
