"""The time of day, by which keys and tokens expire."""

from __future__ import annotations

import time

__all__ = ["Clock"]


class Clock:
    """Gives the seconds since the epoch, and never less than before: what has expired stays so, though somebody sets
    the machine's clock back."""

    def __init__(self) -> None:
        self._latest = 0.0

    def __call__(self) -> float:
        self._latest = max(self._latest, time.time())
        return self._latest
