"""The attacks of `sandcove doctor --probe`: small programs, each of which must fail in a sandbox.

None does harm where it succeeds: it asks for no more than to be let in. `tests/security` runs them all, inside and, as
the control, where nothing holds them back; and many more that are not fit for a stranger's machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sandcove.client._sync.sandbox import Sandbox
from sandcove.errors import SandboxError

__all__ = ["PRELUDE", "PROBES", "Finding", "Probe", "run"]

PRELUDE = """
import array, ctypes, errno, fcntl, json, os, signal, socket, stat, struct, sys, termios

libc = ctypes.CDLL(None, use_errno=True)

def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

first = os.environ.get("FIRST", "1")

def refuse(why):
    raise OSError(errno.ENOENT, why)

def numbers(x86_64, aarch64):
    number = {"x86_64": x86_64, "aarch64": aarch64}.get(os.uname().machine)
    return refuse("this machine has no such call") if number is None else number
"""
"""What the body of a probe may use. It gets there, or raises `OSError`. `first` is the first process's id."""

_RUNNER = (
    PRELUDE
    + """
for number, body in enumerate(json.load(sys.stdin)):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(5)
        try:
            exec(body, dict(globals()))
            os.write(write, b"+")
        except BaseException as error:
            os.write(write, f"{errno.errorcode.get(getattr(error, 'errno', None), 'error')}: {error}".encode()[:500])
        finally:
            os._exit(0)
    os.close(write)
    said = b""
    while part := os.read(read, 4096):
        said += part
    os.close(read)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    why = said.decode(errors="replace") or f"ended by signal {-status}"
    print(json.dumps([number, why == "+", "" if why == "+" else why]), flush=True)
"""
)


@dataclass(frozen=True)
class Probe:
    """An attack.

    Attributes:
        name: what it asks for.
        group: what it attacks.
        body: its Python.
        control: how the tests let it in outside, as root: ``free`` as it is, ``namespaces`` in mount and host name
            namespaces of its own, ``played`` where they have made what it looks for.
    """

    name: str
    group: str
    body: str
    control: str = "free"


@dataclass(frozen=True)
class Finding:
    """How a probe ended: `reached` must be false; `why` is what stopped it."""

    probe: Probe
    reached: bool
    why: str


def _open(path: str, flags: str = "os.O_RDONLY") -> str:
    """Opened, never written to; a file that something lies over counts as refused."""
    return f"""
status = os.fstat(os.open({path!r}, {flags}))
stat.S_ISREG(status.st_mode) or {path!r}.startswith(("/dev", "/sys")) or refuse("something lies over it")
"""


def _call(x86_64: int, aarch64: int | None, *arguments: str) -> str:
    return f"call(libc.syscall({', '.join((f'numbers({x86_64}, {aarch64})', *arguments))}))"


_CLONE = """
pid = call(libc.syscall(numbers(56, 220), {flags} | signal.SIGCHLD, None, None, None, None))
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
"""

