"""Two programs that are made here: static ELFs of some hundred bytes, executed from sealed memfds.

The **holder** keeps a room open: it says one byte when it runs, and ends when its standard input ends. It is the room's
first process. It must not be one of the sandbox's files (a sandbox may have replaced its `cat`, and this runs before
privileges are gone). In C:

    int main(void) { char c; write(1, ".", 1); read(0, &c, 1); _exit(0); }

Bubblewrap executes it when all mounts are done and `/` is the room's: its byte is the signal for that.

The **launcher** runs bubblewrap as the root of a user namespace that another process maps, which bubblewrap can't do by
itself: between a byte to standard output and one from standard input the maps are written. In C, each call checked, its
exit status the number of the one that failed:

    int main(int argc, char **argv, char **envp) {
        char c;
        unshare(CLONE_NEWNS);
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
        mount(argv[1], argv[2], NULL, MS_REC | MS_BIND, NULL);
        unshare(CLONE_NEWUSER);
        write(1, "/", 1); read(0, &c, 1);
        setgroups(0, NULL); setresgid(0, 0, 0); setresuid(0, 0, 0);
        execve(argv[3], argv + 4, envp);
    }

The folder `argv[1]` is thus seen at `argv[2]` by a user who could not even find the way to it.
"""

from __future__ import annotations

import platform
import struct

from sandcove import linux
from sandcove.errors import HostUnsupportedError

