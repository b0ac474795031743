"""Every error that Sandcove raises, in one tree.

    SandboxError                      SANDBOX_ERROR            500
    ├── InvalidRequestError           INVALID_REQUEST          400
    │   └── SecurityError             SECURITY                 400
    ├── UnauthorizedError             UNAUTHORIZED             401
    ├── ForbiddenError                FORBIDDEN                403
    ├── QuotaExceededError            QUOTA_EXCEEDED           403
    ├── NotFoundError                 NOT_FOUND                404
    │   ├── SandboxNotFoundError      SANDBOX_NOT_FOUND        404
    │   ├── SessionNotFoundError      SESSION_NOT_FOUND        404
    │   ├── ProcessNotFoundError      PROCESS_NOT_FOUND        404
    │   ├── ContextNotFoundError      CONTEXT_NOT_FOUND        404
    │   ├── PathNotFoundError         PATH_NOT_FOUND           404
    │   └── PortNotExposedError       PORT_NOT_EXPOSED         404
    ├── MethodNotAllowedError         METHOD_NOT_ALLOWED       405
    ├── ConflictError                 CONFLICT                 409
    │   ├── SessionAlreadyExistsError SESSION_EXISTS           409
    │   ├── ProcessAlreadyExistsError PROCESS_EXISTS           409
    │   ├── ProcessEndedError         PROCESS_ENDED            409
    │   ├── ContextEndedError         CONTEXT_ENDED            409
    │   ├── PathExistsError           PATH_EXISTS              409
    │   └── PortAlreadyExposedError   PORT_ALREADY_EXPOSED     409
    ├── TooLargeError                 TOO_LARGE                413
    ├── FileSystemError               FILE_SYSTEM_ERROR        422
    ├── GitError                      GIT_ERROR                422
    ├── ExecutionTimeoutError         EXECUTION_TIMEOUT        408
    ├── CommandFailedError            COMMAND_FAILED           (client only)
    ├── CodeExecutionError            CODE_EXECUTION_ERROR     500
    ├── SandboxNetworkError           NETWORK_ERROR            (client only)
    ├── PortNotListeningError         PORT_NOT_LISTENING       502
    ├── HostUnsupportedError          HOST_UNSUPPORTED         501
    └── ServiceUnavailableError       SERVICE_UNAVAILABLE      503
        ├── RateLimitedError          RATE_LIMITED             429
        ├── ContainerNotReadyError    CONTAINER_NOT_READY      503
        └── InterpreterNotReadyError  INTERPRETER_NOT_READY    503

`code` is stable and crosses the wire in the field ``code``; the message crosses in ``error`` and says
what failed, with which value, and what to do. ``details`` holds the other fields of the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

__all__ = [
    "CodeExecutionError",
    "CommandFailedError",
    "ConflictError",
    "ContainerNotReadyError",
    "ContextEndedError",
    "ContextNotFoundError",
    "ExecutionTimeoutError",
    "FileSystemError",
    "ForbiddenError",
    "GitError",
    "HostUnsupportedError",
    "InterpreterNotReadyError",
    "InvalidRequestError",
    "MethodNotAllowedError",
    "NotFoundError",
    "PathExistsError",
    "PathNotFoundError",
    "PortAlreadyExposedError",
    "PortNotExposedError",
    "PortNotListeningError",
    "ProcessAlreadyExistsError",
    "ProcessEndedError",
    "ProcessNotFoundError",
    "QuotaExceededError",
    "RateLimitedError",
    "SandboxError",
    "SandboxNetworkError",
    "SandboxNotFoundError",
    "SecurityError",
    "ServiceUnavailableError",
    "SessionAlreadyExistsError",
    "SessionNotFoundError",
    "TooLargeError",
    "UnauthorizedError",
    "error_from_wire",
    "error_to_wire",
    "error_tree",
]


class SandboxError(Exception):
    """The root: catching it catches everything that Sandcove raises.

    Args:
        message: what failed, with which value, and what to do.
        **details: further fields of the wire answer, camelCase as on the wire.
    """

    code: ClassVar[str] = "SANDBOX_ERROR"
    status: ClassVar[int] = 500

    def __init__(self, message: str, /, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = details

    def __str__(self) -> str:
        return self.message


class InvalidRequestError(SandboxError):
    """An argument is wrong: a type, a value, an unknown option, a field that is missing."""

    code = "INVALID_REQUEST"
    status = 400


class SecurityError(InvalidRequestError):
    """An argument is refused because it could reach something that it must not (ids, ports, URLs)."""

    code = "SECURITY"


class UnauthorizedError(SandboxError):
    """The key or sandbox token is missing, or is not good: none of this server's, expired, revoked."""

    code = "UNAUTHORIZED"
    status = 401


