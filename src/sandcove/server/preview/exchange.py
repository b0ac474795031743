"""One request and its answer, between a caller and a service: parsed on both sides, framed anew, never stored."""

from __future__ import annotations

from typing import Protocol

from sandcove.server.preview.body import Body, Chunked, Length, UntilClose, framed, last_chunk
from sandcove.server.preview.head import MAX_HEAD, Refused, Request, Response
from sandcove.server.preview.page import Page, wrong
from sandcove.server.preview.rewrite import Heads, answer_head, interim_head, trailers
from sandcove.server.preview.upstream import Upstream

__all__ = ["Caller", "Exchange"]

_REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS"})


class Caller(Protocol):
    """The caller's side."""

    def write(self, data: bytes) -> None: ...

    def end_writing(self) -> None:
        """The caller is told that no more bytes come."""

    def on_full(self, *, full: bool) -> None:
        """The service takes no more of the caller's bytes for now, or again."""

    def finished(self, *, keep: bool) -> None:
        """The answer is at its end; `keep`: the connection can take another request."""

    def failed(self, page: Page) -> None:
        """Nothing of an answer was written yet."""

    def broken(self) -> None:
        """The answer can't be finished."""

    def again(self) -> None:
        """The idle connection to the service had ended: the request is to be sent over another."""


class Exchange:
    """One request.

    Attributes:
        tunnel: bytes go through both ways as they come.
    """

    def __init__(self, caller: Caller, request: Request, heads: Heads) -> None:
        self.request = request
        self._heads = heads
        self.tunnel = False
        self._caller = caller
        self._upstream: Upstream
        self._body: Body = Chunked() if request.length is None else Length(request.length)
        self._head = b""
        self._response: Response | None = None
        self._answer: Body = Length(0)
        self._chunked = False
        self._keep = request.keep_alive
        self._heard = self._told = False
        self._caller_ended = self._service_ended = False

    @property
    def wants(self) -> bool:
        """More bytes of the caller are for it."""
        return self.tunnel or not self._body.done

    def may_reuse(self, idle: float) -> bool:
        """Whether an idle connection will do. The service may be closing it: what can't be sent twice needs a new one
        if it has been idle for a while."""
        return (self.request.method in _REPEATABLE and self._body.done) or idle < 1.0

    def begin(self, upstream: Upstream) -> None:
        """Sends the head."""
        self._upstream = upstream
        upstream.listens = self
        upstream.transport.write(self._heads.request_head(self.request))

    def feed(self, data: bytes) -> bytes:
        """Takes the caller's bytes; returns those that are not its."""
        transport = self._upstream.transport
        if self.tunnel:
            transport.write(data)
            return b""
        out: list[bytes] = []
        try:
            rest = self._body.feed(data, out)
        except Refused as error:
            self.close()
            if not self._told:
                self._caller.failed(wrong(error.status, str(error)))
            else:
                self._caller.broken()
            return b""
        if self.request.length is None:
            out = framed(out)
            if self._body.done:
                out.append(last_chunk(trailers(self._body.trailers)))
        if out:
            transport.write(out[0] if len(out) == 1 else b"".join(out))
        return rest

    def close(self) -> None:
        """Ends it, with its connection to the service."""
        self._upstream.close()

    def caller_ended(self) -> bool:
        """The caller sends no more; False if nothing can come of it now."""
        if not self.tunnel or self._service_ended:
            return False
        self._caller_ended = True
        self._upstream.transport.write_eof()
        return True

    # --- the service's side calls these ---

    def on_full(self, *, full: bool) -> None:
        self._caller.on_full(full=full)

    def on_data(self, data: bytes) -> None:
        self._heard = True
        if self.tunnel:
            self._caller.write(data)
            return
        try:
            out: list[bytes] = []
            if self._response is None:
                if (rest := self._take_head(data, out)) is None:
                    if out:
                        self._caller.write(b"".join(out))
                    return
                data = rest
            self._pass_on(data, out)
        except Refused as error:
            self.close()
            if not self._told:
                self._caller.failed(wrong(502, str(error)))
            else:
                self._caller.broken()

    def on_end(self, *, whole: bool) -> None:
        self._service_ended = True
        if self.tunnel:
            if self._caller_ended or not whole:
                self._caller.broken()
            else:
                self._caller.end_writing()
        elif self._response is None:
            self.close()
            if self._upstream.used and not self._heard and self.request.method in _REPEATABLE and self._body.done:
                self._caller.again()
            else:
                self._caller.failed(wrong(502, "it closed the connection before its answer was there"))
        elif whole and isinstance(self._answer, UntilClose):
            self._answer.done = True
            self._pass_on(b"", [])
        else:
            self.close()
            self._caller.broken()

    def _take_head(self, data: bytes, out: list[bytes]) -> bytes | None:
        """Heads are appended to `out` as the caller gets them; gives what follows the final one once it has come."""
        start = max(len(self._head) - 3, 0)
        self._head += data
        while True:
            end = self._head.find(b"\r\n\r\n", start)
            if end < 0 or end > MAX_HEAD:
                if len(self._head) > MAX_HEAD:
                    raise Refused(502, f"its head is longer than {MAX_HEAD:,} bytes")
                return None
            response = Response.parse(self._head[:end])
            self._head, start = self._head[end + 4 :], 0
            if response.status == 101:
                if self.request.upgrade is None:
                    raise Refused(502, "it changes the protocol without being asked")
                self.tunnel = True
                head = answer_head(
                    response, self._heads, chunked=False, length=False, close=False, old=False, upgrade=True
                )
            elif response.status < 200:
                if self.request.minor:
                    out.append(interim_head(response, self._heads))
                continue
            else:
                head = self._frame(response)
            self._response = response
            out.append(head)
            rest, self._head = self._head, b""
            return rest

    def _frame(self, response: Response) -> bytes:
        """Decides how the body is read and passed on; gives the head for the caller."""
        old = self.request.minor == 0
        none = self.request.method == b"HEAD" or response.status in (204, 304)
        if none:
            self._answer = Length(0)
        elif response.chunked:
            self._answer = Chunked()
        elif response.length is not None:
            self._answer = Length(response.length)
        else:
            self._answer = UntilClose()
        open_ended = isinstance(self._answer, Chunked | UntilClose)
        self._chunked = open_ended and not old
        if not self._body.done or (open_ended and old):
            self._keep = False
        return answer_head(
            response,
            self._heads,
            chunked=self._chunked,
            length=response.status != 204,
            close=not self._keep,
            old=old,
        )

    def _pass_on(self, data: bytes, out: list[bytes]) -> None:
        """The body's bytes, behind what is in `out`, on to the caller."""
        if self.tunnel:
            self._told = True
            self._caller.write(b"".join([*out, data]))
            return
        pieces: list[bytes] = []
        rest = self._answer.feed(data, pieces) if data and not self._answer.done else data
        pieces = [piece for piece in pieces if piece]
        out += framed(pieces) if self._chunked else pieces
        done = self._answer.done
        if done and self._chunked:
            kept = trailers(self._answer.trailers)
            out.append(last_chunk([(name, self._heads.answer_value(name, value)) for name, value in kept]))
        if out:
            self._told = True
            self._caller.write(out[0] if len(out) == 1 else b"".join(out))
        if done:
            assert self._response is not None
            upstream = self._upstream
            reusable = self._response.keep_alive and self._body.done and not rest and not self._service_ended
            if reusable and not isinstance(self._answer, UntilClose):
                upstream.listens = None
                upstream.used = True
            else:
                upstream.close()
            self._caller.finished(keep=self._keep and self._body.done)
