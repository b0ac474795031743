"""A room on this machine: its processes as the server sees them, its agent's channel, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from sandcove import linux
from sandcove.errors import ConflictError, SandboxError
from sandcove.runtimes.base import ENDED, RoomSpec, Rule
from sandcove.runtimes.local.cgroups import Cgroups, Group
from sandcove.runtimes.local.dials import Dials
from sandcove.runtimes.local.limits import confine_of, fits
from sandcove.runtimes.local.network import RoomNetwork
from sandcove.runtimes.local.remains import sweep
from sandcove.wire.kernel import KERNEL_FDS, KERNEL_REQUEST
from sandcove.wire.limits import ResourceLimits, ResourceUsage
from sandcove.wire.models import Isolation

__all__ = ["LocalRoom"]

_log = logging.getLogger("sandcove.runtime")

KILL_AFTER = 2.0
"""Seconds that a room has to end by itself. Who was stopped (SIGSTOP) can't."""


class LocalRoom:
    """A room: bubblewrap's process outside, the holder as its first process, the agent in it.

    Attributes:
        group: the control groups of its user code.
        disk: bytes and number of its files when they were last measured.
        kernels_wanted: requests for kernels that are not done.
        kernel_turn: whose turn it is of these.
    """

    def __init__(self, spec: RoomSpec, isolation: Isolation, cgroups: Cgroups, limited_by: dict[str, str]) -> None:
        self.spec = spec
        self.isolation = isolation
        self.limits = spec.limits
        self.limited_by = limited_by
        self.lost: str | None = None
        self.group: Group | None = None
        self.disk: tuple[int, int] | None = None
        self.kernels_wanted = 0
        self.kernel_turn = asyncio.Lock()
        self._cgroups = cgroups
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._why = ENDED
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfds: set[int] = set()
        self._hold = -1
        self._channel: socket.socket | None = None
        self._way_out: socket.socket
        self._network: RoomNetwork | None = None
        self._network_turn = asyncio.Lock()
        self._dials: Dials

    async def connect(self, port: int, wait: float = 0.0) -> socket.socket:
        return await self._dials.connect(port, wait)

    def hold_way_out(self, listener: socket.socket) -> None:
        """The socket that listens inside is there, before any of the sandbox's code runs."""
        self._way_out = listener
        self.ended.add_done_callback(lambda _: listener.close())

    def way_out(self) -> socket.socket:
        return self._way_out.dup()

    def stands(self, pidfd: int, user: int) -> None:
        """Its first process runs, which ends when everything else in the room has; owned. `user`: see `RoomNetwork`."""
        self._network = RoomNetwork(linux.pid_of(pidfd), user, self.watch, self._on_network_end)
        self.watch(pidfd)

    async def set_network(self, rules: Sequence[Rule] | None) -> None:
        async with self._network_turn:
            network = self._network
            if network is None:
                return
            if rules is None:
                self.isolation = msgspec.structs.replace(self.isolation, network="loopback")
                await network.turn_off()
            elif not network.on:
                await network.turn_on(rules)
                self.isolation = msgspec.structs.replace(self.isolation, network="unfiltered")
            self.lost = None

    async def set_rules(self, rules: Sequence[Rule]) -> None:
        async with self._network_turn:
            if self._network is not None and self._network.on:
                await self._network.set_rules(rules)

    def _on_network_end(self) -> None:
        if self.isolation.network != "loopback":
            self.isolation = msgspec.structs.replace(self.isolation, network="loopback")
            if self._hold >= 0:
                self.lost = "it has no network any more: pasta ended; set its egress again, or let it sleep and wake"
                _log.warning("sandbox %s has no network any more: pasta ended", self.spec.sandbox_id)

    def set_limits(self, limits: ResourceLimits) -> None:
        if limits == self.limits:
            return
        if self.group is not None:
            try:
                self.group.set(limits)
            except OSError as error:
                with contextlib.suppress(OSError):
                    self.group.set(self.limits)
                used = self.group.usage().memory or 0
                raise ConflictError(
                    f"the limits can't be set ({error.strerror}); the sandbox uses {used:,} bytes of memory now, "
                    f"and shall have {limits.memory or 0:,} at most"
                ) from None
        self.limits = limits
        if self._channel is not None:
            with contextlib.suppress(OSError):  # it is ending
                self._channel.send(confine_of(limits, self._cgroups).encode(), socket.MSG_DONTWAIT)

    def usage(self) -> ResourceUsage:
        usage = ResourceUsage() if self.group is None else self.group.usage()
        if self.disk is not None:
            usage.disk, usage.inodes = self.disk
        return usage

    def fits(self, limits: ResourceLimits) -> bool:
        """It could be changed to have these."""
        return fits(confine_of(limits, self._cgroups), confine_of(self.limits, self._cgroups))

    @property
    def holds(self) -> bool:
        """Nobody has let it go."""
        return self._hold >= 0

    def user_namespaces(self) -> set[int]:
        """Those of its processes, by which they can be told from others where no group holds them."""
        found = set()
        for pidfd in self._pidfds:
            with contextlib.suppress(OSError):
                said = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
                pid = int(said.partition("\nPid:")[2].split()[0])
                found.add(os.stat(f"/proc/{pid}/ns/user").st_ino)
        return found - {os.stat("/proc/self/ns/user").st_ino}

    async def end(self) -> None:
        self.let_go(ENDED)
        await asyncio.shield(self.ended)

    def let_go(self, why: str) -> None:
        """Closes the holder's standard input: it ends, and the kernel kills everything else in the room."""
        if self._hold >= 0:
            self._why = why
            os.close(self._hold)
            self._hold = -1
            asyncio.get_running_loop().call_later(KILL_AFTER, self._kill)

    def _kill(self) -> None:
        for pidfd in self._pidfds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    async def discard(self) -> None:
        """Ends what there is of a room that did not open."""
        if self._process is not None:
            await self.end()
            sweep(str(self.spec.folder), os.getpid())
        elif not self.ended.done():
            self.spec.socket.unlink(missing_ok=True)
            self.ended.set_result("it did not open")

    def hold(self, process: subprocess.Popen[bytes], hold_fd: int) -> None:
        """The room's outer process runs: watch for its end, and make the control groups while it builds the room.

        Raises:
            SandboxError: these can't be made.
        """
        self._process = process
        self._hold = hold_fd
        self.watch(os.pidfd_open(process.pid))
        try:
            self.group = self._cgroups.make(self.limits)
        except OSError as error:
            raise SandboxError(f"the sandbox's limits can't be set: {error}") from None

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
                data, fds = linux.receive_fds(channel, 64, linux.MOST_PASSED)
            if data == KERNEL_REQUEST and len(fds) == KERNEL_FDS:
                on_request(fds)
                return
            if self._dials.on_message(data, fds):
                return
            if fds:
                linux.close_at_once(fds)
            if not data:
                asyncio.get_running_loop().remove_reader(channel.fileno())
                self._dials.end()
                ran_out = self.group is not None and self.group.agent_ran_out()
                how = "was killed: calls took more memory than it may have" if ran_out else "ended unexpectedly"
                self.let_go(f"its agent {how}; see agent.log in its folder")

    def _on_process_end(self, pidfd: int) -> None:
        assert self._process is not None
        loop = asyncio.get_running_loop()
        if self._network is not None:
            self._network.kill()
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
            linux.close_at_once([self._channel.detach()])
        with contextlib.suppress(FileNotFoundError):
            self.spec.socket.unlink()
        if self.group is not None:
            self._cgroups.remove(self.group)
            self.group = None
        if not self.ended.done():
            self.ended.set_result(self._why)
