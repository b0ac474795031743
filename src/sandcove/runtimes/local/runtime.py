"""Opens rooms on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import socket
import sys
from itertools import chain
from pathlib import Path

import msgspec

from sandcove import linux
from sandcove.errors import HostUnsupportedError, SandboxError, ServiceUnavailableError
from sandcove.home import Home
from sandcove.runtimes.base import RoomSpec
from sandcove.runtimes.local.build import OPEN_TIMEOUT, Builder
from sandcove.runtimes.local.cgroups import Cgroups
from sandcove.runtimes.local.copied import check_copied, copied_folders
from sandcove.runtimes.local.disk import DiskWatch
from sandcove.runtimes.local.limits import confine_of, mechanisms
from sandcove.runtimes.local.packages import DPKG
from sandcove.runtimes.local.plan import (
    ROOT_LINKS,
    HostPython,
    plan_room,
    search_path,
)
from sandcove.runtimes.local.remains import end_rooms
from sandcove.runtimes.local.reserve import Reserve, check_descriptors
from sandcove.runtimes.local.room import LocalRoom
from sandcove.runtimes.local.template import make_etc
from sandcove.runtimes.local.trial_folder import clear_left
from sandcove.runtimes.local.zygote import AGENTS, KERNELS, Zygote, receive
from sandcove.trees import delete_tree
from sandcove.wire.limits import NO_LIMITS, ResourceLimits
from sandcove.wire.models import Isolation

__all__ = ["LocalRuntime"]

_log = logging.getLogger("sandcove.runtime")

MOST_REQUESTS = 1024
"""Requests for kernels that wait for the zygote, which may still be starting."""
MOST_OF_A_ROOM = 64
"""Those of one room. They are made one after the other, so that other rooms' are made between them."""


