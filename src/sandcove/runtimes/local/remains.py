"""What is left of rooms whose server has died or given them up: found by their processes' arguments, and ended.

Bubblewrap's arguments, and those of a room's first process, name the room's root folder and then the server's process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Iterator

from sandcove.waiting import readable

__all__ = ["LONGEST_END", "end_rooms", "sweep"]

LONGEST_END = 10.0
"""Seconds that rooms may take to end, which they do by themselves once their server is gone."""
MOST_ARGUMENTS = 16 * 1024
"""Bytes; those of bubblewrap are fewer than a thousand and some paths."""

_log = logging.getLogger("sandcove.runtime")


def sweep(folder: str, server: int) -> None:
    """Ends what is left of bubblewrap for rooms below `folder` of the server with this process id.

    Bubblewrap ends by itself when its server has, but the process that it forks waits for a word from it, without an
    end if it ends in between. A room that stands ends by itself.
    """
    for pidfd, _, program, mark in _processes(folder):
        try:
            if program == b"bwrap" and mark == str(server).encode():
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)


async def end_rooms(folder: str) -> None:
    """Ends all that is left of rooms below `folder`, whosever they were, and returns when it has ended.

    Until then a room could still change the files of its sandbox, or mount them.
    """
    await asyncio.gather(*(_end(pidfd, pid) for pidfd, pid, _, _ in _processes(folder)))


async def _end(pidfd: int, pid: int) -> None:
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        async with asyncio.timeout(LONGEST_END):
            await readable(pidfd)
    except (PermissionError, TimeoutError) as error:
        _log.warning("process %d of a room of the server before has not ended: %r", pid, error)
    finally:
        os.close(pidfd)


def _processes(folder: str) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Those of rooms below `folder`: a descriptor of the process, which the caller owns, its id, its program, and the
    id of their server in words.

    What a process says of itself any other may say too. But it is still the process that has said so.
    """
    start = os.fsencode(f"{folder}/")
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit():
                with contextlib.ExitStack() as unwanted:
                    pidfd = os.pidfd_open(int(name))
                    unwanted.callback(os.close, pidfd)
                    with open(f"/proc/{name}/cmdline", "rb", buffering=0) as file:
                        words = file.read(MOST_ARGUMENTS).split(b"\0")
                    if len(words) > 3 and words[-3].startswith(start) and words[-3].endswith(b"/root"):
                        unwanted.pop_all()
                        yield pidfd, int(name), os.path.basename(words[0]), words[-2]
