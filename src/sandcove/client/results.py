"""What calls return. Times are seconds and aware `datetime`s, names snake_case; the wire's forms stay in `wire`."""

from __future__ import annotations

import base64
import logging
from datetime import datetime
from typing import Generic, Literal, TypeVar

import msgspec

from sandcove.errors import SandboxNetworkError
from sandcove.wire import egress_log, events, models, secret_calls
from sandcove.wire.egress_log import Verdict
from sandcove.wire.git import Phase
from sandcove.wire.limits import NO_LIMITS, ResourceLimits, ResourceUsage
from sandcove.wire.models import Isolation, SandboxState
from sandcove.wire.preview import Base
from sandcove.wire.secrets import Secret

__all__ = [
    "EgressEntry",
    "ExecEvent",
    "ExecResult",
    "ExposedPort",
    "FileInfo",
    "GitCheckout",
    "GitProgress",
    "Isolation",
    "LogEvent",
    "ProcessLogs",
    "ResourceLimits",
    "ResourceUsage",
    "SandboxInfo",
    "SandboxState",
    "Secret",
    "SecretInfo",
    "log",
]

log = logging.getLogger("sandcove")

Output = TypeVar("Output", str, bytes)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A value that a call returned."""


class ExecResult(Result, Generic[Output], frozen=True, kw_only=True):
    """A command that ended.

    Attributes:
        success: the exit code is 0.
        exit_code: 0 to 255; 128 + n when signal n ended it.
        stdout, stderr: what it printed, as text (U+FFFD for what is no UTF-8), or as bytes with ``encoding=None``.
        command: the command; a list is shown as a shell would need it.
        duration: seconds.
        timestamp: when it ended.
        truncated: it printed more than is collected; the rest was read and dropped.
        out_of_memory: while it ran the kernel killed a process of the sandbox, which had reached its limit of memory.
    """

    success: bool
    exit_code: int
    stdout: Output
    stderr: Output
    command: str
    duration: float
    timestamp: datetime
    truncated: bool = False
    out_of_memory: bool = False


class ExposedPort(Result, frozen=True, kw_only=True):
    """A port of a sandbox that can be reached from outside.

    Attributes:
        url: where; its token is in it, so that whoever has it can come in.
        port: in the sandbox.
        name: as it was given, or None.
        exposed_at: when.
        public: the URL has no token, and can be guessed.
    """

    url: str
    port: int
    name: str | None
    exposed_at: datetime
    public: bool = False

    @classmethod
    def of(cls, port: models.ExposedPort, base: Base | None = None) -> ExposedPort:
        """With a URL below `base`, else below the server's own domain."""
        return cls(
            url=port.url if base is None else base.url(port.url.partition("://")[2].partition(".")[0]),
            port=port.port,
            name=port.name,
            exposed_at=when(port.exposed_at),
            public=port.public,
        )


class EgressEntry(Result, frozen=True, kw_only=True):
    """A connection that a sandbox asked for.

    Attributes:
        time: when.
        host: as it was asked for; empty when what was asked is no host.
        port: 0 when it is not known.
        via: ``http``, ``connect`` or ``socks5``; ``https``: a request out of TLS that the proxy ends, for a secret.
        verdict: ``allowed``, ``refused`` by a rule, or ``failed``: it was allowed, and could not be made.
        reason: why it is not allowed, and what to do.
        address: what it was connected to.
        sent, received: bytes, so far.
        ended: it is over.
        secrets: the names of those that its requests were given.
    """

    time: datetime
    host: str
    port: int
    via: str
    verdict: Verdict
    reason: str
    address: str
    sent: int
    received: int
    ended: bool
    secrets: list[str]

    @classmethod
    def of(cls, entry: egress_log.EgressEntry) -> EgressEntry:
        """From the wire's form."""
        return cls(
            time=when(entry.time),
            host=entry.host,
            port=entry.port,
            via=entry.via,
            verdict=entry.verdict,
            reason=entry.reason,
            address=entry.address,
            sent=entry.sent,
            received=entry.received,
            ended=entry.ended,
            secrets=entry.secrets,
        )