class ForbiddenError(SandboxError):
    """The key or sandbox token is good, but its scopes don't have this call; or an egress is above `egress_ceiling`.

    Too large a limit is an `InvalidRequestError` by the server's `max_limits`, a `QuotaExceededError` by the key's.
    """

    code = "FORBIDDEN"
    status = 403


class QuotaExceededError(SandboxError):
    """The key has as many of this as it may; the message says of what, and how many."""

    code = "QUOTA_EXCEEDED"
    status = 403


class NotFoundError(SandboxError):
    """What the call names does not exist."""

    code = "NOT_FOUND"
    status = 404


class SandboxNotFoundError(NotFoundError):
    """No sandbox has this id."""

    code = "SANDBOX_NOT_FOUND"


class SessionNotFoundError(NotFoundError):
    """No session of the sandbox has this name."""

    code = "SESSION_NOT_FOUND"


class ProcessNotFoundError(NotFoundError):
    """No process of the sandbox has this id."""

    code = "PROCESS_NOT_FOUND"


class ContextNotFoundError(NotFoundError):
    """No code context of the sandbox has this id."""

    code = "CONTEXT_NOT_FOUND"


class PathNotFoundError(NotFoundError):
    """No file or folder is at this path."""

    code = "PATH_NOT_FOUND"


class PortNotExposedError(NotFoundError):
    """This port of the sandbox is not exposed."""

    code = "PORT_NOT_EXPOSED"


class MethodNotAllowedError(SandboxError):
    """The route exists, but not for this HTTP method."""

    code = "METHOD_NOT_ALLOWED"
    status = 405


class ConflictError(SandboxError):
    """The call contradicts what is there already."""

    code = "CONFLICT"
    status = 409


class SessionAlreadyExistsError(ConflictError):
    """A session of this name exists."""

    code = "SESSION_EXISTS"


class ProcessAlreadyExistsError(ConflictError):
    """A process of this id exists."""

    code = "PROCESS_EXISTS"


class ProcessEndedError(ConflictError):
    """A process ended before what was waited for, or reads no more; `details` has its ``exitCode`` if it has ended."""

    code = "PROCESS_ENDED"


class _CellOutput:
    """What errors tell of a cell that has no end of its own."""

    details: dict[str, Any]

    @property
    def stdout(self) -> str | bytes:
        return self.details.get("stdout", "")  # type: ignore[no-any-return]

    @property
    def stderr(self) -> str | bytes:
        return self.details.get("stderr", "")  # type: ignore[no-any-return]

    @property
    def results(self) -> list[Any]:
        return self.details.get("results", [])  # type: ignore[no-any-return]


class ContextEndedError(_CellOutput, ConflictError):
    """The kernel of a code context has ended, with its variables; `restart` gives the context a new one.

    Attributes:
        stdout: what the cell had printed that it ended in.
        stderr: the same for standard error.
        results: the `Result` list of that cell.
    """

    code = "CONTEXT_ENDED"


class PathExistsError(ConflictError):
    """Something is at this path already."""

    code = "PATH_EXISTS"


class PortAlreadyExposedError(ConflictError):
    """This port of the sandbox is exposed already; `details` has its ``url``."""

    code = "PORT_ALREADY_EXPOSED"


class TooLargeError(SandboxError):
    """What was sent is over a documented limit; the message names the limit and the way around it."""

    code = "TOO_LARGE"
    status = 413


class FileSystemError(SandboxError):
    """The sandbox's file system refused: a folder where a file was meant, no permission, a full disk."""

    code = "FILE_SYSTEM_ERROR"
    status = 422


