"""A sans-I/O HTTP/1.1 client core: bytes of a request out, events of a response in. It opens no socket.

`request_head` writes a request's first bytes and refuses what could smuggle a second request into it.
`ResponseParser` is fed whatever the connection gave, cut anywhere, and returns the same events for every cut::

    Head, bytes..., END

httptools (llhttp) does the parsing: strict, so that an answer with two lengths, or a length and chunks, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import httptools

from sandcove.errors import InvalidRequestError, SandboxNetworkError

__all__ = ["END", "MAX_HEAD_BYTES", "End", "Event", "Head", "ResponseParser", "chunk", "quote", "request_head"]

MAX_HEAD_BYTES: Final = 64 * 1024
"""Longest response head, interim (1xx) heads before it included; also the longest trailer or chunk extension."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_TARGET = re.compile(r"[!-~]+", re.ASCII)
_FORBIDDEN_IN_VALUE = re.compile(r"[\r\n\0]")
_PLAIN = re.compile(r"[A-Za-z0-9_./~-]*", re.ASCII)
_QUOTED = [chr(b) if _PLAIN.fullmatch(chr(b)) else f"%{b:02X}" for b in range(256)]


class Head:
    """The first event of a response.

    Attributes:
        status: 200 to 599; 1xx where they were asked for.
        headers: names as sent and values, in order.
    """

    __slots__ = ("headers", "status")
    __hash__ = None  # type: ignore[assignment] # it is compared, in tests, and `headers` may change

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = headers

    def get(self, name: bytes) -> bytes | None:
        """The first value of header `name` (given in lower case), or None."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Head) and (self.status, self.headers) == (other.status, other.headers)

    def __repr__(self) -> str:
        return f"Head({self.status}, {self.headers})"


class End:
    """The last event of a response: its body is whole."""

    def __repr__(self) -> str:
        return "END"


END: Final = End()
Event = Head | bytes | End


def quote(value: str) -> str:
    """`value` as part of a URL's path or query: UTF-8, all percent-encoded but letters, digits and ``_ . / ~ -``."""
    if _PLAIN.fullmatch(value):
        return value
    return "".join(map(_QUOTED.__getitem__, value.encode("utf-8", "surrogateescape")))


