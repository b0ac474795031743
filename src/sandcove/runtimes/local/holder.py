"""The program that keeps a room open: says one byte when it runs, ends when its standard input ends.

It is the room's first process. It must not be one of the sandbox's files (a sandbox may have replaced its
`cat`, and this runs before privileges are gone), so it is a static ELF of under 200 bytes, made here and
executed from a sealed memfd. In C:

    int main(void) { char c; write(1, ".", 1); read(0, &c, 1); _exit(0); }

Bubblewrap executes it when all mounts are done and `/` is the room's: its byte is the signal for that.
"""

from __future__ import annotations

import platform
import struct

from sandcove import linux
from sandcove.errors import HostUnsupportedError

__all__ = ["elf", "open_holder"]

_BASE = 0x400000
_X86_64 = bytes.fromhex(
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
_AARCH64 = struct.pack(
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
_MACHINES = {"x86_64": (62, _X86_64), "aarch64": (183, _AARCH64)}


def elf(machine: str) -> bytes:
    """The program for a machine as `platform.machine` names it.

    Raises:
        HostUnsupportedError: there is none for it.
    """
    if machine not in _MACHINES:
        raise HostUnsupportedError(f"Sandcove runs on x86_64 and aarch64, not on {machine}")
    number, code = _MACHINES[machine]
    code += b"."
    entry = _BASE + 64 + 2 * 56
    size = 64 + 2 * 56 + len(code)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",  # 64 bits, little endian, version 1
        2,  # ET_EXEC
        number,
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
    """A descriptor of the program for this machine, which nobody can change; execute ``/proc/self/fd/<it>``."""
    return linux.sealed_memfd("sandcove-room", elf(platform.machine()))
