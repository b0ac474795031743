"""The events of the streams, one JSON object each."""

from __future__ import annotations

from typing import Literal

import msgspec

from sandcove.wire.models import ExecuteAnswer, ProcessStatus

__all__ = ["ExecEvent", "FileEvent", "LogEvent"]


class ExecEvent(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """One event of ``POST /api/execute/stream``.

    First ``start``, then any of ``stdout`` and ``stderr``, last ``complete`` or ``error``.
    """

    type: Literal["start", "stdout", "stderr", "complete", "error"]
    timestamp: str
    command: str | None = None
    data: str | None = None
    """Text of stdout and stderr: whole characters; U+FFFD for what is no UTF-8."""
    bytes: str | None = None
    """(ours) base64 of the exact bytes, there only when `data` is not exactly them."""
    exit_code: int | None = None
    out_of_memory: bool = False
    """(ours) on ``complete``, as in its `result`."""
    result: ExecuteAnswer | None = None
    """On ``complete``: exit code, success and duration; its stdout and stderr are empty, the events had them."""
    error: str | None = None
    code: str | None = None
    """(ours) on ``error``: the error's code, see `sandcove.errors`."""


class LogEvent(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """One event of ``GET /api/process/{id}/stream``.

    Any of ``stdout`` and ``stderr``, then ``exit`` and, with the same fields, ``complete``: the seed's types name the
    one, its server sends the other. ``error`` instead of them when the reader's time was over.
    """

    type: Literal["stdout", "stderr", "exit", "complete", "error"]
    timestamp: str
    process_id: str
    session_id: str
    data: str = ""
    """Text of stdout and stderr: whole characters; U+FFFD for what is no UTF-8."""
    bytes: str | None = None
    """(ours) base64 of the exact bytes, there only when `data` is not exactly them."""
    cursor: int | None = None
    """(ours) the offset behind this event; a stream that is asked for with it goes on there."""
    skipped: int = 0
    """(ours) bytes before this event that the log does not hold any more."""
    exit_code: int | None = None
    signal: str | None = None
    """(ours) as in `ProcessInfo`."""
    out_of_memory: bool = False
    """(ours) as in `ProcessInfo`."""
    status: ProcessStatus | None = None
    error: str | None = None
    code: str | None = None


class FileEvent(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """One event of ``POST /api/read/stream``.

    First ``metadata``, then any of ``chunk``, last ``complete`` or ``error``.
    """

    type: Literal["metadata", "chunk", "complete", "error"]
    mime_type: str | None = None
    size: int | None = None
    """Bytes of the file when it was opened."""
    is_binary: bool | None = None
    encoding: Literal["utf-8", "base64"] | None = None
    """Of all chunks: text of whole characters, or base64 of each for itself."""
    data: str | None = None
    bytes_read: int | None = None
    error: str | None = None
    code: str | None = None
    """(ours) on ``error``: the error's code, see `sandcove.errors`."""
