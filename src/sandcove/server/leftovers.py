"""What a server that was killed has left: sockets, and rooms that take a moment to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from sandcove.home import Home
from sandcove.server.agents import AgentSocket

__all__ = ["clear_up"]

LONGEST_END = 10.0
"""Seconds that rooms may take to end, which they do by themselves once their server is gone."""

_log = logging.getLogger("sandcove.server")


async def clear_up(home: Home) -> None:
    """Before a server makes its first room: waits until no agent of an older one answers, and removes their sockets.

    An agent that has not ended yet could acknowledge a change which the next one, in a new room, has not read.
    """
    left = list(home.run.iterdir())
    await asyncio.gather(*(_wait_for_end(path) for path in left))
    for path in left:
        path.unlink(missing_ok=True)


async def _wait_for_end(path: Path) -> None:
    loop = asyncio.get_running_loop()
    with AgentSocket() as agent, contextlib.suppress(OSError):
        agent.setblocking(False)
        try:
            async with asyncio.timeout(LONGEST_END):
                # Nobody listens there as a rule. Else its end closes the connection.
                await loop.sock_connect(agent, str(path))
                await loop.sock_recv(agent, 1)
        except TimeoutError:
            _log.warning("what answers at %s has not ended within %g s", path, LONGEST_END)
