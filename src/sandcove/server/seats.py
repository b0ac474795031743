"""At most so many sandboxes are awake at once: for one more the one that nobody has used for longest goes to sleep."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from sandcove.errors import SandboxError, SandboxNotFoundError, ServiceUnavailableError
from sandcove.server.questions import activity
from sandcove.server.sandbox import Sandbox
from sandcove.server.states import State

__all__ = ["Seats"]

LEAST_IDLE = 1.0
"""Seconds that a sandbox has not been in use before it sleeps for another."""
ANSWER_WITHIN = 1.0
"""Seconds."""
_AWAKE = (State.STARTING, State.RUNNING, State.SLEEPING)


class Seats:
    """The seats of a server.

    Args:
        most: how many there are; 0: as many as are wanted.
        all: gives every sandbox.
        sleep: puts one to sleep that has been idle for so many milliseconds, or leaves it as it is.
    """

    def __init__(
        self, most: int, all: Callable[[], list[Sandbox]], sleep: Callable[[Sandbox, int], Awaitable[None]]
    ) -> None:
        self._most = most
        self._all = all
        self._sleep = sleep
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A seat is free; in the block, which waits for nothing, it is taken.

        Raises:
            ServiceUnavailableError: none is, and nobody can be put to sleep.
        """
        if not self._most:
            yield
            return
        async with self._lock:
            await self._free_one()
            yield

    async def _free_one(self) -> None:
        tried: set[Sandbox] = set()
        while True:
            awake = [sandbox for sandbox in self._all() if sandbox.state in _AWAKE]
            if len(awake) < self._most:
                return
            ending = [s.room.ended for s in awake if s.state is State.SLEEPING and s.room is not None]
            if ending:
                # Not for their turns, which somebody may have that waits for a seat.
                await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
                continue
            found = await self._least_recently_used([s for s in awake if _may_sleep(s) and s not in tried])
            idle = LEAST_IDLE if found is None else found.unused
            if found is None or idle < LEAST_IDLE:
                raise ServiceUnavailableError(
                    f"{len(awake)} sandboxes are awake, as many as this server allows (most_alive), and none of them "
                    "can be put to sleep: each is in use, anonymous or kept alive; put one to sleep or destroy it, or "
                    "call again later",
                    begun=False,
                    retryAfter=round(max(LEAST_IDLE - idle, 0.05), 3) if found else 1.0,
                )
            tried.add(found)
            # Nobody wakes it just now, or it would be in use; so its turn is had without waiting for a seat.
            with contextlib.suppress(SandboxNotFoundError):
                # Less than a second: its agent reckons from another moment, and that one would not sleep but the next.
                await self._sleep(found, int(LEAST_IDLE * 900))

    async def _least_recently_used(self, sandboxes: list[Sandbox]) -> Sandbox | None:
        """Callers on this machine use sandboxes directly, so the agents are asked, but only those that it can be.

        What is known of a sandbox is that it was not used last before `used_at`: one that was asked and is still before
        all others is it.
        """
        asked: set[Sandbox] = set()
        while sandboxes:
            first = min(sandboxes, key=lambda sandbox: sandbox.used_at)
            if not _may_sleep(first):
                sandboxes.remove(first)
            elif first in asked:
                return first
            else:
                asked.add(first)
                before = time.monotonic()
                try:
                    told = await activity(first.socket, ANSWER_WITHIN)
                except SandboxError:
                    # The others are asked before it is asked again: everybody who wants a seat waits for the answer.
                    first.was_used(time.monotonic())
                    sandboxes.remove(first)
                    continue
                if told.busy:
                    sandboxes.remove(first)
                else:
                    first.was_used(before - told.idle / 1000)
        return None


def _may_sleep(sandbox: Sandbox) -> bool:
    record = sandbox.record
    return sandbox.state is State.RUNNING and not (record.keep_alive or record.anonymous or sandbox.in_use)
