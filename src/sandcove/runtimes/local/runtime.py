"""Opens and ends rooms on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from sandcove import linux
from sandcove.errors import HostUnsupportedError, SandboxError, ServiceUnavailableError
from sandcove.home import Home
from sandcove.runtimes.base import RoomSpec
from sandcove.runtimes.local.build import OPEN_TIMEOUT, Builder
from sandcove.runtimes.local.dials import Dials
from sandcove.runtimes.local.plan import (
    ROOT_LINKS,
    HostPython,
    copied_folders,
    plan_room,
    search_path,
)
from sandcove.runtimes.local.template import make_etc
from sandcove.runtimes.local.zygote import AGENTS, KERNELS, Zygote, receive, sweep
from sandcove.trees import delete_tree
from sandcove.wire.kernel import KERNEL_FDS, KERNEL_REQUEST
from sandcove.wire.models import Isolation

__all__ = ["LocalRoom", "LocalRuntime"]

_log = logging.getLogger("sandcove.runtime")

MOST_REQUESTS = 256
"""Requests for kernels that wait for the zygote, which may still be starting."""


class LocalRoom:
    """A room: bubblewrap's process outside, the holder as its first process, the agent in it."""

    def __init__(self, spec: RoomSpec, isolation: Isolation) -> None:
        self.spec = spec
        self.isolation = isolation
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._why = "it was ended"
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfds: set[int] = set()
        self._hold = -1
        self._channel: socket.socket | None = None
        self._way_out: socket.socket
        self._dials: Dials

    async def connect(self, port: int, wait: float = 0.0) -> socket.socket:
        return await self._dials.connect(port, wait)

    def hold_way_out(self, listener: socket.socket) -> None:
        """The socket that listens inside is there, before any of the sandbox's code runs."""
        self._way_out = listener
        self.ended.add_done_callback(lambda _: listener.close())

    def way_out(self) -> socket.socket:
        return self._way_out.dup()

    async def end(self) -> None:
        self.let_go("it was ended")
        await asyncio.shield(self.ended)

    def let_go(self, why: str) -> None:
        """Closes the holder's standard input: it ends, and the kernel kills everything else in the room."""
        if self._hold >= 0:
            self._why = why
            os.close(self._hold)
            self._hold = -1

    async def discard(self) -> None:
        """Ends what there is of a room that did not open."""
        if self._process is not None:
            await self.end()
            sweep(str(self.spec.folder))
        elif not self.ended.done():
            self.ended.set_result("it did not open")

    def hold(self, process: subprocess.Popen[bytes], hold_fd: int) -> None:
        """The room's outer process runs; watch for its end."""
        self._process = process
        self._hold = hold_fd
        self.watch(os.pidfd_open(process.pid))

    def watch(self, pidfd: int) -> None:
        """The room has not ended before the process of this descriptor has; owned from here on."""
        self._pidfds.add(pidfd)
        asyncio.get_running_loop().add_reader(pidfd, self._on_process_end, pidfd)

    def watch_agent(self, channel: socket.socket, on_request: Callable[[list[int]], None]) -> None:
        """The agent runs; when its end of the channel closes, the room ends too.

        Args:
            on_request: called with the descriptors of each request for a Python kernel, which it owns from then on.
        """
        self._channel = channel
        self._dials = Dials(channel)
        asyncio.get_running_loop().add_reader(channel.fileno(), self._on_channel, channel, on_request)

    def _on_channel(self, channel: socket.socket, on_request: Callable[[list[int]], None]) -> None:
        with contextlib.suppress(BlockingIOError):
            data, fds = b"", list[int]()
            with contextlib.suppress(ConnectionError):
                data, fds = linux.receive_fds(channel, 64, KERNEL_FDS)
            if data == KERNEL_REQUEST and len(fds) == KERNEL_FDS:
                on_request(fds)
                return
            if self._dials.on_message(data, fds):
                return
            for fd in fds:
                os.close(fd)
            if not data:
                asyncio.get_running_loop().remove_reader(channel.fileno())
                self._dials.end()
                self.let_go("its agent ended unexpectedly; see agent.log in its folder")

    def _on_process_end(self, pidfd: int) -> None:
        assert self._process is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(pidfd)
        os.close(pidfd)
        self._pidfds.discard(pidfd)
        if self._pidfds:
            # Bubblewrap's process outside may end before the room has.
            return
        self._process.wait()
        if self._hold >= 0:
            self.let_go("its room was killed from outside")
        if self._channel is not None:
            loop.remove_reader(self._channel.fileno())
            self._dials.end()
            self._channel.close()
        with contextlib.suppress(FileNotFoundError):
            self.spec.socket.unlink()
        if not self.ended.done():
            self.ended.set_result(self._why)


