"""The server's log: a line of text or a JSON object for each thing that happened, without keys and tokens."""

from __future__ import annotations

import logging
import re
import sys

from sandcove.wire.clock import timestamp
from sandcove.wire.codec import encode

__all__ = ["LogFormatter", "start_logging"]

_SECRET = re.compile(r"\b(sc[ks]_[A-Za-z0-9]{0,12})[A-Za-z0-9_.~+/=-]*|(?i:\b(bearer|basic) )[^\s'\"]+")


def start_logging(format: str) -> None:
    """Logs to standard error from now on, as `format` says: ``text`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter(json=format == "json"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class LogFormatter(logging.Formatter):
    """Lines of text; or JSON objects with ``time``, ``level``, ``logger``, ``message`` and perhaps ``traceback``.

    What looks like a key or a token is cut after its beginning, whatever logged it.
    """

    def __init__(self, *, json: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._json = json

    def format(self, record: logging.LogRecord) -> str:
        if not self._json:
            return _without_secrets(super().format(record))
        content = {
            "time": timestamp(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _without_secrets(record.getMessage()),
        }
        if record.exc_info:
            content["traceback"] = _without_secrets(self.formatException(record.exc_info))
        return encode(content).decode()


def _without_secrets(text: str) -> str:
    return _SECRET.sub(lambda found: (found[1] or f"{found[2]} ") + "...", text)
