"""Sandboxes by id, and what can happen to each: create, wake, sleep, destroy. One change of a sandbox at a time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from sandcove.errors import (
    ConflictError,
    ContainerNotReadyError,
    QuotaExceededError,
    SandboxError,
    SandboxNotFoundError,
    SecurityError,
    ServiceUnavailableError,
)
from sandcove.home import Home
from sandcove.runtimes.base import ENDED, Room, RoomSpec, Runtime
from sandcove.server.caller import LOCAL, Caller
from sandcove.server.config import Settings
from sandcove.server.egress.outlets import Outlets
from sandcove.server.grant import grant, hand_over, wanted_secrets
from sandcove.server.limits import Bounds
from sandcove.server.lives import Lives, over_since
from sandcove.server.questions import processes, quieten, rest, set_env
from sandcove.server.registry import Record, Registry
from sandcove.server.sandbox import Sandbox
from sandcove.server.seats import Seats
from sandcove.server.states import State
from sandcove.wire.clock import timestamp
from sandcove.wire.egress import Policy, parse_egress
from sandcove.wire.keys import Limits
from sandcove.wire.limits import ResourceLimits, ResourceUsage
from sandcove.wire.models import CreateSandbox, SandboxInfo
from sandcove.wire.names import check_env, check_labels, check_sandbox_id

__all__ = ["UNNAMED", "Sandbox", "Sandboxes"]

UNNAMED = (SecurityError, SandboxNotFoundError)
"""What a call may end in that names no sandbox of its caller."""

NO_LIMITS = Limits()
_log = logging.getLogger("sandcove.server")


class Sandboxes:
    """All of them."""

    def __init__(
        self, home: Home, runtime: Runtime, registry: Registry, settings: Settings, *, outlets: Outlets, bounds: Bounds
    ) -> None:
        self._home = home
        self._runtime = runtime
        self._registry = registry
        self.outlets = outlets
        self._bounds = bounds
        self._sleep_after = int(settings.sleep_after * 1000)
        self._lives = Lives(settings.longest_life)
        self._all: dict[tuple[str, str], Sandbox] = {}
        self._by_uid: dict[str, Sandbox] = {}
        self._seats = Seats(settings.most_alive, lambda: list(self._all.values()), self.sleep)
        self.changed = asyncio.Event()
        """Set when a sandbox starts or ends to run."""
        self.lives_changed = self._lives.changed
        self.counts = Counter(created=0, woken=0, slept=0, destroyed=0)
        """What happened since the server's start, and how often."""

    async def restore(self) -> None:
        """After a start: named sandboxes are asleep; what was anonymous, half destroyed, unknown or over is removed."""
        for record in self._registry.all():
            # One without files was on its way to be made, or half destroyed on a full disk.
            unfinished = record.destroying or not self._home.sandbox(record.uid).exists()
            if record.anonymous or unfinished or self._lives.is_over(record):
                if self._lives.is_over(record):
                    self._lives.remember(record)
                await self._runtime.delete(self._home.sandbox(record.uid))
                self._registry.remove(record.uid)
            else:
                self._put(record)
        for folder in self._home.sandboxes.iterdir():
            if folder.name not in self._by_uid:
                await self._runtime.delete(folder)

    # --- looking ----------------------------------------------------------------------------------------

    def get(self, sandbox_id: str, caller: Caller) -> Sandbox:
        """The caller's sandbox of this id; another tenant's is as if it did not exist.

        Raises:
            SandboxNotFoundError: there is none.
        """
        check_sandbox_id(sandbox_id)
        found = self._all.get((caller.tenant, sandbox_id))
        if found is None or caller.sandbox not in (None, found.record.uid):
            over = self._lives.why_gone(caller.tenant, sandbox_id) if found is None else None
            why = "does not exist" if over is None else f"was destroyed: {over}"
            raise SandboxNotFoundError(f"sandbox {sandbox_id!r} {why}; create it first")
        return found

    def of_uid(self, uid: str) -> Sandbox | None:
        """The sandbox of this uid, whosever it is."""
        return self._by_uid.get(uid)

    def find(self, labels: Mapping[str, str], tenant: str | None) -> list[Sandbox]:
        """Those of a tenant, or of all, that have all of these labels, oldest first."""
        found = [
            s
            for s in self._all.values()
            if tenant in (None, s.record.tenant) and labels.items() <= s.record.labels.items()
        ]
        return sorted(found, key=lambda s: (s.record.created_at, s.record.uid))

    def lives(self) -> list[tuple[Sandbox, float]]:
        """Those that have a time to live, and how many seconds are left of it."""
        found = ((sandbox, self._lives.left(sandbox.record)) for sandbox in self._all.values())
        return [(sandbox, left) for sandbox, left in found if left is not None]

    def running(self) -> list[Sandbox]:
        return [s for s in self._all.values() if s.room is not None]

    async def processes(self, tenant: str) -> int:
        """How many background processes run in all sandboxes of a tenant."""
        agents = [each.socket for each in self.running() if each.record.tenant == tenant]
        return sum(await asyncio.gather(*map(processes, agents)))

    def states(self) -> Counter[str]:
        """How many there are in each state."""
        return Counter(sandbox.state.value for sandbox in self._all.values())

    def info(self, sandbox: Sandbox, *, local: bool) -> SandboxInfo:
        """What a caller is told; `local`: it is on this machine and may talk to the agent directly."""
        record, room = sandbox.record, sandbox.room
        return SandboxInfo(
            id=record.id,
            tenant=record.tenant,
            state=State.DESTROYING.value if record.destroying else sandbox.state.value,
            created_at=record.created_at,
            last_active_at=record.last_active_at,
            anonymous=record.anonymous,
            labels=record.labels,
            sleep_after=record.sleep_after,
            keep_alive=record.keep_alive,
            expires_at=None if record.expires_at is None else timestamp(record.expires_at),
            runtime=self._runtime.name,
            isolation=room.isolation if room is not None else None,
            agent_socket=str(sandbox.socket) if room is not None and local else None,
            note=(room and room.lost) or record.note,
            egress=parse_egress(record.egress).value,
            limits=self._bounds.of_sandbox(record.limits),
            limited_by=room.limited_by if room is not None else {},
        )

    def usage(self, sandbox: Sandbox) -> ResourceUsage:
        """What it uses now."""
        return ResourceUsage() if sandbox.room is None else sandbox.room.usage()

    # --- changing ---------------------------------------------------------------------------------------

    async def get_or_create(self, spec: CreateSandbox, caller: Caller, limits: Limits) -> tuple[Sandbox, bool]:
        """The caller's sandbox of this id, awake, with the given labels, environment and times; whether it is new.

        Raises:
            InvalidRequestError, HostUnsupportedError, QuotaExceededError, SandboxError.
        """
        if spec.id is not None:
            check_sandbox_id(spec.id)
        check_labels(spec.labels or {})
        check_env(spec.env or {})
        secrets_ = wanted_secrets(spec)
        self._lives.check(spec)
        egress = None if spec.egress is None else self.outlets.check(spec.egress)
        self._bounds.admit(spec.limits, limits)
        while True:
            sandbox = None if spec.id is None else self._all.get((caller.tenant, spec.id))
            created = sandbox is None
            if sandbox is None:
                sandbox = self._add(spec, caller.tenant, limits, egress)
            try:
                await self.wake(sandbox, limits)
                if spec.env:
                    await set_env(sandbox.socket, spec.env)
                if secrets_:
                    await hand_over(sandbox, grant(self.outlets, sandbox, secrets_, egress))
                if spec.limits is not None and not created:
                    self.set_limits(sandbox, spec.limits, limits)
                if not created or (egress is not None and egress.unfiltered):
                    await self._change(sandbox, spec, egress)
            except BaseException as error:
                if isinstance(error, SandboxNotFoundError) and sandbox.state is State.DESTROYING:
                    # It was destroyed while this call waited for it.
                    continue
                if created:
                    await self.destroy(sandbox)
                raise
            return sandbox, created

    async def wake(self, sandbox: Sandbox, limits: Limits = NO_LIMITS) -> None:
        """Gives it a room if it has none; that counts as use.

        Raises:
            QuotaExceededError: its tenant has as many as it may.
            ServiceUnavailableError: the server has, and none of them can be put to sleep for it.
        """
        with sandbox.used():
            await self._wake(sandbox, limits)

    async def _wake(self, sandbox: Sandbox, limits: Limits) -> None:
        async with sandbox.turn:
            _still_there(sandbox)
            if sandbox.room is not None:
                if sandbox.answers():
                    return
                # Its agent is gone, and the room about to follow.
                room = sandbox.room
                await room.end()
                why = room.ended.result()
                known = why != ENDED
                sandbox.record.note = why if known else "its agent ended unexpectedly; see agent.log in its folder"
            if sandbox.room is not None:
                sandbox.room = None
                self.outlets.close(sandbox.record.uid)
                sandbox.become(State.ASLEEP)
            self._check_alive(sandbox.record.tenant, limits)
            async with self._seats.one():
                self._check_alive(sandbox.record.tenant, limits)
                sandbox.become(State.STARTING)
            uid = sandbox.record.uid
            allowed = self._bounds.of_sandbox(sandbox.record.limits)
            spec = RoomSpec(uid, self._home.sandbox(uid), sandbox.socket, allowed)
            record = sandbox.record
            try:
                room = await self._runtime.open(spec)
                lacks = await self.outlets.open(uid, record.tenant, record.id, record.egress, room)
            except BaseException:
                sandbox.become(State.ASLEEP)
                raise
            sandbox.room = room
            sandbox.become(State.RUNNING)
            self.counts["woken"] += 1
            room.ended.add_done_callback(lambda ended: self._on_end(sandbox, room, ended.result()))
            self.touch(sandbox, note=lacks or record.note)
            self.changed.set()

    def _check_alive(self, tenant: str, limits: Limits) -> None:
        if limits.alive is None:
            return
        alive = sum(s.state is not State.ASLEEP for s in self._all.values() if s.record.tenant == tenant)
        if alive >= limits.alive:
            raise QuotaExceededError(
                f"tenant {tenant} has {alive} sandboxes awake and its key allows {limits.alive}; "
                "put one to sleep or destroy it"
            )

    def set_limits(self, sandbox: Sandbox, wanted: ResourceLimits, limits: Limits) -> None:
        """Changes what it may use, at once; `limits` are those of the caller's key.

        Raises:
            InvalidRequestError, QuotaExceededError: it may not have so much.
            ConflictError: it uses more already. Nothing has changed then.
        """
        _still_there(sandbox)
        recorded = self._bounds.changed(sandbox.record.limits, wanted, limits)
        if sandbox.room is not None:
            sandbox.room.set_limits(self._bounds.of_sandbox(recorded))
        self._write(sandbox, limits=recorded)

    async def connect(
        self, sandbox: Sandbox, port: int, wait: float, limits: Callable[[], Limits] = Limits
    ) -> socket.socket:
        """A connection to what listens on a TCP port of it; wakes it.

        Args:
            wait: seconds to wait for something to listen.
            limits: gives those that a wake has to keep to.

        Raises:
            PortNotListeningError: nothing does.
            SandboxError: it can't be woken.
        """
        for last in (False, False, True):
            if sandbox.room is None:
                await self.wake(sandbox, limits())
            room = sandbox.room
            try:
                if room is not None:
                    return await room.connect(port, wait)
            except ContainerNotReadyError:
                if last:
                    raise
                # If its room is ending this waits for the end.
                await self.wake(sandbox, limits())
        raise ContainerNotReadyError(
            f"sandbox {sandbox.record.id!r} ends as soon as it starts; see agent.log in its folder"
        )

    async def sleep(self, sandbox: Sandbox, if_idle: int | None = None) -> None:
        """Ends its processes and its room; files, environment and sessions stay.

        With `if_idle` (ms) only if it is not kept alive and has not been in use for so long: the agent decides, and
        takes no call from then on.
        """
        async with sandbox.turn:
            _still_there(sandbox)
            if if_idle is not None and (sandbox.record.keep_alive or sandbox.unused < if_idle / 1000):
                return
            if sandbox.room is not None:
                try:
                    await rest(sandbox.socket, self._home.resting_socket(sandbox.record.uid), if_idle)
                except (SandboxError, OSError) as error:
                    if if_idle is not None and isinstance(error, ConflictError):
                        return
                    _log.warning("sandbox %s is put to sleep unasked: %s", sandbox.record.uid, error)
                await self._end_room(sandbox)
                self.counts["slept"] += 1
                self.touch(sandbox, note=None)

    async def destroy(self, sandbox: Sandbox, *, if_over: bool = False) -> None:
        """Ends it and deletes all of it. Repeating it is harmless. With `if_over` only if its time to live is over."""
        async with sandbox.turn:
            if sandbox.state is State.DESTROYING or (if_over and not self._lives.is_over(sandbox.record)):
                return
            try:
                self._registry.put(dataclasses.replace(sandbox.record, destroying=True))
            except ServiceUnavailableError as error:
                # It is how a full disk is made less full.
                _log.warning("sandbox %s is destroyed all the same: %s", sandbox.record.uid, error)
            sandbox.record.destroying = True
            if if_over:
                sandbox.record.note = over_since(sandbox.record)
                self._lives.remember(sandbox.record)
            if sandbox.room is not None:
                await self._end_room(sandbox)
            sandbox.become(State.DESTROYING)
            try:
                await self._runtime.delete(self._home.sandbox(sandbox.record.uid))
            finally:
                self._all.pop((sandbox.record.tenant, sandbox.record.id), None)
                self._by_uid.pop(sandbox.record.uid, None)
                self.outlets.forget(sandbox.record.uid)
                self._lives.ended(sandbox.record.uid)
                self.counts["destroyed"] += 1
                sandbox.destroyed.set()
                self._registry.remove(sandbox.record.uid)

    def set_time_to_live(self, sandbox: Sandbox, milliseconds: int) -> None:
        """It is destroyed so long from now; 0: it lives for good.

        Raises:
            InvalidRequestError: the server lets no sandbox live so long.
        """
        ends_at = self._lives.end_of(milliseconds)
        _still_there(sandbox)
        self._write(sandbox, expires_at=ends_at)
        self._lives.begin(sandbox.record)

    async def set_egress(self, sandbox: Sandbox, policy: Policy) -> None:
        """What it may reach, from now on.

        Raises:
            HostUnsupportedError: that can't be had here. Nothing has changed then.
        """
        async with sandbox.turn:
            _still_there(sandbox)
            before = sandbox.record.egress
            self._write(sandbox, egress=list(policy.words))
            try:
                await self.outlets.change(sandbox.record.uid, policy, sandbox.room)
            except BaseException:
                self._write(sandbox, egress=before)
                raise

    def touch(self, sandbox: Sandbox, note: str | None) -> None:
        """Notes that it was active just now; that may get lost."""
        sandbox.record.last_active_at = timestamp()
        sandbox.record.note = note
        with contextlib.suppress(ServiceUnavailableError):
            self._registry.put(sandbox.record)

    def _write(self, sandbox: Sandbox, **changes: Any) -> None:
        """Changes its record, if that can be written down."""
        self._registry.put(dataclasses.replace(sandbox.record, **changes))
        for name, value in changes.items():
            setattr(sandbox.record, name, value)

    async def quieten(self, seconds: float) -> None:
        """Returns when no call runs in any sandbox, or after so long. From here on none begins.

        Callers on this machine call agents directly, so only those know.
        """

        async def one(sandbox: Sandbox) -> None:
            with contextlib.suppress(SandboxError):  # it is ending, or does not answer
                await quieten(sandbox.socket, seconds)

        await asyncio.gather(*(one(each) for each in self.running()))

    async def close(self) -> None:
        """Before the server ends: anonymous sandboxes are destroyed, the others put to sleep."""
        async with asyncio.TaskGroup() as group:
            for sandbox in list(self._all.values()):
                group.create_task(self._close_one(sandbox))
        self._registry.write_off()

    async def _close_one(self, sandbox: Sandbox) -> None:
        try:
            if sandbox.record.anonymous:
                await self.destroy(sandbox)
            else:
                await self.sleep(sandbox)
        except SandboxError as error:
            _log.warning("sandbox %s did not close cleanly: %s", sandbox.record.uid, error)

    def _add(self, spec: CreateSandbox, tenant: str, limits: Limits, egress: Policy | None) -> Sandbox:
        if limits.sandboxes is not None:
            count = sum(s.record.tenant == tenant for s in self._all.values())
            if count >= limits.sandboxes:
                raise QuotaExceededError(
                    f"tenant {tenant} has {count} sandboxes and its key allows {limits.sandboxes}; destroy one"
                )
        uid = spec.id if tenant == LOCAL.tenant and spec.id is not None else f"sb-{secrets.token_hex(8)}"
        if uid in self._by_uid:
            raise ConflictError(f"sandbox id {uid!r} is in use; choose another")
        now = timestamp()
        record = Record(
            id=spec.id or uid,
            tenant=tenant,
            uid=uid,
            created_at=now,
            last_active_at=now,
            anonymous=spec.id is None,
            sleep_after=self._sleep_after if spec.sleep_after is None else spec.sleep_after,
            labels=dict(spec.labels or {}),
            keep_alive=bool(spec.keep_alive),
            expires_at=self._lives.end_of(spec.time_to_live),
            egress=list(egress.words) if egress is not None and not egress.unfiltered else [],
            limits=self._bounds.admit(spec.limits, limits),
        )
        self._registry.put(record)
        self._lives.begin(record)
        self.counts["created"] += 1
        return self._put(record)

    def _put(self, record: Record) -> Sandbox:
        sandbox = Sandbox(record, self._home.agent_socket(record.uid))
        self._all[record.tenant, record.id] = self._by_uid[record.uid] = sandbox
        return sandbox

    async def _change(self, sandbox: Sandbox, spec: CreateSandbox, egress: Policy | None) -> None:
        _still_there(sandbox)
        record = sandbox.record
        if egress is not None and list(egress.words) != record.egress:
            await self.set_egress(sandbox, egress)
        changes: dict[str, Any] = {
            "labels": None if spec.labels is None else dict(spec.labels),
            "sleep_after": spec.sleep_after,
            "keep_alive": spec.keep_alive,
        }
        changes = {name: v for name, v in changes.items() if v is not None and v != getattr(record, name)}
        if spec.time_to_live is not None:
            changes["expires_at"] = self._lives.end_of(spec.time_to_live)
        if changes:
            self._write(sandbox, **changes)
            self.changed.set()
            self._lives.begin(record)

    async def _end_room(self, sandbox: Sandbox) -> None:
        room = sandbox.room
        assert room is not None
        sandbox.become(State.SLEEPING)
        self.outlets.close(sandbox.record.uid)
        await room.end()
        if sandbox.state is State.SLEEPING:
            sandbox.room = None
            sandbox.become(State.ASLEEP)
        self.changed.set()

    def _on_end(self, sandbox: Sandbox, room: Room, why: str) -> None:
        if sandbox.room is not room:
            return
        sandbox.room = None
        self.outlets.close(sandbox.record.uid)
        self.changed.set()
        if sandbox.state is State.RUNNING:
            _log.warning("the room of sandbox %s is gone: %s", sandbox.record.uid, why)
            self.touch(sandbox, note=why)
        sandbox.become(State.ASLEEP)


def _still_there(sandbox: Sandbox) -> None:
    if sandbox.state is State.DESTROYING:
        raise sandbox.gone()
