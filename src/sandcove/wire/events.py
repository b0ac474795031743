"""The events of the streams, one JSON object each."""

from __future__ import annotations

from typing import Literal

import msgspec

from sandcove.wire.models import ExecuteAnswer

__all__ = ["ExecEvent"]


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
    result: ExecuteAnswer | None = None
    """On ``complete``: exit code, success and duration; its stdout and stderr are empty, the events had them."""
    error: str | None = None
    code: str | None = None
    """(ours) on ``error``: the error's code, see `sandcove.errors`."""
