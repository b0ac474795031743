"""The log of a process as a stream of events: from the first byte or from an offset, until the process ends."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from sandcove.agent.event_stream import EventStream
from sandcove.agent.output import Stream
from sandcove.agent.process import Process
from sandcove.agent.text import Text
from sandcove.errors import ExecutionTimeoutError
from sandcove.wire.clock import timestamp
from sandcove.wire.events import LogEvent

__all__ = ["LogStream"]

_TURN = 0.002
"""Seconds for which a stream that need not wait holds the event loop."""


class LogStream(EventStream[LogEvent]):
    """What `process` prints from offset `cursor` on, then its end.

    Args:
        timeout: milliseconds after which an ``error`` ends the stream, not the process.
        output: False: nothing but the end.
    """

    def __init__(
        self, http: Request, process: Process, cursor: int, heartbeat: int, *, timeout: int | None, output: bool
    ) -> None:
        super().__init__(http, heartbeat)
        self._process = process
        self._at = cursor
        self._timeout = timeout
        self._output = output

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._process.log.held():
            await super().__call__(scope, receive, send)

    async def run(self) -> bytes:
        try:
            async with asyncio.timeout(None if self._timeout is None else self._timeout / 1000):
                if self._output:
                    await self._tell_output()
                await asyncio.wait({self._process.exit})
        except TimeoutError:
            error = ExecutionTimeoutError(
                f"process {self._process.id!r} still runs after {(self._timeout or 0) / 1000:g} s of waiting for it"
            )
            return self.encoded(self._event("error", error=error.message, code=error.code))
        info = self._process.info()
        ends = (
            self._event(
                kind,
                exit_code=info.exit_code,
                out_of_memory=info.out_of_memory,
                signal=info.signal,
                status=info.status,
                cursor=self._process.log.end,
                skipped=self._process.log.missing(self._at) if self._output else 0,
            )
            for kind in ("exit", "complete")
        )
        return b"".join(self.encoded(event) for event in ends)

    async def _tell_output(self) -> None:
        log = self._process.log
        text: dict[Stream, Text] = {"stdout": Text(), "stderr": Text()}
        turn = time.monotonic()
        while True:
            if time.monotonic() - turn > _TURN:
                # A reader as fast as this never makes it wait: others have their turn all the same.
                await asyncio.sleep(0)
                turn = time.monotonic()
            piece = log.read(self._at)
            if piece is None:
                if log.closed:
                    break
                await log.grown(self._at)
                continue
            if piece.skipped:
                text = {"stdout": Text(), "stderr": Text()}
            data, exact = text[piece.stream].feed(piece.data)
            self._at = piece.next
            if data or exact or piece.skipped:
                # Whoever goes on from here begins with the character that is not whole yet.
                cursor = self._at - text[piece.stream].held
                await self.tell(self._event(piece.stream, data=data, bytes=exact, cursor=cursor, skipped=piece.skipped))
        for stream, rest in text.items():
            data, exact = rest.end()
            if data or exact:
                await self.tell(self._event(stream, data=data, bytes=exact, cursor=self._at))

    def _event(self, kind: str, **fields: object) -> LogEvent:
        return LogEvent(
            type=kind,  # type: ignore[arg-type]
            timestamp=timestamp(),
            process_id=self._process.id,
            session_id=self._process.session_id,
            **fields,  # type: ignore[arg-type]
        )
