"""Standard input that is too large for a command's request: sent ahead, to a file that the command's shell then opens.

It lies on the sandbox's own disk: a gigabyte of input must not take a gigabyte of memory. Each file is there until its
command ends, or until it is clear that no command will come.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
from itertools import islice
from pathlib import Path

from starlette.requests import Request

from sandcove.agent.files import file_error
from sandcove.agent.transfer import write_body
from sandcove.errors import NotFoundError, ServiceUnavailableError

__all__ = ["Inputs", "drop"]

MOST = 64
"""Inputs that are being received or wait for their command, at most."""
LONGEST_WAIT = 60.0


class Inputs:
    """Those that wait for their command, by the token that it will name.

    Args:
        folder: where the files lie. What an agent that was killed has left there is deleted.
        longest_wait: seconds after which an input is dropped whose command has not come.
    """

    def __init__(self, folder: Path, longest_wait: float = LONGEST_WAIT) -> None:
        self._folder = folder
        self._longest_wait = longest_wait
        self._waiting: dict[str, asyncio.TimerHandle] = {}
        self._coming = 0
        # User code can fill this folder, so that no more is deleted than an agent can have left.
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in islice(entries, 2 * MOST):
                drop(Path(entry.path))

    async def receive(self, http: Request) -> str:
        """Takes the request's body, of any size; gives its token.

        Raises:
            ServiceUnavailableError: too many wait already.
            FileSystemError: the disk is full.
        """
        if self._coming + len(self._waiting) >= MOST:
            raise ServiceUnavailableError(
                f"{MOST} inputs wait for their commands, which is the most; run those first", begun=False, retryAfter=1
            )
        token = secrets.token_hex(16)
        path = self._folder / token
        self._coming += 1
        try:
            await _write(http, path)
        finally:
            self._coming -= 1
        self._waiting[token] = asyncio.get_running_loop().call_later(self._longest_wait, self._forget, token)
        return token

    def take(self, token: str) -> Path:
        """The file of this token, which is the caller's to `drop`.

        Raises:
            NotFoundError: there is none, or not any more.
        """
        late = self._waiting.pop(token, None)
        if late is None:
            raise NotFoundError(
                f"the standard input {token[:64]!r} is not there: it came over {self._longest_wait:g} s ago, was used "
                "already, or the sandbox has slept since; send it again"
            )
        late.cancel()
        return self._folder / token

    def _forget(self, token: str) -> None:
        del self._waiting[token]
        drop(self._folder / token)


def drop(path: Path) -> None:
    """Deletes an input, unless user code did already."""
    with contextlib.suppress(OSError):
        path.unlink()


async def _write(http: Request, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise file_error(error, str(path.parent)) from None
    whole = False
    try:
        await write_body(http, functools.partial(_write_all, fd))
        whole = True
    except OSError as error:
        raise file_error(error, "the standard input") from None
    finally:
        os.close(fd)
        if not whole:
            drop(path)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
