"""What the arguments of `fetch` may be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from sandcove.client.check import wrong
from sandcove.errors import InvalidRequestError
from sandcove.wire.http import request_head

__all__ = ["REPEATABLE", "Headers", "check_headers", "check_method", "check_url"]

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that ask, and change nothing."""

_URL = re.compile(r"(?:https?://(?:localhost|127\.0\.0\.1|\[::1\])(?::([0-9]{1,5}))?)?([/?].*)?", re.ASCII | re.DOTALL)
_UNQUOTED = re.compile(r"[^!-~]")
_OURS = frozenset({"connection", "content-length", "host", "transfer-encoding", "upgrade"})


def check_url(value: object, port: int) -> str:
    """Path and query of a URL, or of a path: what can't stand there is quoted; a fragment is left out.

    Raises:
        InvalidRequestError: it leads somewhere else than to `port` of the sandbox.
    """
    if not isinstance(value, str):
        raise wrong("url", "a str", value)
    match = _URL.fullmatch(value)
    if match is None or int(match[1] or port) != port:
        raise InvalidRequestError(
            f"url {value[:200]!r} is neither a path that begins with '/' nor of the form http://localhost:{port}/..."
        )
    path = (match[2] or "/").partition("#")[0]
    if not path.startswith("/"):
        path = "/" + path
    return _UNQUOTED.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "replace")), path)


def check_method(value: object) -> str:
    """An HTTP method."""
    if not isinstance(value, str) or not re.fullmatch("[A-Za-z][A-Za-z-]{0,30}", value):
        raise wrong("method", "an HTTP method such as 'POST'", value)
    return value.upper()


def check_headers(value: Headers | None) -> str:
    """Header lines, each with its line end.

    Raises:
        InvalidRequestError: one is no header, or says how the request is sent.
    """
    pairs: list[object] = list(value.items() if isinstance(value, Mapping) else value or ())
    checked: list[tuple[str, str]] = []
    for pair in pairs:
        match pair:
            case (str() as name, str() as text):
                checked.append((name, text))
            case _:
                raise wrong("headers", "names and values, all str", pair)
        if name.lower() in _OURS:
            raise InvalidRequestError(f"header {name!r} is written by fetch itself; leave it out")
    head = request_head("GET", "/", checked)
    return head[head.index(b"\r\n") + 2 : -2].decode("latin-1")
