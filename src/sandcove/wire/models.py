"""The JSON bodies, both ends' single source. camelCase on the wire, snake_case here; times in milliseconds.

Requests refuse unknown fields: no option is accepted and then ignored. Answers tolerate them: a newer
server may say more than this client knows.

The agent wire's paths and fields are those of ``@cloudflare/sandbox`` 0.3.x; what that has not is marked (ours).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from sandcove.wire.limits import NO_LIMITS, ResourceLimits
from sandcove.wire.secrets import Secret

__all__ = [
    "CreateSandbox",
    "CreateSession",
    "DeletePath",
    "Execute",
    "ExecuteAnswer",
    "ExposePort",
    "ExposedPort",
    "FileInfo",
    "Isolation",
    "ListFiles",
    "ListOptions",
    "MakeFolder",
    "MovePath",
    "PathOnly",
    "PortList",
    "ProcessAnswer",
    "ProcessInfo",
    "ProcessList",
    "ProcessLogs",
    "ProcessOptions",
    "ProcessStatus",
    "Quiet",
    "ReadAnswer",
    "ReadFile",
    "RenamePath",
    "Rest",
    "SandboxInfo",
    "SandboxList",
    "SandboxState",
    "ServerInfo",
    "SessionInfo",
    "SessionList",
    "SetEnv",
    "SetTimeToLive",
    "StartProcess",
    "StdinAnswer",
    "UnexposePort",
    "WaitForPort",
    "WriteFile",
]

DEFAULT_SESSION = "default"
WORKSPACE = "/workspace"

ProcessStatus = Literal["starting", "running", "completed", "failed", "killed", "error"]
SandboxState = Literal["starting", "running", "sleeping", "asleep", "destroying"]


class Request(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A request body."""


class Answer(msgspec.Struct, rename="camel", kw_only=True):
    """An answer body."""


# --- the server wire: /v1 -------------------------------------------------------------------------------


class CreateSandbox(Request):
    """``POST /v1/sandboxes``: get or create, and wake.

    Without `id` the server makes one up and the sandbox is anonymous. With `lease` the answer is chunked:
    one line of JSON (`SandboxInfo`), then silence for as long as the caller keeps the connection open;
    when it closes, the sandbox is destroyed.
    """

    id: str | None = None
    labels: dict[str, str] | None = None
    env: dict[str, str] | None = None
    sleep_after: int | None = None
    """Milliseconds of idleness after which the sandbox sleeps (an anonymous one is destroyed); 0: never."""
    keep_alive: bool | None = None
    """The server never puts it to sleep by itself."""
    time_to_live: int | None = None
    """Milliseconds from now after which the sandbox is destroyed; 0: it lives for good."""
    lease: bool = False
    egress: str | list[str] | None = None
    """What it may reach: see `sandcove.wire.egress`; left out, a new one reaches nothing."""
    limits: ResourceLimits | None = None
    """What it may use at most; what is left out is as the server has it."""
    secrets: dict[str, Secret] | None = None
    """What the proxy adds to requests, by the names of variables that have placeholders; those it has stay."""


class Isolation(Answer):
    """What isolation a sandbox really has."""

    user_namespace: bool
    network: str
    """``loopback``: its own alone; ``unfiltered``: the machine's, to every public address."""
    copy_on_write: list[str]
    """The host folders that the sandbox sees through a private copy-on-write layer."""
    host_user: str
    """Whose user id the room's root is on the host: ``root``, or a number."""
    system_calls: str
    """``filtered``: those that a sandbox's programs do without are refused."""
    limits: str
    """How memory, processor time and processes are limited: ``cgroup v2``, ``cgroup v1`` or ``rlimit``."""


class SandboxInfo(Answer):
    """What the server knows of a sandbox."""

    id: str
    state: SandboxState
    created_at: str
    last_active_at: str
    anonymous: bool
    labels: dict[str, str]
    sleep_after: int
    runtime: str
    isolation: Isolation | None = None
    agent_socket: str | None = None
    """The agent's Unix socket: told to callers on the server's own Unix socket, while it runs."""
    note: str | None = None
    """Why its room last ended, when nobody had asked for it, or what it lacks of its egress; until it next sleeps."""
    tenant: str = "local"
    keep_alive: bool = False
    expires_at: str | None = None
    egress: str | list[str] = "none"
    """What it may reach."""
    limits: ResourceLimits = NO_LIMITS
    """What it may use; 0: as much as it wants."""
    limited_by: dict[str, str] = {}
    """What holds each limit while it runs: ``cgroup v2``, ``cgroup v1``, ``rlimit``, ``agent``, ``measured``, or
    ``nothing``: this machine can't."""


