"""User code has no capability and can get none; what only a capability protects stays shut."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandcove import Sandbox
from tests.security.probes import NEEDS_ROOT, inside, outside

STATUS = "cat /proc/self/status"
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
# The third argument of mount(2) and friends: flags as in mount(2).
KERNEL = {
    "a user namespace": "call(libc.unshare(0x10000000))",
    "a mount namespace": "call(libc.unshare(0x00020000))",
    "a PID namespace": "call(libc.unshare(0x20000000))",
    "a network namespace": "call(libc.unshare(0x40000000))",
    "a user namespace by clone": """
pid = call(libc.syscall(56, 0x10000000 | signal.SIGCHLD, None, None, None, None))
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
""",
    "a mount": "call(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None))",
    "a bind mount": "call(libc.mount(b'/', b'/mnt', None, 0x1000, None))",
    "an unmount": "call(libc.umount2(b'/proc', 2))",
    "another root": "os.chroot('/tmp')",
    "a new mount by descriptor": "call(libc.syscall(428, -100, b'/', 1 | 0o2000000))",
    "a device": "os.mknod('/tmp/probe-device', stat.S_IFCHR | 0o600, os.makedev(1, 1))",
    "packets": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "another user": "os.setuid(12345)",
    "the host name": "socket.sethostname(socket.gethostname())",
    "a log of the kernel": "call(libc.klogctl(3, ctypes.create_string_buffer(16), 16))",
    "priority": "os.nice(-1)",
}
# Opened, never written to.
FILES = {
    "/proc/sys/kernel/core_pattern": os.O_WRONLY,
    "/proc/sys/kernel/hostname": os.O_WRONLY,
    "/proc/sys/vm/drop_caches": os.O_WRONLY,
    "/proc/sys/vm/overcommit_memory": os.O_WRONLY,
    "/proc/sysrq-trigger": os.O_WRONLY,
    "/proc/irq/default_smp_affinity": os.O_WRONLY,
    "/proc/timer_list": os.O_RDONLY,
    "/proc/kpageflags": os.O_RDONLY,
    "/proc/kmsg": os.O_RDONLY,
    "/proc/kcore": os.O_RDONLY,
    "/proc/slabinfo": os.O_RDONLY,
    "/proc/interrupts": os.O_RDONLY,
    "/dev/kmsg": os.O_RDONLY,
    "/dev/mem": os.O_RDONLY,
}
SYSCTLS = """
for folder, _, files in os.walk("/proc/sys"):
    for name in files:
        try:
            os.close(os.open(f"{folder}/{name}", os.O_WRONLY))
        except OSError:
            continue
        say(f"{folder}/{name}")
if not said:
    refuse("none can be opened for writing")
"""
# TIOCSTI types into a terminal; the control has one of its own.
TYPE = "fcntl.ioctl(os.open('/dev/tty', os.O_RDWR), termios.TIOCSTI, b'x')"


def _of_status(text: str) -> dict[str, str]:
    return dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)


@pytest.fixture
def kinds(home: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """/proc/self/status of a program that was started in each way there is."""
    with Sandbox() as sandbox:
        isolated = sandbox.create_session("isolated", isolation=True)
        sandbox.exec("cp /bin/tar /bin/tar.real")
        script = f'#!/bin/sh\n{STATUS} > /workspace/by-tar\nexec /bin/tar.real "$@"\n'
        sandbox.write_file("/tmp/tar", script, mode=0o755)
        sandbox.exec("mv /tmp/tar $(readlink -f /bin/tar)")
        (tmp_path / "up").mkdir()
        sandbox.upload(tmp_path / "up", "/workspace/up")
        upload = sandbox.read_file("/workspace/by-tar")
        sandbox.download("/workspace/up", tmp_path / "down")
        events = sandbox.exec_stream(STATUS, timeout=20)
        yield {
            "command": sandbox.exec(STATUS).stdout,
            "list": sandbox.exec(["cat", "/proc/self/status"]).stdout,
            "the shell": sandbox.exec("cat /proc/$$/status").stdout,
            "the first process": sandbox.exec("cat /proc/1/status").stdout,
            "stream": "".join(event.data or "" for event in events if event.type == "stdout"),
            "isolated session": isolated.exec(STATUS).stdout,
            "its first process": isolated.exec("cat /proc/1/status").stdout,
            "tar of an upload": upload,
            "tar of a download": sandbox.read_file("/workspace/by-tar"),
        }


@NEEDS_ROOT
def test_no_process_has_a_capability(kinds: dict[str, str]) -> None:
    for kind, text in kinds.items():
        status = _of_status(text)
        held = {name: status[name] for name in CAPABILITIES if int(status[name], 16)}
        assert not held, f"{kind} has {held}"
        assert status["NoNewPrivs"] == "1", kind
        assert status["Seccomp"] == "2", kind
    unheld = _of_status(Path("/proc/self/status").read_text())
    assert int(unheld["CapEff"], 16)
    assert unheld["NoNewPrivs"] == "0"


@NEEDS_ROOT
@pytest.mark.parametrize("what", KERNEL)
def test_a_privileged_call(cell: Sandbox, what: str) -> None:
    assert not inside(cell, KERNEL[what]).reached
    with_mounts = ["unshare", "--mount", "--uts", "--propagation", "private", "--"]
    assert outside(KERNEL[what], wrap=with_mounts).reached
    Path("/tmp/probe-device").unlink(missing_ok=True)


@NEEDS_ROOT
@pytest.mark.parametrize("path", FILES)
def test_a_file_of_the_kernel(cell: Sandbox, path: str) -> None:
    flags = FILES[path]
    attempt = """
