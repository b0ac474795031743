"""The audit log: who did what to which sandbox, with which result, from where. Never with what values."""

from __future__ import annotations

import errno
import logging
import os
import re
from pathlib import Path

from starlette.types import Scope

from sandcove.server.aside import MAX_SIZE, shift
from sandcove.server.caller import Caller
from sandcove.wire.clock import timestamp
from sandcove.wire.codec import encode

__all__ = ["Audit"]

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_WORDS = re.compile(r"[a-z-]{1,32}(?:/[a-z-]{1,32})?(?=/|$)")

_log = logging.getLogger("sandcove.server")


class Audit:
    """A file of JSON objects, one a line, readable by its owner alone."""

    def __init__(self, path: Path, max_size: int = MAX_SIZE) -> None:
        self._path = path
        self._max_size = max_size
        self._open()

    def note(self, scope: Scope, status: int) -> None:
        """Notes a call that changes something, when its answer begins.

        Strangers, who get no further than a 401, are not noted: they could fill the log.
        """
        caller: Caller | None = scope["state"].get("caller")
        if caller is None or scope["method"] in _READING:
            return
        self.write(
            {
                "time": timestamp(),
                "tenant": caller.tenant,
                "key": caller.key,
                "token": caller.sandbox,
                "from": scope["client"][0].removeprefix("::ffff:") if scope["client"] else "local",
                "call": f"{scope['method']} {_call(scope)}",
                "sandbox": scope["state"].get("sandbox") or scope.get("path_params", {}).get("id", "")[:63] or None,
                "status": status,
            }
        )

    def write(self, content: dict[str, object]) -> None:
        line = encode(content) + b"\n"
        try:
            if self._size + len(line) > self._max_size:
                self._rotate()
            written = os.write(self._file, line)
            if written < len(line):
                os.ftruncate(self._file, self._size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._size += written
        except OSError as error:
            _log.error("the audit log %s can't be written: %s; it lacks %s", self._path, error, line.decode())

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._file).st_size

    def _rotate(self) -> None:
        if self._path.exists():  # nobody has taken it away
            self._path.rename(shift(self._path))
        os.close(self._file)
        self._open()

    def close(self) -> None:
        os.close(self._file)


def _call(scope: Scope) -> str:
    """The route; of a relayed call also the first words of its path, which say what is done."""
    found = scope.get("route")
    if found is None:
        return "(no route)"
    path = str(found.path)
    head, relayed, _ = path.partition("{rest:path}")
    if not relayed:
        return path
    words = _WORDS.match(scope["path_params"]["rest"])
    return head + (words[0] if words else "...")
