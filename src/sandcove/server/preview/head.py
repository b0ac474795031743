"""The head of a request or an answer, parsed strictly: what two programs could read differently is refused. No I/O."""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "MAX_FIELDS",
    "MAX_HEAD",
    "Beginning",
    "Headers",
    "Refused",
    "Request",
    "Response",
    "fields",
    "is_host",
    "parse_request",
    "request_line",
]

MAX_HEAD: Final = 64 * 1024
"""Bytes of a head at most."""
MAX_FIELDS: Final = 256

Headers = list[tuple[bytes, bytes]]
"""Names, in lower case, and values, in order."""

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}) ([!-~]+) HTTP/([0-9])\.([0-9])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
_HOST = re.compile(rb"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*)|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?#@]+)([/?].*)?", re.IGNORECASE)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\0")
_BARE_SO_FAR = re.compile(rb"(?<!\r)\n|\r(?![\n])(?!\Z)|\0")


class Refused(Exception):  # noqa: N818 - it says what becomes of a request; no user sees it
    """A head or body that is not passed on; `status` is the answer's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Beginning:
    """A request's head that comes in pieces. Each byte is looked at once, however small they are."""

    def __init__(self) -> None:
        self._seen = 0
        self._line = False

    def end(self, data: bytearray) -> int | None:
        """Where the blank line begins at the head's end; None until it has come.

        A line break before the head is taken away. Until the end was found, `data` only grows.

        Raises:
            Refused: it can't become right any more.
        """
        if data.startswith(b"\r\n"):
            del data[:2]
            self._seen = 0
        end = data.find(b"\r\n\r\n", max(self._seen - 3, 0), MAX_HEAD + 4)
        if end >= 0:
            self._seen, self._line = 0, False
            return end
        if len(data) > MAX_HEAD:
            raise Refused(431, f"its head is longer than {MAX_HEAD:,} bytes")
        # The last byte again: whether a line feed follows is known now.
        start = max(self._seen - 1, 0)
        if _BARE_SO_FAR.search(data, start):
            raise Refused(400, "it is no HTTP/1.1")
        if not self._line and (line := data.find(b"\r\n", start)) >= 0:
            if not _REQUEST_LINE.fullmatch(data, 0, line):
                raise Refused(400, "it is no HTTP/1.1")
            self._line = True
        self._seen = len(data)
        return None


class Request:
    """A request's head.

    Attributes:
        method: as sent.
        target: origin form (or ``*``), ASCII.
        minor: 0 or 1, of HTTP/1.x.
        headers: all of them.
        host: the Host header's value; empty when HTTP/1.0 gave none.
        length: of the body; None when it is chunked.
        keep_alive: another request may follow.
        upgrade: the protocol that is asked for, or None.
        connection: the options of the Connection header, in lower case.
    """

    __slots__ = ("connection", "headers", "host", "keep_alive", "length", "method", "minor", "target", "upgrade")

    def __init__(self, method: bytes, target: bytes, minor: int, headers: Headers) -> None:
        self.method = method
        self.minor = minor
        self.headers = headers
        self.host = _host(headers, minor)
        self.target = _origin_form(method, target, self.host)
        self.length = _request_length(headers, minor)
        self.connection = _options(headers)
        self.keep_alive = b"close" not in self.connection and (minor == 1 or b"keep-alive" in self.connection)
        upgrade = self.get(b"upgrade")
        wanted = minor == 1 and self.length == 0 and method == b"GET" and b"upgrade" in self.connection
        self.upgrade = upgrade if wanted and upgrade and b"h2c" not in upgrade.lower() else None
        expect = self.get(b"expect")
        if expect is not None and expect.lower() != b"100-continue":
            raise Refused(417, "the only expectation that is met is 100-continue")

    def get(self, name: bytes) -> bytes | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name), None)

    def accepts_html(self) -> bool:
        """A browser asks, for a page."""
        return b"text/html" in (self.get(b"accept") or b"").lower()


