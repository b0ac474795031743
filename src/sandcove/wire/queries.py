"""What is in the queries of requests' targets, checked as bodies are: nothing is accepted and then ignored."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from sandcove.wire.models import DEFAULT_SESSION
from sandcove.wire.names import MAX_TIMEOUT

__all__ = [
    "Close",
    "FilePath",
    "Heartbeat",
    "KillProcess",
    "LogFrom",
    "OfSession",
    "PutFile",
    "Query",
    "WhichSandboxes",
]


class Query(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The parameters of a call. Those in `several` may come more than once."""

    several: ClassVar[frozenset[str]] = frozenset()


class WhichSandboxes(Query):
    """``GET /v1/sandboxes``."""

    several: ClassVar[frozenset[str]] = frozenset({"label"})

    label: list[str] = []
    """``NAME=VALUE``; those that have all of them."""
    tenants: Literal["all"] | None = None
    """For keys of scope ``admin``: those of all tenants."""


class Heartbeat(Query):
    """(ours) of every stream."""

    heartbeat: Annotated[int, msgspec.Meta(ge=10, le=60_000)] = 15_000
    """Milliseconds of silence after which a comment, or an empty line, is sent."""


class OfSession(Query):
    """Processes of one session; without it, of all."""

    session: str | None = None


class KillProcess(Query):
    """``DELETE /api/process/{id}``."""

    signal: str | None = None
    """(ours) number or name. Without it: SIGTERM, after a time SIGKILL, and the answer when it has ended."""


class LogFrom(Heartbeat):
    """(ours) ``GET /api/process/{id}/stream``."""

    cursor: Annotated[int, msgspec.Meta(ge=0, le=2**62)] | Literal["end"] = 0
    """An offset to begin at, as events have it; ``end``: what comes from now on."""
    timeout: Annotated[int, msgspec.Meta(ge=1, le=MAX_TIMEOUT)] | None = None
    """Milliseconds after which an ``error`` ends the stream, not the process."""
    output: bool = True
    """False: nothing but the end."""


class Close(Query):
    """(ours) ``POST /api/process/{id}/stdin``."""

    close: bool = False
    """End the standard input after this."""


class FilePath(Query):
    """(ours) ``GET /api/file`` and ``/api/folder``, and PUT of the latter."""

    path: str
    session_id: str = DEFAULT_SESSION


class PutFile(FilePath):
    """(ours) ``PUT /api/file``."""

    mode: Annotated[str, msgspec.Meta(pattern="^[0-7]{1,5}$")] | None = None
    """Octal, such as ``0644``."""
