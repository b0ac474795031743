"""What a runtime asks of its agent about limits: at the start, and on the channel between them when they change."""

from __future__ import annotations

import os

import msgspec

__all__ = ["NO_CONFINES", "Confine", "oom_kills"]


class Confine(msgspec.Struct, frozen=True):
    """What a runtime asks of its agent, for the programs that start from then on. 0: no limit.

    Attributes:
        open_files: descriptors of each process.
        data: bytes of data of each process, where nothing counts them together.
        processes: of the room's user, where nothing else counts them.
        file_size: bytes of each file.
        logs: bytes of all logs.
        memory: what errors tell of.
        shm: bytes of each file system in memory.
        inodes: files of each of these.
        agent: bytes of data of the agent itself, where nothing else counts them.
    """

    open_files: int = 0
    data: int = 0
    processes: int = 0
    file_size: int = 0
    logs: int = 0
    memory: int = 0
    shm: int = 0
    inodes: int = 0
    agent: int = 0

    def encode(self) -> bytes:
        return b"confine" + msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Confine | None:
        """The message, or None if `data` is another."""
        if not data.startswith(b"confine{"):
            return None
        return msgspec.json.decode(data[len(b"confine") :], type=cls)


NO_CONFINES = Confine()


def oom_kills(fd: int) -> int:
    """The number in the open ``memory.oom_control`` or ``memory.events`` of a group; 0 for -1."""
    if fd >= 0:
        for line in os.pread(fd, 4096, 0).splitlines():
            name, _, number = line.partition(b" ")
            if name == b"oom_kill" and number.isdigit():
                return int(number)
    return 0