class LocalRuntime:
    """Rooms by bubblewrap, agents and Python kernels by zygotes; that of the kernels starts when one is first wanted.

    Args:
        home: where templates are kept.
        zygote: that of the agents, spawned already.
        limits: what rooms may use that are made ahead: those that most sandboxes will have.
        cgroups: ``off``: control groups are not used.
        disk_reserve: bytes of the disk that are kept free; -1: see `reserve`.
    """

    name = "local"

    def __init__(
        self,
        home: Home,
        zygote: Zygote | None = None,
        *,
        limits: ResourceLimits = NO_LIMITS,
        cgroups: str = "auto",
        disk_reserve: int = 0,
    ) -> None:
        self._home = home
        self._limits = limits
        self._use_cgroups = cgroups != "off"
        self._cgroups = Cgroups.off("the setting `cgroups` is off")
        self.zygote = zygote or Zygote(home.path, AGENTS)
        self._kernels = Zygote(home.path, KERNELS)
        self._requests: set[asyncio.Task[None]] = set()
        self._python = HostPython(sys.prefix, sys.base_prefix)
        self._builder = Builder()
        self._etc = Path()
        self._copied: list[str] = []
        self._rooms: set[LocalRoom] = set()
        self._spare: asyncio.Future[LocalRoom | None] | None = None
        self._closed = False
        self._disk = DiskWatch(home.path, self._running)
        self._reserve = Reserve(home.path, disk_reserve, self._running)

    async def start(self) -> None:
        self.zygote.start()
        await end_rooms(str(self._home.path))
        for left in self._home.spare.iterdir():
            await self.delete(left)
        clear_left(self._home.path)
        if self._use_cgroups:
            self._cgroups = Cgroups.find(self._home.path)
            if self._cgroups.why:
                _log.warning("limits without control groups: %s", self._cgroups.why)
        homes = (self._home.sandboxes, self._home.trash)
        self._builder.start(chain.from_iterable(at.glob(f"*/{name}") for at in homes for name in ("root", "layers")))
        self._etc = make_etc(self._home.templates)
        folders = [name for name in ROOT_LINKS if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}")]
        self._copied = copied_folders(self._python, folders)
        if self._builder.mapped and os.path.isdir(DPKG):
            # Without it what the host's root owns can't be changed, and nothing be installed.
            self._copied.append(DPKG)
        check_copied(self._copied, self._home.path)
        self._disk.start()
        self._reserve.start()
        self._spare = asyncio.ensure_future(self._make_spare())

    async def open(self, spec: RoomSpec) -> LocalRoom:
        """Opens a room; for a new sandbox the one made ahead, if there is one, and then makes the next ahead."""
        check_descriptors()
        room = None
        if not spec.folder.exists():
            self._reserve.check()
            room = await self._take_spare(spec)
        if room is None:
            room = await self._open(spec)
        if self._spare is None and not self._closed:
            self._spare = asyncio.ensure_future(self._make_spare())
        return room

    def _running(self) -> list[LocalRoom]:
        return [room for room in self._rooms if not room.ended.done()]

    async def _make_spare(self) -> LocalRoom | None:
        name = secrets.token_hex(8)
        spec = RoomSpec(name, self._home.spare / name, self._home.run / f"spare-{name}.sock", self._limits)
        try:
            return await self._open(spec)
        except BaseException as error:
            await self.delete(spec.folder)
            if not isinstance(error, SandboxError):
                raise
            _log.warning("no room could be made ahead: %s", error)
            return None

    async def _take_spare(self, spec: RoomSpec) -> LocalRoom | None:
        making, self._spare = self._spare, None
        if making is None:
            return None
        try:
            room = await asyncio.shield(making)
        except asyncio.CancelledError:
            # The caller has left; the room is still to be had.
            self._spare = making
            raise
        if room is None or room.ended.done():
            return None
        if not room.fits(spec.limits):
            self._spare = making
            return None
        room.set_limits(spec.limits)
        os.rename(room.spec.socket, spec.socket)
        os.rename(room.spec.folder, spec.folder)
        room.spec = spec
        return room

    async def _open(self, spec: RoomSpec) -> LocalRoom:
        """Opens a room, again if the zygote died on the way."""
        zygote = self.zygote.pid
        try:
            return await self._open_once(spec)
        except (ConnectionError, HostUnsupportedError) as error:
            if self.zygote.pid != zygote:
                return await self._open_once(spec)
            if isinstance(error, HostUnsupportedError):
                raise
            raise ServiceUnavailableError(f"the zygote ended ({error}); call again", retryAfter=1) from None
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise ServiceUnavailableError(
                f"the sandbox's room can't be made: {error}" + ("; free some disk space" if full else ""), begun=False
            ) from None

    async def _open_once(self, spec: RoomSpec) -> LocalRoom:
        confine, mapped = confine_of(spec.limits, self._cgroups), self._builder.mapped
        plan = plan_room(spec.folder, self._etc, self._copied, search_path(self._python), confine, mapped=mapped)
        user = await self._builder.make_folders(plan)
        room = LocalRoom(spec, self._isolation(user), self._cgroups, self._mechanisms(user))
        self._rooms.add(room)
        room.ended.add_done_callback(lambda _: self._rooms.discard(room))
        channel: socket.socket | None = None
        try:
            channel = await self._fork_agent(spec)
            pidfd, mounts = await self._builder.build(plan, user, room.hold)
            try:
                room.stands(pidfd, user)
                entry, fds = plan.entry, [pidfd, *mounts]
                if (group := room.group) is not None:
                    oom = [group.oom] if group.oom >= 0 else []
                    counts = (len(group.enter), len(group.enter_agent), len(oom))
                    entry = msgspec.structs.replace(entry, groups=counts)
                    fds += [*group.enter, *group.enter_agent, *oom]
                socket.send_fds(channel, [msgspec.json.encode(entry)], fds)
            finally:
                for mount in mounts:
                    os.close(mount)
            word, way_out = await receive(channel, OPEN_TIMEOUT)
            if way_out is not None:
                room.hold_way_out(socket.socket(fileno=way_out))
                word, _ = await receive(channel, OPEN_TIMEOUT)
            if word != b"ready":
                reason = word.decode(errors="replace") or "it ended while it started; see agent.log"
                raise HostUnsupportedError(f"the agent could not enter its room: {reason}; run sandcove doctor")
            room.watch_agent(channel, lambda fds: self._on_kernel_request(room, fds))
        except BaseException:
            if channel is not None:
                channel.close()
            await room.discard()
            raise
        return room

    def _on_kernel_request(self, room: LocalRoom, fds: list[int]) -> None:
        if self._closed or len(self._requests) >= MOST_REQUESTS or room.kernels_wanted >= MOST_OF_A_ROOM:
            linux.close_at_once(fds)
            return
        room.kernels_wanted += 1
        task = asyncio.ensure_future(self._fork_kernel(room, fds))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _fork_kernel(self, room: LocalRoom, fds: list[int]) -> None:
        """Has a kernel forked. If that can't be done its descriptors just close, and its agent starts one by itself."""
        try:
            async with room.kernel_turn:
                await self._kernels.ready()
                if room.ended.done():
                    return
                forked = await self._kernels.fork(*fds, *([] if room.group is None else room.group.enter))
                await asyncio.wait((forked,))
        except SandboxError as error:
            _log.warning("no kernel could be forked: %s", error)
        finally:
            room.kernels_wanted -= 1
            linux.close_at_once(fds)

    async def delete(self, folder: Path) -> None:
        """Moves the folder into the trash at once, and deletes it there off the loop."""
        if not folder.exists():
            return
        root = folder / "root"
        owner = self._builder.owner(root)
        place = self._home.trash / f"{folder.name}.{os.urandom(6).hex()}"
        os.rename(folder, place)
        try:
            await asyncio.to_thread(delete_tree, place)
        except OSError as error:
            _log.warning("%s could not be deleted: %s; it is tried again at the next start", place, error)
            return
        self._builder.forget(owner)

    async def close(self) -> None:
        self._closed = True
        await self._reserve.close()
        await self._disk.close()
        if self._spare is not None:
            # One that is still being made is given up.
            self._spare.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                if (spare := await self._spare) is not None:
                    await spare.end()
                    await self.delete(spare.spec.folder)
        await asyncio.gather(*(room.end() for room in list(self._rooms)))
        self.zygote.close()
        self._kernels.close()
        self._cgroups.close()
        for request in list(self._requests):
            request.cancel()
        self._builder.close()

    async def _fork_agent(self, spec: RoomSpec) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs, contextlib.ExitStack() as passed, contextlib.ExitStack() as failed:
            failed.callback(ours.close)
            listener = passed.enter_context(_listen(spec.socket))
            memory_fd = os.open(spec.folder / "memory", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            passed.callback(os.close, memory_fd)
            log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            log_fd = os.open(spec.folder / "agent.log", log_flags, 0o600)
            passed.callback(os.close, log_fd)
            await self.zygote.fork(theirs.fileno(), listener.fileno(), memory_fd, log_fd)
            failed.pop_all()
            return ours

    def _isolation(self, user: int) -> Isolation:
        return Isolation(
            user_namespace=True,
            network="loopback",
            copy_on_write=self._copied,
            host_user="root" if user == 0 else str(user),
            system_calls="filtered",
            limits=self._cgroups.name,
        )

    def _mechanisms(self, user: int) -> dict[str, str]:
        return mechanisms(self._cgroups.version, self._cgroups, root=user == 0, disk="measured")


def _listen(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(linux.BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
