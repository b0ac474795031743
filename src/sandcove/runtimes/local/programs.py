"""Two programs that are made here: static ELFs of some hundred bytes, executed from sealed memfds.

The **holder** keeps a room open: it says one byte when it runs, and ends when its standard input ends. It is the room's
first process. It must not be one of the sandbox's files (a sandbox may have replaced its `cat`, and this runs before
privileges are gone). In C:

    int main(void) { char c; write(1, ".", 1); read(0, &c, 1); _exit(0); }

Bubblewrap executes it when all mounts are done and `/` is the room's: its byte is the signal for that.

The **launcher** runs bubblewrap as the root of a user namespace that another process maps, which bubblewrap can't do by
itself: between a byte to standard output and one from standard input the maps are written. Bubblewrap finds the folder
that was the launcher's working directory at `/tmp`, to which its user could not even find the way, and of the host's
mounts no others than it needs: what else is mounted there can be unmounted while the room stands. The namespace belongs
to the sandbox's user, whose number comes first on standard input: what the kernel counts for each user of the machine
(inotify instances, queued signals, message queues) is counted as his, not as the server's. In C, each call checked:

    int main(int argc, char **argv, char **envp) {
        char c; uid_t user;
        unshare(CLONE_NEWNS);
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
        mount("/", "/tmp", NULL, MS_BIND, NULL);
        mount("/usr", "/tmp/usr", NULL, MS_BIND | MS_REC, NULL);    // and /proc and /dev
        mount(".", "/tmp/tmp", NULL, MS_BIND | MS_REC, NULL);
        chdir("/tmp"); pivot_root(".", "."); umount2(".", MNT_DETACH);
        read(0, &user, 4);
        prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP); setresuid(-1, user, -1); prctl(PR_SET_DUMPABLE, 1);
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
        "31dbbf00000200b8100100000f05ffc385c00f850502000031ff488d350502000031d241ba004004004531c0b8a50000"
        "000f05ffc385c00f85e00100004889f7488d35e301000041ba00100000b8a50000000f05ffc385c00f85bf010000488d"
        "3dce010000488d35c301000041ba00500000b8a50000000f05ffc385c00f859a010000488d3db2010000488d35a70100"
        "00b8a50000000f05ffc385c00f857b010000488d3d9d010000488d3592010000b8a50000000f05ffc385c00f855c0100"
        "00488d3d60010000488d357c010000b8a50000000f05ffc385c00f853d010000488d3d43010000b8500000000f05ffc3"
        "85c00f8525010000488d3d290100004889feb89b0000000f05ffc385c00f850a010000be02000000b8a60000000f05ff"
        "c385c00f85f400000031ff488d7424f0ba0400000031c00f05ffc383f8040f85d9000000bf1c000000be04000000b89d"
        "0000000f05ffc385c00f85be000000bfffffffff8b7424f0baffffffffb8750000000f05ffc385c00f859f000000bf04"
        "000000be01000000b89d0000000f05ffc385c00f8584000000bf00000010b8100100000f05ffc385c07572bf01000000"
        "488d356f000000ba01000000b8010000000f0531ff488d7424f031c00f05ffc3ffc8754931ff31f6b8740000000f05ff"
        "c385c0753831d2b8770000000f05ffc385c07529b8750000000f05ffc385c0751c488b7c2410488d742418488b142448"
        "8d54d410b83b0000000f05ffc389dfb83c0000000f052f002e002f746d70002f746d702f757372002f746d702f70726f"
        "63002f746d702f646576002f746d702f746d7000"
    ),
    "aarch64": bytes.fromhex(
        "130080d24000a0d2280c80d2010000d473060091e00f0035000080d201100010020080d2030088d28300a0f2040080d2"
        "080580d2010000d473060091a00e0035e00e0010e10e0010030082d2080580d2010000d473060091c00d0035600e0030"
        "210e003003008ad2080580d2010000d473060091e00c0035c00d0050810d0050080580d2010000d473060091200c0035"
        "600d0010210d0010080580d2010000d473060091600b0035a00b0050a10c0030080580d2010000d473060091a00a0035"
        "000b0010280680d2010000d473060091000a0035400a0050210a0050280580d2010000d4730600914009003580090050"
        "410080d2e80480d2010000d47306009180080035000080d2e14300d1820080d2e80780d2010000d4730600911f100071"
        "81070054800380d2810080d2e81480d2010000d473060091c006003500008012e1035fb802008012681280d2010000d4"
        "73060091e0050035800080d2210080d2e81480d2010000d473060091200500350000a2d2280c80d2010000d473060091"
        "80040035200080d2a1040010220080d2080880d2010000d4000080d2e14300d1e80780d2010000d4730600911f040071"
        "01030054000080d2010080d2e81380d2010000d47306009140020035020080d2a81280d2010000d473060091a0010035"
        "681280d2010000d47306009120010035e00b40f9e1630091e20340f9e26f228b42400091a81b80d2010000d473060091"
        "e00313aaa80b80d2010000d42f002e002f746d70002f746d702f757372002f746d702f70726f63002f746d702f646576"
        "002f746d702f746d7000"
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