class SecretInfo(Result, frozen=True, kw_only=True):
    """A secret of a sandbox, without its value. What `hosts`, `header` and the others mean, `Secret` says.

    Attributes:
        name: of the variable that has a placeholder for it.
    """

    name: str
    hosts: list[str]
    header: str | None
    intercept_tls: bool
    in_url: bool

    @classmethod
    def of(cls, info: secret_calls.SecretInfo) -> SecretInfo:
        """From the wire's form."""
        return cls(
            name=info.name,
            hosts=info.hosts,
            header=info.header,
            intercept_tls=info.intercept_tls,
            in_url=info.in_url,
        )


class ExecEvent:
    """One event of a command that runs.

    Attributes:
        type: ``start``, then any of ``stdout`` and ``stderr``, then ``complete``.
        timestamp: when it happened.
        command: on ``start``.
        data: the text on ``stdout`` and ``stderr``: whole characters, U+FFFD for what is no UTF-8.
        bytes: the same, exactly as printed.
        exit_code: on ``complete``.
        duration: on ``complete``, seconds.
        out_of_memory: on ``complete``, as that of an `ExecResult`.
    """

    __slots__ = ("_exact", "_timestamp", "command", "data", "duration", "exit_code", "out_of_memory", "type")

    def __init__(self, event: events.ExecEvent) -> None:
        self.type: Literal["start", "stdout", "stderr", "complete", "error"] = event.type
        self.data = event.data or ""
        self.command = event.command
        self.exit_code = event.exit_code
        self.duration = round(event.result.duration / 1000, 6) if event.result else None
        self.out_of_memory = event.out_of_memory
        self._timestamp = event.timestamp
        self._exact = event.bytes

    @property
    def timestamp(self) -> datetime:
        return when(self._timestamp)

    @property
    def bytes(self) -> bytes:
        return self.data.encode() if self._exact is None else base64.b64decode(self._exact)

    def __repr__(self) -> str:
        told = self.exit_code if self.type == "complete" else self.command if self.type == "start" else self.data
        return f"<ExecEvent {self.type} {told!r}>"


class LogEvent:
    """One event of a process's log.

    Attributes:
        type: ``stdout`` or ``stderr``, at last ``exit``.
        timestamp: when it was sent.
        data: the text on ``stdout`` and ``stderr``: whole characters, U+FFFD for what is no UTF-8.
        bytes: the same, exactly as printed.
        cursor: the offset behind it; a stream that is asked for with it goes on there.
        skipped: bytes before it that the log does not hold any more, or had no room for on a full disk.
        exit_code: on ``exit``; 128 + n when signal n ended it.
        signal: on ``exit``, the name of that signal, or None.
        status, out_of_memory: on ``exit``, as those of a `Process`.
    """

    __slots__ = (
        "_exact",
        "_timestamp",
        "cursor",
        "data",
        "exit_code",
        "out_of_memory",
        "signal",
        "skipped",
        "status",
        "type",
    )

    def __init__(self, event: events.LogEvent) -> None:
        self.type: Literal["stdout", "stderr", "exit", "complete", "error"] = event.type
        self.data = event.data
        self.cursor = event.cursor or 0
        self.skipped = event.skipped
        self.exit_code = event.exit_code
        self.signal = event.signal
        self.out_of_memory = event.out_of_memory
        self.status = event.status
        self._timestamp = event.timestamp
        self._exact = event.bytes

    @property
    def timestamp(self) -> datetime:
        return when(self._timestamp)

    @property
    def bytes(self) -> bytes:
        return self.data.encode() if self._exact is None else base64.b64decode(self._exact)

    def __repr__(self) -> str:
        return f"<LogEvent {self.type} {self.exit_code if self.type == 'exit' else self.data!r}>"