PROBES = (
    # --- the kernel's calls
    Probe("a mount", "mounts", "call(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None))", "namespaces"),
    Probe("a bind mount", "mounts", "call(libc.mount(b'/', b'/mnt', None, 0x1000, None))", "namespaces"),
    Probe("an unmount", "mounts", "call(libc.umount2(b'/proc', 2))", "namespaces"),
    Probe("another root", "mounts", "os.chroot('/tmp')"),
    Probe("a copy of a mount", "mounts", _call(428, 428, "-100", "b'/'", "1 | 0o2000000")),
    Probe("a new file system", "mounts", _call(430, 430, "b'tmpfs'", "0")),
    Probe("a remount of / with devices", "mounts", "call(libc.mount(b'none', b'/', None, 0x1020, None))", "namespaces"),
    Probe("the host's cgroups", "mounts", "call(libc.mount(b'none', b'/mnt', b'cgroup2', 0, None))", "namespaces"),
    Probe(
        "a file by its handle",
        "mounts",
        """
handle = ctypes.create_string_buffer(struct.pack("iiQ", 8, 1, 2), 144)
call(libc.syscall(numbers(304, 265), os.open("/", os.O_RDONLY), handle, os.O_RDONLY))
""",
    ),
    Probe("a user namespace", "namespaces", "call(libc.unshare(0x10000000))"),
    Probe("a user namespace by clone", "namespaces", _CLONE.format(flags="0x10000000")),
    Probe("a mount namespace", "namespaces", "call(libc.unshare(0x00020000))"),
    Probe("a PID namespace", "namespaces", "call(libc.unshare(0x20000000))"),
    Probe("a network namespace", "namespaces", "call(libc.unshare(0x40000000))"),
    Probe(
        "the first process's namespace",
        "namespaces",
        'call(libc.setns(os.open(f"/proc/{first}/ns/mnt", os.O_RDONLY), 0))',
    ),
    Probe(
        "a table in the kernel",
        "kernel",
        'call(libc.syscall(numbers(321, 280), 0, ctypes.create_string_buffer(struct.pack("4I", 2, 4, 8, 1), 72), 72))',
    ),
    Probe(
        "counters of the processor",
        "kernel",
        """
attributes = ctypes.create_string_buffer(struct.pack("IIQ", 1, 112, 0), 112)
call(libc.syscall(numbers(298, 241), attributes, 0, -1, -1, 0))
""",
    ),
    Probe("page faults of its own to answer", "kernel", _call(323, 282, "0")),
    Probe("io_uring", "kernel", _call(425, 425, "4", "ctypes.create_string_buffer(120)")),
    Probe("asynchronous I/O", "kernel", _call(206, 0, "1", "ctypes.byref(ctypes.c_ulong())")),
    Probe(
        "a driver for a terminal's line",
        "kernel",
        """
fcntl.ioctl(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY), 0x5423, struct.pack("i", 0))
""",
    ),
    Probe("a key", "kernel", _call(248, 217, "b'user'", "b'sandcove-probe'", "b'x'", "1", "-2")),
    Probe("a socket of the hypervisor", "kernel", "socket.socket(40, socket.SOCK_STREAM)"),
    Probe("a socket of the kernel's ciphers", "kernel", "socket.socket(38, socket.SOCK_SEQPACKET)"),
    Probe("a socket of the firewall", "kernel", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)"),
    Probe("the kernel's log", "kernel", "call(libc.klogctl(3, ctypes.create_string_buffer(16), 16))"),
    Probe("code in readable pages", "kernel", "call(libc.personality(0x0400000))"),
    Probe(
        "a call of a 32-bit program",
        "kernel",
        """
import mmap
os.uname().machine == "x86_64" or refuse("this machine has none")
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex("b814000000cd80c3"))
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
""",
    ),
    Probe(
        "keys typed into a terminal",
        "kernel",
        'fcntl.ioctl(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY), 0x5412, b"x")',
    ),
    # --- privileges
    Probe("another user", "privileges", "os.setuid(12345)"),
    Probe("another group", "privileges", "os.setgroups([12345])"),
    Probe("a file of another user", "privileges", "os.chown(os.memfd_create('probe'), 12345, 12345)"),
    Probe("priority", "privileges", "os.nice(-1)"),
    Probe("real-time scheduling", "privileges", "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"),
    Probe("the host name", "privileges", "socket.sethostname(socket.gethostname())", "namespaces"),
    Probe("packets", "privileges", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
    Probe("raw packets", "privileges", "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)"),
    Probe(
        "a capability",
        "privileges",
        """
held = [line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapEff", "CapPrm", "CapBnd"))]
any(int(mask, 16) for mask in held) or refuse("it has none")
""",
    ),
    Probe(
        "new privileges by a program",
        "privileges",
        """
"NoNewPrivs:\\t0" in open("/proc/self/status").read() or refuse("no_new_privs is set")
""",
    ),
    # --- devices
    Probe(
        "a device of its own",
        "devices",
        """
os.mknod("/tmp/sandcove-probe", stat.S_IFCHR | 0o600, os.makedev(1, 1))
os.unlink("/tmp/sandcove-probe")
""",
    ),
    Probe("the machine's memory", "devices", _open("/dev/mem"), "played"),
    Probe(
        "a disk",
        "devices",
        """
disks = [name for name in os.listdir("/dev") if name.startswith(("sd", "vd", "nvme", "xvd", "dm-", "loop"))]
disks or refuse("none is there")
""",
    ),
    Probe("the kernel's messages", "devices", _open("/dev/kmsg")),
    Probe("virtual machines", "devices", _open("/dev/kvm", "os.O_RDWR"), "played"),
    # --- files of the kernel and of the host
    Probe("the core pattern", "files", _open("/proc/sys/kernel/core_pattern", "os.O_WRONLY")),
    Probe("a setting of memory", "files", _open("/proc/sys/vm/overcommit_memory", "os.O_WRONLY")),
    Probe("the module loader's path", "files", _open("/proc/sys/kernel/modprobe", "os.O_WRONLY"), "played"),
    Probe("the system request key", "files", _open("/proc/sysrq-trigger", "os.O_WRONLY"), "played"),
    Probe("the kernel's memory", "files", _open("/proc/kcore"), "played"),
    Probe(
        "a control group's release agent",
        "files",
        """
for place, _, files in os.walk("/sys/fs/cgroup"):
    for name in ("release_agent", "cgroup.procs"):
        if name in files:
            os.close(os.open(f"{place}/{name}", os.O_WRONLY))
            break
    else:
        continue
    break
else:
    refuse("none is to be seen")
""",
    ),
    Probe("the host's password file", "files", _open("/etc/shadow")),
    Probe(
        "the container engine",
        "files",
        """
socket.socket(socket.AF_UNIX).connect("/run/docker.sock")
""",
        "played",
    ),
    Probe(
        "a folder that was left open (CVE-2024-21626)",
        "files",
        """
for number in os.listdir("/proc/self/fd"):
    try:
        os.chdir(f"/proc/self/fd/{number}")
    except OSError:
        continue
    while not os.path.samefile(".", ".."):
        os.chdir("..")
    if not os.path.samefile(".", "/"):
        break
else:
    refuse("none leads out")
""",
        "played",
    ),
    # --- processes
    Probe(
        "a process of the host",
        "processes",
        """
names = [pid for pid in os.listdir("/proc") if pid.isdigit()]
len(names) > 20 or refuse("only those of the sandbox are to be seen")
""",
        "played",
    ),
    Probe(
        "the first process, by a signal",
        "processes",
        """
import select
process = os.pidfd_open(int(first))
signal.pidfd_send_signal(process, signal.SIGTERM)
select.select([process], [], [], 0.1)[0] or refuse("it does not heed it")
""",
        "played",
    ),
    Probe(
        "the first process, by tracing",
        "processes",
        "call(libc.ptrace(0x4206, int(first), None, None))",
        "played",
    ),
    Probe("the first process's memory", "processes", "os.open(f'/proc/{first}/mem', os.O_RDWR)"),
    Probe("the first process's environment", "processes", "open(f'/proc/{first}/environ').read() or refuse('empty')"),
    Probe("the first process's root", "processes", "os.listdir(f'/proc/{first}/root')"),
    # --- network
    Probe(
        "an interface",
        "network",
        """
[name for _, name in socket.if_nameindex() if name != "lo"] or refuse("only loopback is there")
""",
        "played",
    ),
    Probe(
        "a way to a network",
        "network",
        """
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.1", 9))
""",
        "played",
    ),
    Probe(
        "an abstract socket of the host",
        "network",
        """
names = [line.split()[-1] for line in open("/proc/net/unix") if " @" in line]
names or refuse("none is to be seen")
""",
        "played",
    ),
)


def run(sandbox: Sandbox) -> Iterator[Finding]:
    """Runs all in a sandbox, and gives what became of each as it ends.

    Raises:
        SandboxError: they could not be run.
    """
    bodies = json.dumps([probe.body for probe in PROBES])
    result = sandbox.exec(["python3", "-I", "-c", _RUNNER], stdin=bodies, timeout=60)
    found: list[Any] = [json.loads(line) for line in result.stdout.splitlines()]
    if [number for number, _, _ in found] != list(range(len(PROBES))):
        told = (result.stderr.strip().splitlines() or [f"exit code {result.exit_code}"])[-1]
        raise SandboxError(f"the probes did not run to their end: {told}")
    for number, reached, why in found:
        yield Finding(PROBES[number], reached, why)
