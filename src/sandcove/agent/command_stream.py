"""Running a session's command for a caller, as a stream of events."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from starlette.requests import Request

from sandcove.agent.commands import shown, start, timeout_error
from sandcove.agent.event_stream import EventStream
from sandcove.agent.output import Stream
from sandcove.agent.sessions import Sessions
from sandcove.agent.shell import Command
from sandcove.agent.text import Text
from sandcove.errors import SandboxError
from sandcove.wire.clock import timestamp
from sandcove.wire.events import ExecEvent
from sandcove.wire.models import Execute, ExecuteAnswer

__all__ = ["CommandStream"]


class CommandStream(EventStream[ExecEvent]):
    """Runs a command and sends what it prints as it comes; the caller's leaving ends the command."""

    def __init__(self, http: Request, sessions: Sessions, spec: Execute, heartbeat: int) -> None:
        super().__init__(http, heartbeat)
        self._sessions = sessions
        self._spec = spec
        self._command: Command

    async def begin(self) -> None:
        self._command = await start(self._sessions, self._spec, self._http, None)

    async def run(self) -> bytes:
        command = self._command
        try:
            return self.encoded(await self._pump(command))
        finally:
            if not command.output.ended:
                command.output.abandon()
            if not command.ended.done():
                await command.kill()

    async def _pump(self, command: Command) -> ExecEvent:
        """Sends all events but the last, which it returns."""
        spec = self._spec
        began = time.perf_counter()
        timed_out = False

        def event(kind: Any, **fields: Any) -> ExecEvent:
            return ExecEvent(type=kind, timestamp=timestamp(), **fields)

        async def end_late() -> None:
            nonlocal timed_out
            if spec.timeout is not None:
                await asyncio.sleep(spec.timeout / 1000)
                timed_out = not command.ended.done()
                await command.kill()

        text: dict[Stream, Text] = {"stdout": Text(), "stderr": Text()}
        limit = asyncio.ensure_future(end_late())
        try:
            await self.tell(event("start", command=shown(spec)))
            async for stream, chunk in command.output.chunks():
                data, exact = text[stream].feed(chunk)
                if data or exact:
                    await self.tell(event(stream, data=data, bytes=exact))
            for stream, rest in text.items():
                data, exact = rest.end()
                if exact:
                    await self.tell(event(stream, data=data, bytes=exact))
            exit_code = await command.ended
            duration = round((time.perf_counter() - began) * 1000, 3)
            if timed_out:
                error = timeout_error(spec)
                return event("error", error=error.message, code=error.code)
            result = ExecuteAnswer(
                success=exit_code == 0,
                exit_code=exit_code,
                stdout="",
                stderr="",
                command=shown(spec),
                duration=duration,
                timestamp=timestamp(),
                out_of_memory=command.out_of_memory,
            )
            return event("complete", exit_code=exit_code, out_of_memory=result.out_of_memory, result=result)
        except SandboxError as error:
            return event("error", error=error.message, code=error.code)
        finally:
            limit.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await limit