class SetTimeToLive(Request):
    """``POST /v1/sandboxes/{id}/time-to-live``: as `CreateSandbox.time_to_live`."""

    time_to_live: int


class SandboxList(Answer):
    sandboxes: list[SandboxInfo]
    count: int


class ExposePort(Request):
    """``POST /v1/sandboxes/{id}/ports`` and ``POST /api/expose-port``.

    Attributes:
        public: (ours) the URL has no token.
        token: (ours) the URL's token; else a new one is made.
    """

    port: int
    name: str | None = None
    public: bool = False
    token: str | None = None


class UnexposePort(Request):
    """``DELETE /api/unexpose-port``."""

    port: int


class ExposedPort(Answer, omit_defaults=True):
    """An exposed port, as answer to its exposure too. `url` and `public` are ours."""

    port: int
    url: str
    exposed_at: str
    name: str | None = None
    public: bool = False


class PortList(Answer):
    """``GET /v1/sandboxes/{id}/ports`` and ``GET /api/exposed-ports``."""

    ports: list[ExposedPort]
    count: int
    timestamp: str


class ServerInfo(Answer):
    """``GET /v1/server``. `running` and `asleep` count the caller's; 0 and '' stand for what `admin` alone is told."""

    version: str
    wire: int
    pid: int
    home: str
    started_at: str
    running: int
    asleep: int
    zygote_pid: int | None
    idle_stop_after: int
    """Milliseconds without sandboxes and connections after which the server stops by itself; 0: never."""
    addresses: list[str] = []
    """URLs of its TCP listener."""


# --- the agent wire: /api -------------------------------------------------------------------------------


class Execute(Request):
    """``POST /api/execute`` and ``/api/execute/stream``. All but `id` and `command` are ours.

    `stdin_token` is what ``PUT /api/stdin`` (ours) answered as ``token``: its body, of any size, is the command's
    standard input. It is kept for a minute until a command names it, and until that has ended.

    The stream takes the query parameter ``heartbeat`` (ours): milliseconds of silence, 10 to 60,000, after which a
    comment is sent; 15,000 by default.
    """

    command: str | list[str]
    id: str = DEFAULT_SESSION
    cwd: str | None = None
    env: dict[str, str] | None = None
    timeout: int | None = None
    stdin: str | None = None
    stdin_encoding: Literal["utf-8", "base64"] = "utf-8"
    stdin_token: str | None = None


class StdinAnswer(Answer):
    """(ours) ``PUT /api/stdin``."""

    token: str


class ExecuteAnswer(Answer, omit_defaults=True):
    """A finished command. `stdout_base64` and `stderr_base64` are there when the bytes are no valid UTF-8."""

    success: bool
    exit_code: int
    stdout: str
    stderr: str
    command: str
    duration: float
    timestamp: str
    stdout_base64: str | None = None
    stderr_base64: str | None = None
    truncated: bool = False
    """More than the collected limit was printed; the rest was read and dropped."""
    out_of_memory: bool = False
    """(ours) while it ran the kernel killed a process of the sandbox, which had reached its limit of memory."""


class CreateSession(Request):
    """``POST /api/session/create``."""

    id: str
    env: dict[str, str] | None = None
    cwd: str = WORKSPACE
    isolation: bool = True


class SessionInfo(Answer):
    """(ours) one session in the list's ``details``."""

    id: str
    cwd: str
    isolation: bool
    created_at: str


class SessionList(Answer):
    """``GET /api/session/list``."""

    count: int
    sessions: list[str]
    details: list[SessionInfo]
    timestamp: str


class SetEnv(Request):
    """(ours) ``POST /api/env``: for all that starts afterwards, in the sandbox or in one session; null removes."""

    env: dict[str, str | None]
    session_id: str | None = None


class ProcessOptions(Request):
    """How a process is started. Times in milliseconds."""

    process_id: str | None = None
    timeout: int | None = None
    env: dict[str, str] | None = None
    cwd: str | None = None
    encoding: Literal["utf-8", "utf8"] = "utf-8"
    """Of text; bytes that are none are in the answers' base64 fields as well."""
    auto_cleanup: bool = False
    """Forget it with its log when it has ended."""


class StartProcess(Request):
    """``POST /api/process/start``. A list is a program and its arguments, which no shell sees (ours)."""

    command: str | list[str]
    session_id: str = DEFAULT_SESSION
    options: ProcessOptions = msgspec.field(default_factory=ProcessOptions)


