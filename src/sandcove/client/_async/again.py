"""Waiting for the next try of a request that failed."""

from __future__ import annotations

import os

from sandcove.client._async.connection import Body
from sandcove.client._async.io import pause
from sandcove.client.results import log
from sandcove.client.retry import wait_before
from sandcove.errors import SandboxError

__all__ = ["again"]


async def again(tries: int, error: Exception, *, repeatable: bool, body: Body) -> bool:
    """Whether to try once more after `tries` of them; returns when it is time to. See `wait_before`."""
    jitter = int.from_bytes(os.urandom(4), "big") / 2**32
    seconds = wait_before(tries, error, repeatable=repeatable, resendable=isinstance(body, bytes), jitter=jitter)
    if seconds is None:
        return False
    # Never the error's text: the other end's words may repeat what was sent.
    told = error.code if isinstance(error, SandboxError) else type(error).__name__
    log.debug("try %d of a request failed (%s); the next one is made in %.3f s", tries, told, seconds)
    if seconds:
        await pause(seconds)
    return True
