"""How long sandboxes live, and which were destroyed because their time was over."""

from __future__ import annotations

import asyncio
import time

from sandcove.errors import InvalidRequestError
from sandcove.server.registry import Record
from sandcove.wire.clock import timestamp
from sandcove.wire.models import CreateSandbox

__all__ = ["Lives", "over_since"]

MAX_TIME = 10**12
"""Milliseconds: some thirty years."""
MOST_REMEMBERED = 1000
"""Sandboxes whose time is over: of so many whoever asks is told so."""


class Lives:
    """What a server says of times to live.

    Args:
        longest: seconds that a sandbox may live; 0: for good.

    Attributes:
        changed: set when a sandbox has got another time to live.
    """

    def __init__(self, longest: float) -> None:
        self._longest = int(longest * 1000)
        self._over: dict[tuple[str, str], str] = {}
        self._ends: dict[str, tuple[float, float]] = {}
        self.changed = asyncio.Event()

    def check(self, spec: CreateSandbox) -> None:
        """Raises `InvalidRequestError`: its times can't be had."""
        if spec.sleep_after is not None and not 0 <= spec.sleep_after <= MAX_TIME:
            raise InvalidRequestError(f"sleepAfter is {spec.sleep_after} ms; give 0 (never) to {MAX_TIME}")
        self.end_of(spec.time_to_live)

    def end_of(self, milliseconds: int | None) -> float | None:
        """When a life that begins now ends, in seconds since the epoch; None, for good.

        Raises:
            InvalidRequestError: this server lets no sandbox live so long.
        """
        longest = self._longest
        if milliseconds is None:
            milliseconds = longest
        if not 0 <= milliseconds <= MAX_TIME:
            raise InvalidRequestError(f"timeToLive is {milliseconds} ms; give 0 (for good) to {MAX_TIME}")
        if longest and not 0 < milliseconds <= longest:
            raise InvalidRequestError(
                f"timeToLive is {milliseconds} ms{'' if milliseconds else ' (for good)'}; this server takes at most "
                f"{longest} ms (longest_life), which can be set again before the time is over"
            )
        return time.time() + milliseconds / 1000 if milliseconds else None

    def left(self, record: Record) -> float | None:
        """Seconds that it has still to live, or negative since when it is over; None: it lives for good.

        The end is told, and kept, as a time of day. From when this server knows it, it comes nearer as time passes,
        whatever the clock is set to.
        """
        if record.expires_at is None:
            return None
        passed = time.clock_gettime(time.CLOCK_BOOTTIME)
        known = self._ends.get(record.uid)
        if known is None or known[0] != record.expires_at:
            known = self._ends[record.uid] = (record.expires_at, passed + record.expires_at - time.time())
        return known[1] - passed

    def ended(self, uid: str) -> None:
        """It is gone."""
        self._ends.pop(uid, None)

    def is_over(self, record: Record) -> bool:
        """Its time to live is."""
        left = self.left(record)
        return left is not None and left <= 0

    def remember(self, record: Record) -> None:
        """Who asks for it is told that its time was over."""
        self._over[record.tenant, record.id] = over_since(record)
        if len(self._over) > MOST_REMEMBERED:
            del self._over[next(iter(self._over))]

    def begin(self, record: Record) -> None:
        """It lives now until what it says, as long from now as the clock says at this moment."""
        self._over.pop((record.tenant, record.id), None)
        self.left(record)
        self.changed.set()

    def why_gone(self, tenant: str, sandbox_id: str) -> str | None:
        """What is told of one that was remembered."""
        return self._over.get((tenant, sandbox_id))


def over_since(record: Record) -> str:
    """Why it is gone, in words."""
    return f"its time to live was over at {timestamp(record.expires_at)}"
