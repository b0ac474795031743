"""Sandboxes by id, and what can happen to each: create, wake, sleep, destroy. One change of a sandbox at a time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import secrets
import socket
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from sandcove.errors import (
    ConflictError,
    ContainerNotReadyError,
    InvalidRequestError,
    QuotaExceededError,
    SandboxError,
    SandboxNotFoundError,
)
from sandcove.home import Home
from sandcove.runtimes.base import ENDED, Room, RoomSpec, Runtime
from sandcove.server.caller import LOCAL, Caller
from sandcove.server.limits import Bounds
from sandcove.server.registry import Record, Registry
from sandcove.server.relay import ask
from sandcove.server.states import State, move
from sandcove.wire.clock import timestamp
from sandcove.wire.keys import Limits
from sandcove.wire.limits import NO_LIMITS as NO_RESOURCE_LIMITS
from sandcove.wire.limits import ResourceLimits, ResourceUsage, combined
from sandcove.wire.models import CreateSandbox, Rest, SandboxInfo
from sandcove.wire.names import check_env, check_labels, check_sandbox_id

__all__ = ["Sandbox", "Sandboxes"]

MAX_SLEEP_AFTER = 10**12
"""Milliseconds: some thirty years."""

NO_LIMITS = Limits()

_log = logging.getLogger("sandcove.server")


class Sandbox:
    """One sandbox: its record, its agent's socket, and its room while it runs."""

    def __init__(self, record: Record, socket: Path) -> None:
        self.record = record
        self.socket = socket
        self.state = State.ASLEEP
        self.room: Room | None = None
        self.turn = asyncio.Lock()
        self.destroyed = asyncio.Event()
        self._uses = 0
        self._used_at = time.monotonic()

    def enter(self) -> None:
        """It is in use, by something that the agent knows nothing of, until `leave`."""
        self._uses += 1

    def leave(self) -> None:
        self._uses -= 1
        self._used_at = time.monotonic()

    @property
    def unused(self) -> float:
        """Seconds since the last `leave`; 0 while it is in use."""
        return 0.0 if self._uses else time.monotonic() - self._used_at

    def become(self, state: State) -> None:
        self.state = move(self.state, state)


