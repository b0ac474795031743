"""What the agent and the first process for user code say to each other.

MessagePack datagrams (arguments and variables may be no text) on a SOCK_SEQPACKET pair, with file descriptors beside
them; a long request travels in a memfd.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import msgspec

from sandcove.wire.confine import Confine

__all__ = [
    "DATAGRAM",
    "LONGEST_REQUEST",
    "Answer",
    "ConfineRequest",
    "EndRequest",
    "Exit",
    "InMemfd",
    "Request",
    "SignalRequest",
    "SpawnRequest",
    "WatchRequest",
    "encode",
    "reports",
    "requests",
    "spawn_request",
]

DATAGRAM = 64 * 1024
LONGEST_REQUEST = 4 * 1024
"""Bytes of a request in a datagram: so many as may be on their way at once fit into the socket's buffer."""


class SpawnRequest(msgspec.Struct, tag="spawn"):
    """Start `argv` (a program's full path first); the passed descriptors become `fds`, in that order."""

    ref: int
    argv: list[bytes]
    env: dict[bytes, bytes]
    cwd: bytes
    fds: list[int]
    adopts: bool = False
    """Orphans among its descendants become its children, so that they are found when it is ended."""


class SignalRequest(msgspec.Struct, tag="signal"):
    """Signal `pid`, its descendants and the session that it leads; not the trees below `spare`.

    Of the children of `pid` itself, only those count that started at the clock tick `since` after boot, or later.
    """

    ref: int
    pid: int
    signal: int
    spare: list[int]
    since: int


class WatchRequest(msgspec.Struct, tag="watch"):
    """Tell of the end of `pid` too, which is an orphan of the namespace, or will be one."""

    ref: int
    pid: int


class EndRequest(msgspec.Struct, tag="end"):
    """SIGTERM to all; answered when all are gone, or after `grace` ms."""

    ref: int
    grace: int


class ConfineRequest(msgspec.Struct, tag="confine"):
    """Lower the limits of each process to `confine`."""

    ref: int
    confine: Confine


class InMemfd(msgspec.Struct, tag="memfd"):
    """The request is in the first descriptor."""


class Answer(msgspec.Struct, tag="answer"):
    """`pid` of what was spawned, or `count` of the signalled; else `error` says why not."""

    ref: int
    value: int = 0
    error: str = ""


class Exit(msgspec.Struct, tag="exit"):
    """A child ended: by `exit_code`, or by `signal` (then `exit_code` is 128 + signal, as shells have it)."""

    pid: int
    exit_code: int
    signal: int | None


Request = SpawnRequest | SignalRequest | WatchRequest | EndRequest | ConfineRequest | InMemfd
requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
reports: msgspec.msgpack.Decoder[Answer | Exit] = msgspec.msgpack.Decoder(Answer | Exit)
encode = msgspec.msgpack.Encoder().encode


def spawn_request(
    ref: int, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, fds: list[int], adopts: bool = False
) -> SpawnRequest:
    """The request in bytes: surrogates in a text stand for bytes that are no UTF-8, as everywhere in Python."""
    pairs = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    return SpawnRequest(ref, [os.fsencode(word) for word in argv], pairs, os.fsencode(cwd), fds, adopts)
