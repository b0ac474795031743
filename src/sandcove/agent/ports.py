"""The TCP ports on which something in the sandbox listens."""

from __future__ import annotations

import asyncio
import contextlib

from sandcove.agent.process import Process
from sandcove.errors import ExecutionTimeoutError, ProcessEndedError

__all__ = ["listening", "wait_for_port"]

# The agent's own entry is not to be seen in /proc; the first process for user code has the same network.
_TABLES = ("/proc/1/net/tcp", "/proc/1/net/tcp6")
_LISTEN = b"0A"
_LOOKS = (0.005, 0.25)
"""Seconds between two looks: at first, and at most. The kernel tells nobody that a socket begins to listen."""


def listening() -> set[int]:
    """Those ports. No connection is made: the service sees nothing of it."""
    found = set()
    for table in _TABLES:
        with contextlib.suppress(OSError), open(table, "rb") as file:
            file.readline()
            for line in file:
                # sl local_address rem_address st ...; an address is hexadecimal, host:port
                _, local, _, state, *_ = line.split(maxsplit=4)
                if state != _LISTEN:
                    # The kernel lists those that listen first. Of the others there may be any number.
                    break
                found.add(int(local.rpartition(b":")[2], 16))
    return found


async def wait_for_port(port: int, timeout: float | None, process: Process | None) -> None:
    """Returns when something listens on `port`.

    Raises:
        ExecutionTimeoutError: nothing does after `timeout` seconds.
        ProcessEndedError: `process`, which was to listen, has ended.
    """
    pause, longest = _LOOKS
    try:
        async with asyncio.timeout(timeout):
            while port not in listening():
                if process is not None and process.exit.done():
                    exit_ = process.info()
                    raise ProcessEndedError(
                        f"process {process.id!r} ended with exit code {exit_.exit_code} before anything listened on "
                        f"port {port}; its logs may tell why",
                        exitCode=exit_.exit_code,
                    )
                if process is None:
                    await asyncio.sleep(pause)
                else:
                    await asyncio.wait({process.exit}, timeout=pause)
                pause = min(pause * 1.5, longest)
    except TimeoutError:
        raise ExecutionTimeoutError(f"nothing listens on port {port} of the sandbox after {timeout:g} s") from None