class Sandboxes:
    """All of them."""

    def __init__(self, home: Home, runtime: Runtime, registry: Registry, sleep_after: float, bounds: Bounds) -> None:
        self._home = home
        self._runtime = runtime
        self._registry = registry
        self._bounds = bounds
        self._sleep_after = int(sleep_after * 1000)
        self._all: dict[tuple[str, str], Sandbox] = {}
        self._by_uid: dict[str, Sandbox] = {}
        self.changed = asyncio.Event()
        """Set when a sandbox starts or ends to run."""
        self.counts = Counter(created=0, woken=0, slept=0, destroyed=0)
        """What happened since the server's start, and how often."""

    async def restore(self) -> None:
        """After a start: named sandboxes are asleep; what was anonymous, half destroyed or unknown is removed."""
        for record in self._registry.all():
            if record.anonymous or record.destroying:
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
            raise SandboxNotFoundError(f"sandbox {sandbox_id!r} does not exist; create it first")
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

    def running(self) -> list[Sandbox]:
        return [s for s in self._all.values() if s.room is not None]

    def states(self) -> Counter[str]:
        """How many there are in each state."""
        return Counter(sandbox.state.value for sandbox in self._all.values())

    def info(self, sandbox: Sandbox, *, local: bool) -> SandboxInfo:
        """What a caller is told; `local`: it is on this machine and may talk to the agent directly."""
        record, room = sandbox.record, sandbox.room
        return SandboxInfo(
            id=record.id,
            tenant=record.tenant,
            state=sandbox.state.value,
            created_at=record.created_at,
            last_active_at=record.last_active_at,
            anonymous=record.anonymous,
            labels=record.labels,
            sleep_after=record.sleep_after,
            runtime=self._runtime.name,
            isolation=room.isolation if room is not None else None,
            agent_socket=str(sandbox.socket) if room is not None and local else None,
            note=record.note,
            limits=self._bounds.of_sandbox(record.limits),
            limited_by=room.limited_by if room is not None else {},
        )

    def usage(self, sandbox: Sandbox) -> ResourceUsage:
        """What it uses now."""
        return ResourceUsage() if sandbox.room is None else sandbox.room.usage()

    # --- changing ---------------------------------------------------------------------------------------

    async def get_or_create(self, spec: CreateSandbox, caller: Caller, limits: Limits) -> tuple[Sandbox, bool]:
        """The caller's sandbox of this id, awake, with the given labels, environment and idle time; whether it is new.

        Raises:
            InvalidRequestError, HostUnsupportedError, QuotaExceededError, SandboxError.
        """
        if spec.id is not None:
            check_sandbox_id(spec.id)
        check_labels(spec.labels or {})
        check_env(spec.env or {})
        if spec.sleep_after is not None and not 0 <= spec.sleep_after <= MAX_SLEEP_AFTER:
            raise InvalidRequestError(f"sleepAfter is {spec.sleep_after} ms; give 0 (never) to {MAX_SLEEP_AFTER}")
        while True:
            sandbox = None if spec.id is None else self._all.get((caller.tenant, spec.id))
            created = sandbox is None
            if sandbox is None:
                sandbox = self._add(spec, caller.tenant, limits)
            try:
                await self.wake(sandbox, limits)
                if spec.env:
                    await ask(sandbox.socket, "POST", "/api/env", {"env": spec.env})
            except SandboxNotFoundError:
                # It was destroyed while this call waited for it.
                continue
            except BaseException:
                if created:
                    await self.destroy(sandbox)
                raise
            if not created and spec.limits is not None:
                self.set_limits(sandbox, spec.limits, limits)
            if not created and (spec.labels is not None or spec.sleep_after is not None):
                self._change(sandbox, spec)
            return sandbox, created

    async def wake(self, sandbox: Sandbox, limits: Limits = NO_LIMITS) -> None:
        """Gives it a room if it has none; raises `QuotaExceededError` when its tenant has as many as it may."""
        async with sandbox.turn:
            _still_there(sandbox)
            if sandbox.room is not None:
                if _answers(sandbox.socket):
                    return
                # Its agent is gone, and the room about to follow.
                room = sandbox.room
                await room.end()
                why = room.ended.result()
                known = why != ENDED
                sandbox.record.note = why if known else "its agent ended unexpectedly; see agent.log in its folder"
            if sandbox.room is not None:
                sandbox.room = None
                sandbox.become(State.ASLEEP)
            tenant, uid = sandbox.record.tenant, sandbox.record.uid
            if limits.alive is not None:
                alive = sum(s.state is not State.ASLEEP for s in self._all.values() if s.record.tenant == tenant)
                if alive >= limits.alive:
                    raise QuotaExceededError(
                        f"tenant {tenant} has {alive} sandboxes awake and its key allows {limits.alive}; "
                        "put one to sleep or destroy it"
                    )
            sandbox.become(State.STARTING)
            allowed = self._bounds.of_sandbox(sandbox.record.limits)
            spec = RoomSpec(uid, self._home.sandbox(uid), sandbox.socket, allowed)
            try:
                room = await self._runtime.open(spec)
            except BaseException:
                sandbox.become(State.ASLEEP)
                raise
            sandbox.room = room
            sandbox.become(State.RUNNING)
            self.counts["woken"] += 1
            room.ended.add_done_callback(lambda ended: self._on_end(sandbox, room, ended.result()))
            self.touch(sandbox, note=sandbox.record.note)
            self.changed.set()

    def set_limits(self, sandbox: Sandbox, wanted: ResourceLimits, limits: Limits) -> None:
        """Changes what it may use, at once; `limits` are those of the caller's key.

        Raises:
            InvalidRequestError, QuotaExceededError: it may not have so much.
            ConflictError: it uses more already. Nothing has changed then.
        """
        _still_there(sandbox)
        # What the key leaves open is not made explicit here: the sandbox may be another key's.
        admitted = self._bounds.admit(wanted, limits).given()
        asked = ResourceLimits(**{name: admitted[name] for name in wanted.given()})  # type: ignore[arg-type]
        recorded = combined(asked, sandbox.record.limits)
        if sandbox.room is not None:
            sandbox.room.set_limits(self._bounds.of_sandbox(recorded))
        sandbox.record.limits = recorded
        self._registry.put(sandbox.record)

    async def connect(self, sandbox: Sandbox, port: int, wait: float) -> socket.socket:
        """A connection to what listens on a TCP port of it; wakes it.

        Args:
            wait: seconds to wait for something to listen.

        Raises:
            PortNotListeningError: nothing does.
            SandboxError: it can't be woken.
        """
        for last in (False, False, True):
            if sandbox.room is None:
                await self.wake(sandbox)
            room = sandbox.room
            try:
                if room is not None:
                    return await room.connect(port, wait)
            except ContainerNotReadyError:
                if last:
                    raise
                # If its room is ending this waits for the end.
                await self.wake(sandbox)
        raise ContainerNotReadyError(
            f"sandbox {sandbox.record.id!r} ends as soon as it starts; see agent.log in its folder"
        )

    async def sleep(self, sandbox: Sandbox, if_idle: int | None = None) -> None:
        """Ends its processes and its room; files, environment and sessions stay.

        With `if_idle` (ms) only if it has not been in use for so long: the agent decides, and takes no
        call from then on.
        """
        async with sandbox.turn:
            _still_there(sandbox)
            if if_idle is not None and sandbox.unused < if_idle / 1000:
                return
            if sandbox.room is not None:
                try:
                    await self._rest(sandbox, Rest(if_idle=if_idle))
                except ConflictError:
                    return
                except (SandboxError, OSError) as error:
                    _log.warning("sandbox %s is put to sleep unasked: %s", sandbox.record.uid, error)
                await self._end_room(sandbox)
                self.counts["slept"] += 1
                self.touch(sandbox, note=None)

    async def _rest(self, sandbox: Sandbox, rest: Rest) -> None:
        """Has the agent get ready for the end of its room, so that no caller's request gets lost in it."""
        aside = self._home.resting_socket(sandbox.record.uid)
        await ask(sandbox.socket, "POST", "/api/rest", rest)
        # Who comes later finds nobody, and asks this server to wake the sandbox; who came before is answered.
        sandbox.socket.rename(aside)
        try:
            await ask(aside, "POST", "/api/refuse")
        finally:
            aside.unlink()

    async def destroy(self, sandbox: Sandbox) -> None:
        """Ends it and deletes all of it. Repeating it is harmless."""
        async with sandbox.turn:
            if sandbox.state is State.DESTROYING:
                return
            sandbox.record.destroying = True
            self._registry.put(sandbox.record)
            if sandbox.room is not None:
                await self._end_room(sandbox)
            sandbox.become(State.DESTROYING)
            try:
                await self._runtime.delete(self._home.sandbox(sandbox.record.uid))
            finally:
                self._registry.remove(sandbox.record.uid)
                self._all.pop((sandbox.record.tenant, sandbox.record.id), None)
                self._by_uid.pop(sandbox.record.uid, None)
                self.counts["destroyed"] += 1
                sandbox.destroyed.set()

    def touch(self, sandbox: Sandbox, note: str | None) -> None:
        """Notes that it was active just now."""
        sandbox.record.last_active_at = timestamp()
        sandbox.record.note = note
        self._registry.put(sandbox.record)

    async def close(self) -> None:
        """Before the server ends: anonymous sandboxes are destroyed, the others put to sleep."""
        async with asyncio.TaskGroup() as group:
            for sandbox in list(self._all.values()):
                group.create_task(self._close_one(sandbox))

    async def _close_one(self, sandbox: Sandbox) -> None:
        try:
            if sandbox.record.anonymous:
                await self.destroy(sandbox)
            else:
                await self.sleep(sandbox)
        except SandboxError as error:
            _log.warning("sandbox %s did not close cleanly: %s", sandbox.record.uid, error)

    def _add(self, spec: CreateSandbox, tenant: str, limits: Limits) -> Sandbox:
        if limits.sandboxes is not None:
            count = sum(s.record.tenant == tenant for s in self._all.values())
            if count >= limits.sandboxes:
                raise QuotaExceededError(
                    f"tenant {tenant} has {count} sandboxes and its key allows {limits.sandboxes}; destroy one"
                )
        uid = spec.id if tenant == LOCAL.tenant and spec.id is not None else _made_up()
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
            limits=self._bounds.admit(spec.limits or NO_RESOURCE_LIMITS, limits),
        )
        self._registry.put(record)
        self.counts["created"] += 1
        return self._put(record)

    def _put(self, record: Record) -> Sandbox:
        sandbox = Sandbox(record, self._home.agent_socket(record.uid))
        self._all[record.tenant, record.id] = self._by_uid[record.uid] = sandbox
        return sandbox

    def _change(self, sandbox: Sandbox, spec: CreateSandbox) -> None:
        if spec.labels is not None:
            sandbox.record.labels = dict(spec.labels)
        if spec.sleep_after is not None:
            sandbox.record.sleep_after = spec.sleep_after
        self._registry.put(sandbox.record)
        self.changed.set()

    async def _end_room(self, sandbox: Sandbox) -> None:
        room = sandbox.room
        assert room is not None
        sandbox.become(State.SLEEPING)
        await room.end()
        if sandbox.state is State.SLEEPING:
            sandbox.room = None
            sandbox.become(State.ASLEEP)
        self.changed.set()

    def _on_end(self, sandbox: Sandbox, room: Room, why: str) -> None:
        if sandbox.room is not room:
            return
        sandbox.room = None
        self.changed.set()
        if sandbox.state is State.RUNNING:
            _log.warning("the room of sandbox %s is gone: %s", sandbox.record.uid, why)
            with contextlib.suppress(SandboxError):
                self.touch(sandbox, note=why)
        sandbox.become(State.ASLEEP)


def _made_up() -> str:
    return f"sb-{secrets.token_hex(8)}"


def _answers(path: Path) -> bool:
    """An agent listens on this socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) in (0, errno.EAGAIN)


def _still_there(sandbox: Sandbox) -> None:
    if sandbox.state is State.DESTROYING:
        raise SandboxNotFoundError(f"sandbox {sandbox.record.id!r} was destroyed")
