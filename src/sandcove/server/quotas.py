"""What a key may have at most, and how fast its requests may come.

`sandboxes` and `alive` count what its tenant has; the lifecycle compares them in the very step in which it adds one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sandcove.errors import QuotaExceededError, RateLimitedError
from sandcove.server.caller import Caller
from sandcove.server.keys import Keys
from sandcove.wire.keys import Limits

__all__ = ["Counted", "Quotas", "Started"]

EXECS = frozenset({"execute", "execute/stream", "execute/code"})
"""The agent's routes that run a command or a cell, and answer when it has ended."""
STARTS = "process/start"
"""The one that starts a background process."""
_NONE = Limits()


class _Bucket:
    """Requests that may come now, and when that was so."""

    def __init__(self, size: float, now: float) -> None:
        self.tokens = size
        self.at = now


class Quotas:
    """Of all keys. `clock` gives seconds that never go back."""

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._execs: dict[str, int] = {}
        self._starts: dict[str, asyncio.Lock] = {}

    def of(self, caller: Caller) -> Limits:
        """The limits of its key, also where it holds a token that the key made."""
        return _NONE if caller.key is None else self._keys.still_good(caller.key).limits

    def take(self, key_id: str) -> None:
        """Counts one request of a key: a token bucket, which gets `rate` tokens a second, up to `burst`.

        Raises:
            RateLimitedError: it comes too early; says when it would not.
        """
        limits = self._keys.still_good(key_id).limits
        if limits.rate is None:
            return
        size = max(1.0, limits.rate) if limits.burst is None else float(limits.burst)
        now = self._clock()
        bucket = self._buckets.setdefault(key_id, _Bucket(size, now))
        bucket.tokens = min(size, bucket.tokens + (now - bucket.at) * limits.rate)
        bucket.at = now
        if bucket.tokens < 1:
            wait = (1 - bucket.tokens) / limits.rate
            raise RateLimitedError(
                f"key {key_id} may send {limits.rate:g} requests a second; wait {wait:.3g} s",
                retryAfter=round(wait + 0.0005, 3),
                begun=False,
            )
        bucket.tokens -= 1

    @contextmanager
    def running(self, caller: Caller) -> Iterator[None]:
        """Around a call that runs a command or a cell.

        Raises:
            QuotaExceededError: the key has as many that run as it may.
        """
        most = self.of(caller).execs
        if most is None or caller.key is None:
            yield
            return
        running = self._execs.get(caller.key, 0)
        if running >= most:
            raise QuotaExceededError(f"key {caller.key} may run {most} commands and cells at once, and does")
        self._execs[caller.key] = running + 1
        try:
            yield
        finally:
            left = self._execs[caller.key] - 1
            if left:
                self._execs[caller.key] = left
            else:
                del self._execs[caller.key]

    @asynccontextmanager
    async def starting(self, caller: Caller, count: Callable[[], Awaitable[int]]) -> AsyncIterator[None]:
        """Around a call that starts a background process.

        Args:
            count: gives how many run in the sandboxes of its tenant.

        Raises:
            QuotaExceededError: as many run as the key may have.
        """
        most = self.of(caller).execs
        if most is None:
            yield
            return
        # One after the other, so that none is missed in the count.
        async with self._starts.setdefault(caller.tenant, asyncio.Lock()):
            running = await count()
            if running >= most:
                raise QuotaExceededError(
                    f"tenant {caller.tenant} has {running} background processes and its key allows {most}; end one"
                )
            yield


class Started(Response):
    """An answer by which a background process of `caller` starts; `count` as for `Quotas.starting`."""

    def __init__(self, answer: Response, quotas: Quotas, caller: Caller, count: Callable[[], Awaitable[int]]) -> None:
        self._answer = answer
        self._quotas = quotas
        self._caller = caller
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._quotas.starting(self._caller, self._count):
            await self._answer(scope, receive, send)


class Counted(Response):
    """An answer that counts as a command of `caller` for as long as it takes."""

    def __init__(self, answer: Response, quotas: Quotas, caller: Caller) -> None:
        self._answer = answer
        self._quotas = quotas
        self._caller = caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._quotas.running(self._caller):
            await self._answer(scope, receive, send)
