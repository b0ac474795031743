"""When a request that failed is made again. Decided here, purely; who makes the requests waits and repeats them.

Only what can't happen twice by it is repeated: a request of which nothing was sent, one that is the same done once or
twice, and one whose answer says that it has not begun.
"""

from __future__ import annotations

from typing import Final

from sandcove.client.endpoint import Broken, Silent, Unreachable
from sandcove.errors import ServiceUnavailableError

__all__ = ["FIRST_WAIT", "LONGEST_WAIT", "TRIES", "wait_before"]

TRIES: Final = 4
"""In all, the first one included."""
FIRST_WAIT: Final[float] = 0.05
"""Seconds, at most, before the second try; twice as many before each further one."""
LONGEST_WAIT: Final = 30.0
"""Seconds that the other end may ask to wait; who is to wait longer is told so instead."""


def wait_before(tries: int, error: Exception, *, repeatable: bool, resendable: bool, jitter: float) -> float | None:
    """Seconds to wait before the next try, or None when there is to be none.

    Args:
        tries: how many were made.
        error: how the last one failed.
        repeatable: doing it twice is the same as doing it once.
        resendable: its body is still there.
        jitter: 0 to 1, by chance: callers that failed together shall not come back together.
    """
    if tries >= TRIES or not _is_safe(error, repeatable=repeatable, resendable=resendable):
        return None
    if tries == 1 and isinstance(error, Unreachable):
        # What is not there is started or woken first, which takes its time.
        return 0.0
    wait: float = FIRST_WAIT * 2 ** (tries - 1) * jitter
    asked = error.retry_after if isinstance(error, ServiceUnavailableError) else None
    if asked is None:
        return wait
    return None if asked > LONGEST_WAIT else max(asked, wait)


def _is_safe(error: Exception, *, repeatable: bool, resendable: bool) -> bool:
    match error:
        case Unreachable():
            return True
        case Silent():
            return False  # it has been waited for long enough
        case Broken():
            return repeatable and resendable
        case ServiceUnavailableError():
            return resendable and (repeatable or error.details.get("begun") is False)
    return False