class LocalRuntime:
    """Rooms by bubblewrap, agents and Python kernels by zygotes; that of the kernels starts when one is first wanted.

    Args:
        home: where templates are kept.
        zygote: that of the agents, spawned already.
    """

    name = "local"

    def __init__(self, home: Home, zygote: Zygote | None = None) -> None:
        self._home = home
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

    async def start(self) -> None:
        self.zygote.start()
        for left in self._home.spare.iterdir():
            await self.delete(left)
        self._builder.start(self._home.sandboxes.glob("*/root"))
        self._etc = make_etc(self._home.templates)
        folders = [name for name in ROOT_LINKS if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}")]
        self._copied = copied_folders(self._python, folders)
        self._check_copied()
        self._spare = asyncio.ensure_future(self._make_spare())

    def _check_copied(self) -> None:
        """What a room sees of the host must not be somebody's home folder, nor hold other sandboxes' files."""
        homes = {entry.pw_dir for entry in pwd.getpwall()} | {os.path.expanduser("~"), "/"}
        for folder in self._copied:
            if folder in homes - {"/usr", "/usr/sbin", "/bin", "/sbin"}:
                raise HostUnsupportedError(
                    f"Python's environment is {folder}, all of which sandboxes would see; "
                    "install Sandcove in a virtual environment in a folder of its own"
                )
            if self._home.path.resolve().is_relative_to(folder):
                raise HostUnsupportedError(
                    f"Sandcove's folder {self._home.path} is in {folder}, which sandboxes see; "
                    "set SANDCOVE_HOME to one elsewhere"
                )

    async def open(self, spec: RoomSpec) -> LocalRoom:
        """Opens a room; for a new sandbox the one made ahead, if there is one, and then makes the next ahead."""
        room = None if spec.folder.exists() else await self._take_spare(spec)
        if room is None:
            room = await self._open(spec)
        if self._spare is None and not self._closed:
            self._spare = asyncio.ensure_future(self._make_spare())
        return room

    async def _make_spare(self) -> LocalRoom | None:
        name = secrets.token_hex(8)
        spec = RoomSpec(name, self._home.spare / name, self._home.run / f"spare-{name}.sock")
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

    async def _open_once(self, spec: RoomSpec) -> LocalRoom:
        plan = plan_room(spec.folder, self._etc, self._copied, search_path(self._python), mapped=self._builder.mapped)
        user = await self._builder.make_folders(plan)
        room = LocalRoom(spec, self._isolation(user))
        self._rooms.add(room)
        room.ended.add_done_callback(lambda _: self._rooms.discard(room))
        channel: socket.socket | None = None
        try:
            channel = await self._fork_agent(spec)
            pidfd, mounts = await self._builder.build(plan, user, room.hold)
            try:
                # Its first process ends when everything else in the room has.
                room.watch(pidfd)
                socket.send_fds(channel, [msgspec.json.encode(plan.entry)], [pidfd, *mounts])
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
            room.watch_agent(channel, self._on_kernel_request)
        except BaseException:
            if channel is not None:
                channel.close()
            await room.discard()
            raise
        return room

    def _on_kernel_request(self, fds: list[int]) -> None:
        if self._closed or len(self._requests) >= MOST_REQUESTS:
            for fd in fds:
                os.close(fd)
            return
        task = asyncio.ensure_future(self._fork_kernel(fds))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _fork_kernel(self, fds: list[int]) -> None:
        """Has a kernel forked. If that can't be done its descriptors just close, and its agent starts one by itself."""
        try:
            await self._kernels.fork(*fds)
        except SandboxError as error:
            _log.warning("no kernel could be forked: %s", error)
        finally:
            for fd in fds:
                os.close(fd)

    async def delete(self, folder: Path) -> None:
        """Moves the folder into the trash at once, and deletes it there off the loop."""
        if not folder.exists():
            return
        self._builder.forget(folder / "root")
        place = self._home.trash / f"{folder.name}.{os.urandom(6).hex()}"
        os.rename(folder, place)
        try:
            await asyncio.to_thread(delete_tree, place)
        except OSError as error:
            _log.warning("%s could not be deleted: %s; it is tried again at the next start", place, error)

    async def close(self) -> None:
        self._closed = True
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
            limits="none",
        )


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
