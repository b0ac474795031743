"""One sandbox, as the server holds it."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandcove.errors import ContainerNotReadyError, SandboxError, SandboxNotFoundError
from sandcove.runtimes.base import Room
from sandcove.server.agents import AgentSocket
from sandcove.server.registry import Record
from sandcove.server.states import State, move

__all__ = ["Sandbox"]


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

    @contextmanager
    def used(self) -> Iterator[None]:
        """It is in use meanwhile."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    @property
    def in_use(self) -> bool:
        """By something that the agent knows nothing of."""
        return self._uses > 0

    @property
    def used_at(self) -> float:
        """The monotonic time at which it was in use for the last time, as far as is known here."""
        return time.monotonic() if self._uses else self._used_at

    def was_used(self, at: float) -> None:
        """The agent says so."""
        self._used_at = max(self._used_at, at)

    @property
    def unused(self) -> float:
        """Seconds since the last `leave`; 0 while it is in use."""
        return 0.0 if self._uses else time.monotonic() - self._used_at

    def answers(self) -> bool:
        """Its agent listens on its socket."""
        with AgentSocket() as probe:
            probe.setblocking(False)
            return probe.connect_ex(str(self.socket)) in (0, errno.EAGAIN)

    def broken(self, error: Exception) -> SandboxError:
        """The error for a call in it that was cut off."""
        if self.record.destroying:
            return self.gone()
        return ContainerNotReadyError(f"the sandbox ended during the call ({error}); call again")

    def gone(self) -> SandboxNotFoundError:
        """The error for a call in it when it has been destroyed."""
        why = f": {self.record.note}" if self.record.note else ""
        return SandboxNotFoundError(f"sandbox {self.record.id!r} was destroyed{why}")

    def become(self, state: State) -> None:
        self.state = move(self.state, state)