status = os.fstat(os.open(args[0], int(args[1])))
stat.S_ISREG(status.st_mode) or "dev" in args[0] or refuse("something lies over it")
"""
    assert not inside(cell, attempt, path, flags).reached
    if os.path.exists(path):
        assert outside(attempt, path, flags).reached


@NEEDS_ROOT
def test_no_sysctl_can_be_written(cell: Sandbox) -> None:
    assert inside(cell, SYSCTLS).said == []
    isolated = cell.create_session("sysctls", isolation=True)
    assert inside(isolated, SYSCTLS).said == []
    assert "/proc/sys/kernel/core_pattern" in outside(SYSCTLS).said


@NEEDS_ROOT
@pytest.mark.parametrize("name", ["null", "zero", "full", "random", "urandom", "tty"])
def test_the_devices_are_the_hosts_and_stay_as_they_are(cell: Sandbox, name: str) -> None:
    """Their mode is set to what it is: the host does not change even where the probe gets there."""
    change = "os.chmod(args[0], stat.S_IMODE(os.stat(args[0]).st_mode))"
    touch = "os.utime(args[0], ns=(os.stat(args[0]).st_atime_ns, os.stat(args[0]).st_mtime_ns))"
    for probe in (change, touch):
        assert not inside(cell, probe, f"/dev/{name}").reached
        assert outside(probe, f"/dev/{name}").reached
    if name not in ("tty", "full"):
        assert inside(cell, "os.write(os.open(args[0], os.O_WRONLY), b'x')", f"/dev/{name}").reached, "it works"


@NEEDS_ROOT
def test_a_setuid_program_gains_nothing(cell: Sandbox, tmp_path: Path) -> None:
    cell.exec("cp /bin/cat /tmp/setuid && chown 0:0 /tmp/setuid && chmod 6755 /tmp/setuid")
    assert int(_of_status(cell.exec(["/tmp/setuid", "/proc/self/status"]).stdout)["CapEff"], 16) == 0
    mounts = [line.split() for line in cell.exec("cat /proc/self/mounts").stdout.splitlines()]
    assert mounts and all("nosuid" in options.split(",") for _, _, _, options, *_ in mounts)
    # The control: where set-uid counts, an ordinary user becomes root by it.
    program = Path(shutil.copy("/bin/cat", f"/var/tmp/{tmp_path.name}-setuid"))
    try:
        program.chmod(0o4755)
        user = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
        gained = subprocess.run([*user, program, "/proc/self/status"], capture_output=True, text=True, check=True)
        assert int(_of_status(gained.stdout)["CapEff"], 16)
    finally:
        program.unlink()


@NEEDS_ROOT
def test_nothing_can_be_typed_into_a_terminal(cell: Sandbox) -> None:
    assert not inside(cell, TYPE).reached
    with_terminal = f"""
import pty
pid, master = pty.fork()
if pid == 0:
    {TYPE}
    os._exit(0)
try:
    os.read(master, 16)
except OSError:
    pass
os._exit(1) if os.waitpid(pid, 0)[1] else None
"""
    assert outside(with_terminal).reached
