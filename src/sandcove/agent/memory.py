"""What a sandbox remembers across sleep and a kill of anything: its environment and its sessions.

The agent can't see the host; it gets one open file there. Every change appends the whole memory as one line of
JSON, so an acknowledged change is in the kernel's hands before its answer leaves; the last whole line counts.
"""

from __future__ import annotations

import os

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


_decoder = msgspec.json.Decoder(Contents)


class Memory:
    """The open file `fd`, and what it holds: `env` and `sessions`, changed in place and then `save`d."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        contents = self._load()
        self.env = contents.env
        self.sessions = contents.sessions

    def save(self) -> None:
        """Writes it down; returns when the kernel has it."""
        line = msgspec.json.encode(Contents(self.env, self.sessions)) + b"\n"
        size = os.fstat(self._fd).st_size
        self._write(line, size)
        if size > _COMPACT:
            self._write(line, 0)
            os.ftruncate(self._fd, len(line))

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
