"""Time that is over: a sandbox that nobody uses sleeps (an anonymous one is destroyed), one that has lived as long as
it may is destroyed, an unused server stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence

from sandcove.asgi import Listener
from sandcove.errors import SandboxError
from sandcove.server.lifecycle import Sandbox, Sandboxes
from sandcove.server.ports import Ports
from sandcove.server.questions import activity

__all__ = ["end_lives", "reap", "wait_until_idle"]

LONGEST_WAIT = 30.0
"""Seconds after which times to live are looked at again at the latest: the machine may have been suspended."""
MOST_LOOKS = 32
"""Sandboxes that are looked at at once: one whose agent does not answer holds no other up."""
PAUSE = 1.0
"""Seconds until a sandbox that was in use, or could not be put to sleep, is looked at again at the earliest."""
SHORT_PAUSE = 0.1
"""The same of one that was not in use, but not for long enough."""
TRY_AGAIN = 5.0
"""Seconds until what could not be destroyed is tried again."""

_log = logging.getLogger("sandcove.server")


async def reap(sandboxes: Sandboxes) -> None:
    """Runs until cancelled. Each sandbox is looked at when it could be due, not more often.

    The agent knows when its sandbox was last in use (callers on this machine talk to it directly), so it is asked.
    """
    due: dict[Sandbox, float] = {}
    looking: set[Sandbox] = set()
    side_by_side = asyncio.Semaphore(MOST_LOOKS)

    async def look(sandbox: Sandbox) -> None:
        async with side_by_side:
            due[sandbox] = time.monotonic() + await _look(sandboxes, sandbox)
        looking.discard(sandbox)
        sandboxes.changed.set()

    async with asyncio.TaskGroup() as group:
        while True:
            sandboxes.changed.clear()
            now = time.monotonic()
            running = {s for s in sandboxes.running() if s.record.sleep_after > 0 and not s.record.keep_alive}
            for gone in due.keys() - running:
                del due[gone]
            for sandbox in running - looking:
                limit = sandbox.record.sleep_after / 1000
                # It may be less than it was at the last look.
                due[sandbox] = min(due.get(sandbox, now + limit), now + max(limit, PAUSE))
                if due[sandbox] <= now:
                    looking.add(sandbox)
                    group.create_task(look(sandbox))
            timeout = min((due[s] for s in running - looking), default=now + 3600) - time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.001, timeout)):
                    await sandboxes.changed.wait()


async def _look(sandboxes: Sandboxes, sandbox: Sandbox) -> float:
    """Ends the sandbox's room if it is due; gives the seconds until the next look."""
    limit = sandbox.record.sleep_after / 1000
    try:
        told = await activity(sandbox.socket)
        if not (told.busy or sandbox.in_use or sandbox.record.keep_alive):
            idle = min(told.idle / 1000, sandbox.unused)
            if idle < limit:
                return max(limit - idle, SHORT_PAUSE)
            if sandbox.record.anonymous:
                await sandboxes.destroy(sandbox)
            else:
                await sandboxes.sleep(sandbox, if_idle=sandbox.record.sleep_after)
    except Exception as error:  # noqa: BLE001 - one sandbox ends no other's server
        _warn("sandbox %s could not be looked at, or not put to sleep: %s", sandbox, error)
    return max(limit, PAUSE)


async def end_lives(sandboxes: Sandboxes) -> None:
    """Runs until cancelled: destroys each sandbox when its time to live is over."""
    ending: set[Sandbox] = set()
    async with asyncio.TaskGroup() as group:
        while True:
            sandboxes.lives_changed.clear()
            timeout = LONGEST_WAIT
            for sandbox, left in sandboxes.lives():
                if left > 0:
                    timeout = min(timeout, left)
                elif sandbox not in ending:
                    ending.add(sandbox)
                    group.create_task(_end_life(sandboxes, sandbox, ending))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout + 0.001):
                    await sandboxes.lives_changed.wait()


async def _end_life(sandboxes: Sandboxes, sandbox: Sandbox, ending: set[Sandbox]) -> None:
    try:
        await sandboxes.destroy(sandbox, if_over=True)
    except Exception as error:  # noqa: BLE001 - as in `_look`
        _warn("sandbox %s, whose time is over, could not be destroyed: %s", sandbox, error)
        await asyncio.sleep(TRY_AGAIN)
    ending.discard(sandbox)
    sandboxes.lives_changed.set()


def _warn(message: str, sandbox: Sandbox, error: Exception) -> None:
    expected = isinstance(error, SandboxError | OSError)
    _log.warning(message, sandbox.record.uid, error, exc_info=None if expected else error)


async def wait_until_idle(sandboxes: Sandboxes, listeners: Sequence[Listener], ports: Ports, seconds: float) -> None:
    """Returns when for `seconds` no sandbox has run, no connection was open and no port exposed: a preview wakes its
    sandbox, which takes a server."""
    step = min(seconds / 4, 15.0)
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < seconds:
        await asyncio.sleep(step)
        if sandboxes.running() or any(listener.connections for listener in listeners) or ports.any:
            idle_since = time.monotonic()
