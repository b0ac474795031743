"""What a sandbox remembers across sleep and a kill of anything: its environment, its sessions, unfinished files.

The agent can't see the host; it gets one open file there. Every change appends the whole memory as one line of
JSON, so an acknowledged change is in the kernel's hands before its answer leaves; the last whole line counts.
"""

from __future__ import annotations

import contextlib
import os
import threading

import msgspec

from sandcove.errors import FileSystemError
from sandcove.wire.models import SessionInfo

__all__ = ["Memory", "SessionMemory"]

_COMPACT = 256 * 1024


class SessionMemory(msgspec.Struct):
    info: SessionInfo
    env: dict[str, str]


class Contents(msgspec.Struct):
    env: dict[str, str] = {}
    sessions: dict[str, SessionMemory] = {}
    unfinished: list[bytes] = []


_decoder = msgspec.json.Decoder(Contents)


class Memory:
    """The open file `fd`, and what it holds: `env` and `sessions`, changed in place and then `save`d."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        contents = self._load()
        self.env = contents.env
        self.sessions = contents.sessions
        self._unfinished = set(contents.unfinished)

    def save(self) -> None:
        """Writes it down; returns when the kernel has it."""
        with self._lock:
            line = msgspec.json.encode(Contents(self.env, self.sessions, list(self._unfinished))) + b"\n"
            size = os.fstat(self._fd).st_size
            self._write(line, size)
            # The line at the end is whole until the one at the beginning is.
            if size > max(_COMPACT, len(line)):
                self._write(line, 0)
                os.ftruncate(self._fd, len(line))

    def begin(self, path: str) -> None:
        """A file is going to be written at `path`, which has another place when it is whole. Threads may call this."""
        self._unfinished.add(os.fsencode(path))
        self.save()

    def end(self, path: str) -> None:
        """It is not there any more. That is written down with the next change."""
        self._unfinished.discard(os.fsencode(path))

    def clear_unfinished(self) -> None:
        """Removes the files that were being written when the sandbox was killed."""
        for path in self._unfinished:
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._unfinished.clear()

    def _write(self, line: bytes, offset: int) -> None:
        try:
            written = os.pwrite(self._fd, line, offset)
        except OSError as error:
            raise FileSystemError(f"the sandbox's memory can't be written: {error.strerror}") from None
        if written < len(line):
            os.ftruncate(self._fd, offset)
            raise FileSystemError("the sandbox's memory can't be written: the disk is full")

    def _load(self) -> Contents:
        data = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        if not data.endswith(b"\n"):
            # A write was cut short: what comes next must begin a line of its own.
            os.ftruncate(self._fd, data.rfind(b"\n") + 1)
        for line in reversed(data.split(b"\n")[:-1]):
            try:
                return _decoder.decode(line)
            except msgspec.DecodeError:
                continue
        return Contents()