class ProcessLogs(Result, frozen=True, kw_only=True):
    """What a process has printed.

    Attributes:
        stdout, stderr: the newest of each, as text: U+FFFD for what is no UTF-8.
        truncated: there was more; the oldest is missing.
        cursor: the offset behind it, for a stream that goes on there.
    """

    stdout: str
    stderr: str
    truncated: bool
    cursor: int

    @classmethod
    def of(cls, logs: models.ProcessLogs) -> ProcessLogs:
        """From the wire's form."""
        return cls(stdout=logs.stdout, stderr=logs.stderr, truncated=logs.truncated, cursor=logs.cursor)


class FileInfo(Result, frozen=True, kw_only=True):
    """A file, folder or other entry.

    Attributes:
        name: the last part of its path.
        path: its absolute path.
        relative_path: relative to the folder that was listed.
        size: bytes.
        mode: as in ``rwxr-xr-x``.
        readable, writable, executable: by the sandbox's user.
        target: where a symlink points.
    """

    name: str
    path: str
    relative_path: str
    type: Literal["file", "directory", "symlink", "other"]
    size: int
    modified_at: datetime
    mode: str
    readable: bool
    writable: bool
    executable: bool
    target: str | None = None

    @classmethod
    def of(cls, info: models.FileInfo) -> FileInfo:
        """From the wire's form."""
        return cls(
            name=info.name,
            path=info.absolute_path,
            relative_path=info.relative_path,
            type=info.type,
            size=info.size,
            modified_at=when(info.modified_at),
            mode=info.mode,
            readable=info.permissions.readable,
            writable=info.permissions.writable,
            executable=info.permissions.executable,
            target=info.target,
        )


class GitCheckout(Result, frozen=True, kw_only=True):
    """A repository that was cloned.

    Attributes:
        url: without user name and password.
        branch: what was asked for, or the default branch; a commit's id when the remote's HEAD is no branch.
        target_dir: the folder, as an absolute path.
        commit: the commit's id; None for a repository without any.
    """

    url: str
    branch: str
    target_dir: str
    commit: str | None


class GitProgress(Result, frozen=True, kw_only=True):
    """How far a clone is.

    Attributes:
        phase: the remote is ``counting`` and ``compressing`` objects, they are ``receiving`` and ``resolving``, then
            files are ``updating``.
        percent: of this phase.
        done, total: objects; files when it is ``updating``.
    """

    phase: Phase
    percent: int
    done: int
    total: int


class SandboxInfo(Result, frozen=True, kw_only=True):
    """What the server knows of a sandbox.

    Attributes:
        sleep_after: seconds of idleness after which it sleeps (an anonymous one is destroyed); 0: never.
        keep_alive: the server never puts it to sleep by itself.
        expires_at: when it is destroyed, or None.
        isolation: what isolation it really has; None while it has not been started.
        note: why it last ended, when it did not end by itself.
        egress: what it may reach.
        limits: what it may use at most; 0: as much as it wants.
        limited_by: what holds each of them, by its name, while it runs: see the page on limits.
    """

    id: str
    state: SandboxState
    created_at: datetime
    last_active_at: datetime
    anonymous: bool
    labels: dict[str, str]
    sleep_after: float
    keep_alive: bool
    runtime: str
    expires_at: datetime | None = None
    isolation: Isolation | None = None
    note: str | None = None
    egress: str | list[str] = "none"
    limits: ResourceLimits = NO_LIMITS
    limited_by: dict[str, str] = {}

    @classmethod
    def of(cls, info: models.SandboxInfo) -> SandboxInfo:
        """From the wire's form."""
        return cls(
            id=info.id,
            state=info.state,
            created_at=when(info.created_at),
            last_active_at=when(info.last_active_at),
            anonymous=info.anonymous,
            labels=info.labels,
            sleep_after=info.sleep_after / 1000,
            keep_alive=info.keep_alive,
            expires_at=None if info.expires_at is None else when(info.expires_at),
            runtime=info.runtime,
            isolation=info.isolation,
            note=info.note,
            egress=info.egress,
            limits=info.limits,
            limited_by=info.limited_by,
        )


def when(text: str) -> datetime:
    """A wire timestamp (ISO 8601, UTC) as an aware `datetime`; raises `SandboxNetworkError` if it is none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise SandboxNetworkError(f"the other end's answer is not what this client understands: {error}") from None