class ProcessInfo(Answer, omit_defaults=True):
    """A background process: ``killed`` when a signal or this API ended it, ``failed`` with another code than 0."""

    id: str
    pid: int
    command: str
    status: ProcessStatus
    start_time: str
    session_id: str
    end_time: str | None = None
    exit_code: int | None = None
    """128 + n when signal n ended it."""
    signal: str | None = None
    """(ours) the name of the signal that ended it, such as ``SIGKILL``."""
    timed_out: bool = False
    """(ours) its timeout ended it."""
    out_of_memory: bool = False
    """(ours) the kernel killed it: the sandbox had reached its limit of memory."""


class ProcessAnswer(Answer):
    """``POST /api/process/start`` and ``GET /api/process/{id}``."""

    process: ProcessInfo
    timestamp: str


class ProcessList(Answer):
    """``GET /api/process/list``."""

    processes: list[ProcessInfo]
    count: int
    timestamp: str


class ProcessLogs(Answer, omit_defaults=True):
    """``GET /api/process/{id}/logs``: the newest of each stream. All but the first four are ours."""

    process_id: str
    session_id: str
    stdout: str
    stderr: str
    timestamp: str
    cursor: int
    """The offset behind all this, for ``/stream?cursor=``."""
    stdout_base64: str | None = None
    stderr_base64: str | None = None
    truncated: bool = False
    """There was more than is kept, or than one answer holds."""


class WaitForPort(Request):
    """(ours) ``POST /api/wait-for-port``: answered when something in the sandbox listens on the TCP port.

    With `process_id` an error when that process ends before.
    """

    port: int
    timeout: int | None = None
    process_id: str | None = None


class Quiet(Request):
    """(ours, from the server) ``POST /api/quiet``: no call begins any more, those that run have `within` ms to end."""

    within: int


class Rest(Request):
    """(ours, from the server) ``POST /api/rest``. Only if nothing has been in use for `if_idle` ms, when given."""

    if_idle: int | None = None


class PathOnly(Request):
    """``POST /api/read/stream`` and (ours) ``/api/exists`` and ``/api/stat``."""

    path: str
    session_id: str = DEFAULT_SESSION


class WriteFile(Request):
    """``POST /api/write``."""

    path: str
    content: str
    encoding: Literal["utf-8", "utf8", "base64"] = "utf-8"
    session_id: str = DEFAULT_SESSION
    mode: int | None = None
    """(ours) permission bits; a new file has 0o644, an existing one keeps its own."""


class ReadFile(Request):
    """``POST /api/read``. ``base64`` gives the exact bytes; ``utf-8`` gives text, or base64 when it is none."""

    path: str
    encoding: Literal["utf-8", "utf8", "base64"] = "utf-8"
    session_id: str = DEFAULT_SESSION


class ReadAnswer(Answer):
    success: bool
    exit_code: int
    path: str
    content: str
    encoding: str
    is_binary: bool
    mime_type: str
    size: int
    timestamp: str


class MakeFolder(Request):
    """``POST /api/mkdir``."""

    path: str
    recursive: bool = False
    session_id: str = DEFAULT_SESSION


class DeletePath(Request):
    """``POST /api/delete``. (ours) `recursive`: a folder with all in it."""

    path: str
    recursive: bool = False
    session_id: str = DEFAULT_SESSION


class RenamePath(Request):
    """``POST /api/rename``."""

    old_path: str
    new_path: str
    session_id: str = DEFAULT_SESSION


class MovePath(Request):
    """``POST /api/move``."""

    source_path: str
    destination_path: str
    session_id: str = DEFAULT_SESSION


class ListOptions(Request):
    recursive: bool = False
    include_hidden: bool = False


class ListFiles(Request):
    """``POST /api/list-files``."""

    path: str
    options: ListOptions = msgspec.field(default_factory=ListOptions)
    session_id: str = DEFAULT_SESSION


class Permissions(Answer):
    readable: bool
    writable: bool
    executable: bool


class FileInfo(Answer):
    """One entry of a list, or a stat. Size in bytes, `modified_at` ISO 8601 UTC, `mode` as in ``rwxr-xr-x``."""

    name: str
    absolute_path: str
    relative_path: str
    type: Literal["file", "directory", "symlink", "other"]
    size: int
    modified_at: str
    mode: str
    permissions: Permissions
    target: str | None = None
    """(ours) where a symlink points."""