class Response:
    """An answer's head.

    Attributes:
        status: 100 to 999.
        reason: what stands after it.
        minor: 0 or 1, of HTTP/1.x.
        headers: all of them.
        length: of the body, or None.
        chunked: the body comes in chunks.
        keep_alive: the connection can take another request.
        connection: the options of the Connection header, in lower case.
    """

    __slots__ = ("chunked", "connection", "headers", "keep_alive", "length", "minor", "reason", "status")

    def __init__(self, status: int, reason: bytes, minor: int, headers: Headers) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        self.headers = headers
        self.connection = _options(headers)
        self.keep_alive = b"close" not in self.connection and (minor == 1 or b"keep-alive" in self.connection)
        lengths = {value for name, value in headers if name == b"content-length"}
        codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
        if len(lengths) > 1 or any(not _LENGTH.fullmatch(value) for value in lengths):
            raise Refused(502, "the service's answer has no clear Content-Length")
        if codings and (codings != [b"chunked"] or lengths):
            raise Refused(502, "the service's answer has no clear Transfer-Encoding")
        self.chunked = bool(codings)
        self.length = int(next(iter(lengths))) if lengths else None

    @classmethod
    def parse(cls, head: bytes) -> Response:
        """Of a head without the blank line at its end.

        Raises:
            Refused: 502.
        """
        line, _, rest = head.partition(b"\r\n")
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise Refused(502, "what the service answers is no HTTP/1.1")
        try:
            headers = fields(rest)
        except Refused as error:
            raise Refused(502, f"the service's answer is wrong: {error}") from None
        return cls(int(match[2]), match[3] or b"", int(match[1]), headers)


def parse_request(head: bytes) -> Request:
    """Of a head without the blank line at its end.

    Raises:
        Refused: it is wrong, or ambiguous.
    """
    line, _, rest = head.partition(b"\r\n")
    method, target, minor = request_line(line)
    return Request(method, target, minor, fields(rest))


def request_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Method, target and minor version.

    Raises:
        Refused: it is wrong.
    """
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Refused(400, "the request line is wrong")
    if match[3] != b"1":
        raise Refused(505, "the version spoken here is HTTP/1.1")
    return match[1], match[2], min(int(match[4]), 1)


def is_host(text: str) -> bool:
    """It could be the value of a Host header."""
    return _HOST.fullmatch(text.encode("latin-1", "replace")) is not None


def fields(text: bytes) -> Headers:
    """Header or trailer lines, without the blank line at their end.

    Raises:
        Refused: 400 for what is no line of one, 431 for too many.
    """
    if not text:
        return []
    if _BARE.search(text):
        raise Refused(400, "a header has a bare line break or a NUL")
    found: Headers = []
    for line in text.removesuffix(b"\r\n").split(b"\r\n"):
        match = _FIELD.fullmatch(line)
        if match is None:
            raise Refused(400, "a header line is wrong")
        found.append((match[1].lower(), match[2].strip(b" \t")))
    if len(found) > MAX_FIELDS:
        raise Refused(431, f"there are over {MAX_FIELDS} headers")
    return found


def _options(headers: Headers) -> frozenset[bytes]:
    values = [value for name, value in headers if name == b"connection"]
    return frozenset(option.strip().lower() for value in values for option in value.split(b","))


def _host(headers: Headers, minor: int) -> str:
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or (minor == 1 and not hosts):
        raise Refused(400, "a request has one Host header")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise Refused(400, "the Host header is wrong")
    return hosts[0].decode("ascii") if hosts else ""


def _origin_form(method: bytes, target: bytes, host: str) -> str:
    if match := _ABSOLUTE.fullmatch(target):
        if match[1].lower() != host.lower().encode():
            raise Refused(400, "the target and the Host header name different hosts")
        target = match[2] or b"/"
        if target.startswith(b"?"):
            target = b"/" + target
    elif not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        raise Refused(400, "the request target is no path")
    if b"#" in target:
        raise Refused(400, "the request target has a fragment")
    return target.decode("ascii")


def _request_length(headers: Headers, minor: int) -> int | None:
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings:
        if len(codings) > 1 or codings[0].lower() != b"chunked" or minor == 0 or lengths:
            raise Refused(400, "a body's end is told by one Content-Length, or by `Transfer-Encoding: chunked` alone")
        return None
    if len(lengths) > 1 or (lengths and not _LENGTH.fullmatch(lengths[0])):
        raise Refused(400, "a request has one Content-Length, a number")
    return int(lengths[0]) if lengths else 0