__all__ = ["elf", "open_holder", "open_launcher"]

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
_LAUNCHER_X86_64 = bytes.fromhex(
    "bb01000000"  # mov ebx,0x1
    "bf00000200"  # mov edi,0x20000
    "b810010000"  # mov eax,0x110 (unshare)
    "0f05"  # syscall
    "85c0"  # test eax,eax
    "0f85ca000000"  # jnz fail
    "ffc3"  # inc ebx
    "31ff"  # xor edi,edi
    "488d35c8000000"  # lea rsi,[rip+0xc8]
    "31d2"  # xor edx,edx
    "41ba00400400"  # mov r10d,0x44000
    "4531c0"  # xor r8d,r8d
    "b8a5000000"  # mov eax,0xa5 (mount)
    "0f05"  # syscall
    "85c0"  # test eax,eax
    "0f85a5000000"  # jnz fail
    "ffc3"  # inc ebx
    "488b7c2410"  # mov rdi,QWORD PTR [rsp+0x10]
    "488b742418"  # mov rsi,QWORD PTR [rsp+0x18]
    "41ba00500000"  # mov r10d,0x5000
    "b8a5000000"  # mov eax,0xa5 (mount)
    "0f05"  # syscall
    "85c0"  # test eax,eax
    "0f8584000000"  # jnz fail
    "ffc3"  # inc ebx
    "bf00000010"  # mov edi,0x10000000
    "b810010000"  # mov eax,0x110 (unshare)
    "0f05"  # syscall
    "85c0"  # test eax,eax
    "7572"  # jnz fail
    "ffc3"  # inc ebx
    "bf01000000"  # mov edi,0x1
    "488d356d000000"  # lea rsi,[rip+0x6d]
    "ba01000000"  # mov edx,0x1
    "b801000000"  # mov eax,0x1 (write)
    "0f05"  # syscall
    "31ff"  # xor edi,edi
    "488d7424f0"  # lea rsi,[rsp-0x10]
    "31c0"  # xor eax,eax
    "0f05"  # syscall
    "ffc8"  # dec eax
    "7549"  # jnz fail
    "ffc3"  # inc ebx
    "31ff"  # xor edi,edi
    "31f6"  # xor esi,esi
    "b874000000"  # mov eax,0x74 (setgroups)
    "0f05"  # syscall
    "85c0"  # test eax,eax
    "7538"  # jnz fail
    "ffc3"  # inc ebx
    "31d2"  # xor edx,edx
    "b877000000"  # mov eax,0x77 (setresgid)
    "0f05"  # syscall
    "85c0"  # test eax,eax
    "7529"  # jnz fail
    "ffc3"  # inc ebx
    "b875000000"  # mov eax,0x75 (setresuid)
    "0f05"  # syscall
    "85c0"  # test eax,eax
    "751c"  # jnz fail
    "ffc3"  # inc ebx
    "488b7c2420"  # mov rdi,QWORD PTR [rsp+0x20]
    "488d742428"  # lea rsi,[rsp+0x28]
    "488b1424"  # mov rdx,QWORD PTR [rsp]
    "488d54d410"  # lea rdx,[rsp+rdx*8+0x10]
    "b83b000000"  # mov eax,0x3b (execve)
    "0f05"  # syscall
    "89df"  # mov edi,ebx
    "b83c000000"  # mov eax,0x3c (exit)
    "0f05"  # syscall
)
_LAUNCHER_AARCH64 = struct.pack(
    "<64I",
    0xD2800033,  # mov x19, #0x1
    0xD2A00040,  # mov x0, #0x20000
    0xD2800C28,  # mov x8, #0x61 (unshare)
    0xD4000001,  # svc #0x0
    0x35000720,  # cbnz w0, fail
    0x91000673,  # add x19, x19, #0x1
    0xD2800000,  # mov x0, #0x0
    0x10000721,  # adr x1, root
    0xD2800002,  # mov x2, #0x0
    0xD2880003,  # mov x3, #0x4000
    0xF2A00083,  # movk x3, #0x4, lsl #16
    0xD2800004,  # mov x4, #0x0
    0xD2800508,  # mov x8, #0x28 (mount)
    0xD4000001,  # svc #0x0
    0x350005E0,  # cbnz w0, fail
    0x91000673,  # add x19, x19, #0x1
    0xF9400BE0,  # ldr x0, [sp, #16]
    0xF9400FE1,  # ldr x1, [sp, #24]
    0xD28A0003,  # mov x3, #0x5000
    0xD4000001,  # svc #0x0
    0x35000520,  # cbnz w0, fail
    0x91000673,  # add x19, x19, #0x1
    0xD2A20000,  # mov x0, #0x10000000
    0xD2800C28,  # mov x8, #0x61 (unshare)
    0xD4000001,  # svc #0x0
    0x35000480,  # cbnz w0, fail
    0x91000673,  # add x19, x19, #0x1
    0xD2800020,  # mov x0, #0x1
    0x10000481,  # adr x1, root
    0xD2800022,  # mov x2, #0x1
    0xD2800808,  # mov x8, #0x40 (write)
    0xD4000001,  # svc #0x0
    0xD2800000,  # mov x0, #0x0
    0xD10043E1,  # sub x1, sp, #0x10
    0xD28007E8,  # mov x8, #0x3f (read)
    0xD4000001,  # svc #0x0
    0x7100041F,  # cmp w0, #0x1
    0x54000301,  # b.ne fail
    0x91000673,  # add x19, x19, #0x1
    0xD2800000,  # mov x0, #0x0
    0xD2800001,  # mov x1, #0x0
    0xD28013E8,  # mov x8, #0x9f (setgroups)
    0xD4000001,  # svc #0x0
    0x35000240,  # cbnz w0, fail
    0x91000673,  # add x19, x19, #0x1
    0xD2800002,  # mov x2, #0x0
    0xD28012A8,  # mov x8, #0x95 (setresgid)
    0xD4000001,  # svc #0x0
    0x350001A0,  # cbnz w0, fail
    0x91000673,  # add x19, x19, #0x1
    0xD2801268,  # mov x8, #0x93 (setresuid)
    0xD4000001,  # svc #0x0
    0x35000120,  # cbnz w0, fail
    0x91000673,  # add x19, x19, #0x1
    0xF94013E0,  # ldr x0, [sp, #32]
    0x9100A3E1,  # add x1, sp, #0x28
    0xF94003E2,  # ldr x2, [sp]
    0x8B226FE2,  # add x2, sp, x2, lsl #3
    0x91004042,  # add x2, x2, #0x10
    0xD2801BA8,  # mov x8, #0xdd (execve)
    0xD4000001,  # svc #0x0
    0xAA1303E0,  # mov x0, x19
    0xD2800BA8,  # mov x8, #0x5d (exit)
    0xD4000001,  # svc #0x0
)
# What follows the code is data that it reads.
_HOLDER = {"x86_64": _HOLDER_X86_64 + b".", "aarch64": _HOLDER_AARCH64 + b"."}
_LAUNCHER = {"x86_64": _LAUNCHER_X86_64 + b"/\0", "aarch64": _LAUNCHER_AARCH64 + b"/\0"}
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


def open_launcher() -> int:
    """The same of the launcher."""
    return linux.sealed_memfd("sandcove-launcher", elf(platform.machine(), _LAUNCHER))