class GitError(SandboxError):
    """Git could not do it: no such repository or branch, no permission, no way to the remote, no git.

    Attributes:
        stderr: what git said.
        exit_code: git's exit code; 127 when there is no git.
    """

    code = "GIT_ERROR"
    status = 422

    @property
    def stderr(self) -> str:
        return str(self.details.get("stderr") or "")

    @property
    def exit_code(self) -> int:
        code = self.details.get("exitCode")
        return code if isinstance(code, int) and code else 1


class ExecutionTimeoutError(_CellOutput, SandboxError):
    """A command ran longer than its timeout and was ended with all its children; or a cell, and was interrupted.

    Attributes:
        stdout: what it had printed until then.
        stderr: the same for standard error.
        results: what a cell had given: its `Result` list.
    """

    code = "EXECUTION_TIMEOUT"
    status = 408


class CommandFailedError(SandboxError):
    """A command run with ``check=True`` ended with a non-zero exit code; `result` has all of it."""

    code = "COMMAND_FAILED"

    @property
    def result(self) -> Any:
        """The `ExecResult`."""
        return self.details["result"]


class CodeExecutionError(SandboxError):
    """A code context could not be made or copied. Or a cell raised that was run with ``check=True``; else that is a
    result and no error.

    Attributes:
        execution: of such a cell, the `Execution`; else None.
    """

    code = "CODE_EXECUTION_ERROR"

    @property
    def execution(self) -> Any:
        return self.details.get("execution")


class SandboxNetworkError(SandboxError):
    """The connection to the server or the agent failed; the message says which and what to check."""

    code = "NETWORK_ERROR"
    status = 502


class PortNotListeningError(SandboxError):
    """Nothing in the sandbox listens on this TCP port, or what listens does not take connections."""

    code = "PORT_NOT_LISTENING"
    status = 502


class HostUnsupportedError(SandboxError):
    """This machine can't isolate a sandbox; the message says what is missing and how to get it."""

    code = "HOST_UNSUPPORTED"
    status = 501


class ServiceUnavailableError(SandboxError):
    """The server can't do this now.

    Attributes:
        retry_after: seconds after which it may work, or None.
    """

    code = "SERVICE_UNAVAILABLE"
    status = 503

    @property
    def retry_after(self) -> float | None:
        seconds = self.details.get("retryAfter")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 2**53:
            return None
        return float(seconds)


class RateLimitedError(ServiceUnavailableError):
    """The key's requests come too fast; `retry_after` says when the next one may."""

    code = "RATE_LIMITED"
    status = 429


class ContainerNotReadyError(ServiceUnavailableError):
    """The sandbox is starting, ending, or ended during the call."""

    code = "CONTAINER_NOT_READY"


class InterpreterNotReadyError(ServiceUnavailableError):
    """The interpreter of this language is still starting."""

    code = "INTERPRETER_NOT_READY"


def error_tree(root: type[SandboxError] = SandboxError) -> Iterator[type[SandboxError]]:
    """Yields `root` and every error class below it, parents first."""
    yield root
    for child in root.__subclasses__():
        yield from error_tree(child)


def error_to_wire(error: SandboxError) -> dict[str, Any]:
    """The JSON body of an error answer: ``error`` (text), ``code`` and the error's details."""
    # A path whose bytes are no UTF-8 is in the message with surrogates, which no JSON can hold.
    message = error.message.encode("utf-8", "replace").decode()
    return {**error.details, "error": message, "code": error.code}


def error_from_wire(status: int, body: Mapping[str, Any]) -> SandboxError:
    """The error that an answer with this HTTP status and JSON body stands for.

    An unknown code (a newer server's) gives the nearest class by status.
    """
    details = {key: value for key, value in body.items() if key not in ("error", "code")}
    message = str(body.get("error") or f"the server answered with HTTP status {status}")
    by_code = {cls.code: cls for cls in error_tree()}
    code = body.get("code")
    cls = by_code.get(code) if isinstance(code, str) else None
    if cls is None:
        cls = next((c for c in error_tree() if c.status == status), SandboxError)
    return cls(message, **details)
