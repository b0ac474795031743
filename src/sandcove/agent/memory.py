"""What a sandbox remembers across sleep and a kill of anything: its environment and its sessions.

The agent can't see the host; it gets one open file there. Every change appends the whole memory as one line of
JSON, so an acknowledged change is in the kernel's hands before its answer leaves; the last whole line counts.
"""

from __future__ import annotations

import os

import msgspec

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
        os.pwrite(self._fd, line, size)
        if size > _COMPACT:
            os.pwrite(self._fd, line, 0)
            os.ftruncate(self._fd, len(line))

    def _load(self) -> Contents:
        data = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        for line in reversed(data.split(b"\n")[:-1]):
            try:
                return _decoder.decode(line)
            except msgspec.DecodeError:
                continue
        return Contents()