def request_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The request line and header lines, with the blank line that ends them.

    Args:
        method: an HTTP method.
        target: path and query, quoted.
        headers: names and values; Host and the body's framing are the caller's to give.

    Raises:
        InvalidRequestError: a space, control character or line break where the request could be split by it.
    """
    if not _TOKEN.fullmatch(method):
        raise InvalidRequestError(f"HTTP method {method!r} is no token")
    if not _TARGET.fullmatch(target):
        raise InvalidRequestError(
            f"request target {target[:80]!r} has a space, control or non-ASCII character; quote it"
        )
    lines = [f"{method} {target} HTTP/1.1\r\n"]
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise InvalidRequestError(f"header name {name[:80]!r} is no token")
        if _FORBIDDEN_IN_VALUE.search(value):
            raise InvalidRequestError(f"the value of header {name} has a line break or NUL character")
        lines.append(f"{name}: {value}\r\n")
    lines.append("\r\n")
    try:
        return "".join(lines).encode("latin-1")
    except UnicodeEncodeError:
        raise InvalidRequestError("a header value has a character outside Latin-1; quote it") from None


def chunk(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body; empty data gives nothing, because an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class ResponseParser:
    """Parses the responses of one connection, one after the other.

    Call `expect` before each request. After `END`, `reusable` says whether the connection can take another request.
    A violation of the protocol, or of the limits, raises `SandboxNetworkError`; the connection is then to be closed.
    """

    def __init__(self) -> None:
        self.reusable = False
        self.upgraded: bytes | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._events: list[Event] = []
        self._headers: list[tuple[bytes, bytes]] = []
        self._no_body = self._interim = False
        self._silent = 0
        self._headed = False
        self._ended = True
        self._until_close = False
        self._odd_status: int | None = None

    def expect(self, method: str, *, interim: bool = False) -> None:
        """A request with this method was sent: its response comes next.

        Args:
            interim: heads of interim answers (1xx) are events too. After one of status 101 that does change the
                protocol comes `END`, and `upgraded` has what came behind it, which is no HTTP.
        """
        if not self._ended:
            raise RuntimeError("the response before is not at its end")
        self._no_body = method == "HEAD"
        self._interim = interim
        self.upgraded = None
        self._silent = 0
        self._headed = self._ended = self._until_close = self.reusable = False
        self._headers = []

    def feed(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """What `data`, the next bytes of the connection, completes; bytes after `END` make it not reusable."""
        events: list[Event] = []
        self._events = events
        rest = memoryview(data)
        while rest and not self._ended:
            # A head over the limit must be refused however it was cut, so never more than the limit is fed
            # before the head is complete.
            piece = rest if self._headed else rest[: MAX_HEAD_BYTES - self._silent]
            before = len(events)
            self._parse(piece)
            rest = rest[len(piece) :]
            self._silent = 0 if len(events) > before else self._silent + len(piece)
            if self._silent >= MAX_HEAD_BYTES:
                raise SandboxNetworkError(f"the answer's head or trailer is longer than {MAX_HEAD_BYTES:,} bytes")
        if rest:
            self.reusable = False
            if self.upgraded is not None:
                self.upgraded += rest
        return events

    def feed_eof(self) -> list[Event]:
        """The other end closed: the end of a body without a length, or an error.

        Raises:
            SandboxNetworkError: the response is cut short.
        """
        if self._ended:
            return []
        if not self._until_close:
            raise SandboxNetworkError("the connection ended in the middle of the answer")
        self._ended = True
        return [END]

    @property
    def started(self) -> bool:
        """A byte of the response has come."""
        return self._headed or self._silent > 0

    def _parse(self, piece: memoryview) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as error:
            if self._interim and self._events and isinstance(head := self._events[-1], Head) and head.status == 101:
                self.upgraded = bytes(piece[error.args[0] :])
                self.reusable = False
                self._ended = True
                self._events.append(END)
                return
            raise SandboxNetworkError("the other end changed the protocol, which was not asked for") from None
        except httptools.HttpParserError as error:
            if self._odd_status is not None:
                raise SandboxNetworkError(f"the other end answered with status {self._odd_status}") from None
            if not self._ended:
                raise SandboxNetworkError(f"the other end does not speak HTTP/1.1: {error}") from None
            self.reusable = False

    # --- httptools calls these; after the end it may go on with bytes that belong to no response ---

    def on_message_begin(self) -> None:
        if self._ended:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headed:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._ended:
            return
        status = self._parser.get_status_code()
        if not 100 <= status < 600:
            self._odd_status = status
            raise ValueError
        if status < 200:
            if self._interim:
                self._events.append(Head(status, self._headers))
            self._headers = []
            return
        self._headed = True
        head = Head(status, self._headers)
        self._events.append(head)
        if self._no_body:
            # llhttp can't be told that this response has no body in spite of its length, so it starts anew.
            self.reusable = self._parser.should_keep_alive()
            self._parser = httptools.HttpResponseParser(self)
            self._ended = True
            self._events.append(END)
        elif status not in (204, 304):
            self._until_close = not self._framed(head)

    def on_body(self, data: bytes) -> None:
        if not self._ended:
            self._events.append(data)

    def on_message_complete(self) -> None:
        if self._headed and not self._ended:
            self.reusable = self._parser.should_keep_alive()
            self._ended = True
            self._events.append(END)

    @staticmethod
    def _framed(head: Head) -> bool:
        """The response's end is told by a length or by chunks, not by the connection's end."""
        encoding = head.get(b"transfer-encoding")
        if encoding is not None:
            return encoding.lower().split(b",")[-1].strip() == b"chunked"
        return head.get(b"content-length") is not None
