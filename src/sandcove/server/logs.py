"""The server's log: a line of text or a JSON object for each thing that happened, without keys and tokens."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import logging
import os
import re
import sys
from pathlib import Path
from typing import TextIO

from sandcove.server.aside import MAX_SIZE, put_aside
from sandcove.wire.clock import timestamp
from sandcove.wire.codec import encode

__all__ = ["LogFormatter", "start_logging"]

LONGEST_MESSAGE = 2000
"""Characters."""
LONGEST_TRACEBACK = 20_000
"""Characters, of its end."""
RETRY = 1024 * 1024
"""Bytes by which the log grows until it is tried again to put it aside."""

_ESCAPE = codecs.getencoder("unicode_escape")
"""Had here: its module can't be opened any more when that there are no descriptors left is what is to be logged."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SECRET = re.compile(r"\b(sc[ks]_[A-Za-z0-9]{0,12})[A-Za-z0-9_.~+/=-]*|(?i:\b(bearer|basic) )[^\s'\"]+")


def start_logging(format: str, file: Path) -> None:
    """Logs to standard error from now on, as `format` says: ``text`` or ``json``; if that is `file`, in bounds."""
    handler = _Bounded(file)
    handler.setFormatter(LogFormatter(json=format == "json"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class _Bounded(logging.StreamHandler[TextIO]):
    """Writes to standard error. Where that appends to `file`, it is put aside when it has grown."""

    def __init__(self, file: Path) -> None:
        super().__init__(sys.stderr)
        self._file = file
        self._most = MAX_SIZE

    def emit(self, record: logging.LogRecord) -> None:
        # Where standard error was closed when the server started, there is no stream.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._bound(self.stream.fileno())
        super().emit(record)

    def _bound(self, log: int) -> None:
        size = os.fstat(log).st_size
        if size >= self._most and fcntl.fcntl(log, fcntl.F_GETFL) & os.O_APPEND:
            # If it can't be now, as on a full disk, not each line shall try.
            self._most = size + RETRY
            put_aside(self._file, log)
            self._most = MAX_SIZE


class LogFormatter(logging.Formatter):
    """Lines of text; or JSON objects with ``time``, ``level``, ``logger``, ``message`` and perhaps ``traceback``.

    What looks like a key or a token is cut after its beginning, whatever logged it. A message may have what an
    attacker says in it: it is one line, of limited length, and the lines of its traceback are set in.
    """

    def __init__(self, *, json: bool) -> None:
        super().__init__()
        self._json = json

    def format(self, record: logging.LogRecord) -> str:
        message = _escaped(_without_secrets(record.getMessage()))
        if len(message) > LONGEST_MESSAGE:
            message = f"{message[:LONGEST_MESSAGE]}... ({len(message) - LONGEST_MESSAGE:,} more)"
        lines = []
        if record.exc_info:
            traceback = _without_secrets(self.formatException(record.exc_info))[-LONGEST_TRACEBACK:]
            lines = [_escaped(line) for line in traceback.split("\n")]
        if not self._json:
            head = f"{self.formatTime(record)} {record.levelname} {record.name}: {message}"
            return "\n    ".join([head, *lines])
        content = {
            "time": timestamp(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        if lines:
            content["traceback"] = "\n".join(lines)
        return encode(content).decode()


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: _ESCAPE(found[0])[0].decode(), text)


def _without_secrets(text: str) -> str:
    return _SECRET.sub(lambda found: (found[1] or f"{found[2]} ") + "...", text)
