"""Sandcove runs code that nobody trusts yet in isolated Linux sandboxes that start in milliseconds.

    from sandcove import Sandbox

    with Sandbox() as sandbox:
        print(sandbox.exec("uname -a").stdout)

General layout: `client` is the SDK and `cli` the command line on it. They speak `wire` to the `server`, which has a
`runtimes` make the room of each sandbox, and to the `agent` in that room. `errors` and `home` are below all of them.
Imports point one way; the SDK imports nothing of server, runtimes and agent.

The names of the asyncio half are loaded when they are first used: asyncio takes longer to import than all else here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandcove._version import __version__
from sandcove.client._sync.context import CodeContext
from sandcove.client._sync.fetch import FetchResponse
from sandcove.client._sync.process import Process
from sandcove.client._sync.sandbox import Sandbox, get_sandbox, list_sandboxes
from sandcove.client._sync.session import Session
from sandcove.client.chart import Chart
from sandcove.client.execution import CodeEvent, Execution, ExecutionError, Logs
from sandcove.client.results import (
    EgressEntry,
    ExecEvent,
    ExecResult,
    ExposedPort,
    FileInfo,
    GitCheckout,
    GitProgress,
    Isolation,
    LogEvent,
    ProcessLogs,
    ResourceLimits,
    ResourceUsage,
    SandboxInfo,
    Secret,
    SecretInfo,
)
from sandcove.client.rich import Result
from sandcove.client.streams import async_iterable_to_sse_stream, parse_sse_stream, response_to_async_iterable
from sandcove.errors import (
    CodeExecutionError,
    CommandFailedError,
    ConflictError,
    ContainerNotReadyError,
    ContextEndedError,
    ContextNotFoundError,
    ExecutionTimeoutError,
    FileSystemError,
    ForbiddenError,
    GitError,
    HostUnsupportedError,
    InterpreterNotReadyError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    PathExistsError,
    PathNotFoundError,
    PortAlreadyExposedError,
    PortNotExposedError,
    PortNotListeningError,
    ProcessAlreadyExistsError,
    ProcessEndedError,
    ProcessNotFoundError,
    QuotaExceededError,
    RateLimitedError,
    SandboxError,
    SandboxNetworkError,
    SandboxNotFoundError,
    SecurityError,
    ServiceUnavailableError,
    SessionAlreadyExistsError,
    SessionNotFoundError,
    TooLargeError,
    UnauthorizedError,
)

if TYPE_CHECKING:
    from sandcove.client._async.context import AsyncCodeContext
    from sandcove.client._async.fetch import AsyncFetchResponse
    from sandcove.client._async.process import AsyncProcess
    from sandcove.client._async.sandbox import AsyncSandbox, async_list_sandboxes, get_async_sandbox
    from sandcove.client._async.session import AsyncSession
    from sandcove.client.proxy.middleware import proxy_to_sandbox

__all__ = [
    "AsyncCodeContext",
    "AsyncFetchResponse",
    "AsyncProcess",
    "AsyncSandbox",
    "AsyncSession",
    "Chart",
    "CodeContext",
    "CodeEvent",
    "CodeExecutionError",
    "CommandFailedError",
    "ConflictError",
    "ContainerNotReadyError",
    "ContextEndedError",
    "ContextNotFoundError",
    "EgressEntry",
    "ExecEvent",
    "ExecResult",
    "Execution",
    "ExecutionError",
    "ExecutionTimeoutError",
    "ExposedPort",
    "FetchResponse",
    "FileInfo",
    "FileSystemError",
    "ForbiddenError",
    "GitCheckout",
    "GitError",
    "GitProgress",
    "HostUnsupportedError",
    "InterpreterNotReadyError",
    "InvalidRequestError",
    "Isolation",
    "LogEvent",
    "Logs",
    "MethodNotAllowedError",
    "NotFoundError",
    "PathExistsError",
    "PathNotFoundError",
    "PortAlreadyExposedError",
    "PortNotExposedError",
    "PortNotListeningError",
    "Process",
    "ProcessAlreadyExistsError",
    "ProcessEndedError",
    "ProcessLogs",
    "ProcessNotFoundError",
    "QuotaExceededError",
    "RateLimitedError",
    "ResourceLimits",
    "ResourceUsage",
    "Result",
    "Sandbox",
    "SandboxError",
    "SandboxInfo",
    "SandboxNetworkError",
    "SandboxNotFoundError",
    "Secret",
    "SecretInfo",
    "SecurityError",
    "ServiceUnavailableError",
    "Session",
    "SessionAlreadyExistsError",
    "SessionNotFoundError",
    "TooLargeError",
    "UnauthorizedError",
    "__version__",
    "async_iterable_to_sse_stream",
    "async_list_sandboxes",
    "get_async_sandbox",
    "get_sandbox",
    "list_sandboxes",
    "parse_sse_stream",
    "proxy_to_sandbox",
    "response_to_async_iterable",
]

_LAZY = {
    "AsyncCodeContext": "sandcove.client._async.context",
    "AsyncFetchResponse": "sandcove.client._async.fetch",
    "AsyncProcess": "sandcove.client._async.process",
    "AsyncSandbox": "sandcove.client._async.sandbox",
    "AsyncSession": "sandcove.client._async.session",
    "async_list_sandboxes": "sandcove.client._async.sandbox",
    "get_async_sandbox": "sandcove.client._async.sandbox",
    "proxy_to_sandbox": "sandcove.client.proxy.middleware",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
