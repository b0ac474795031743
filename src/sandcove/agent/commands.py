"""Running a session's commands for a caller: collected into one answer, or as a stream of events."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import shlex
import time
from collections.abc import Coroutine
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sandcove.agent.clock import timestamp
from sandcove.agent.output import Stream
from sandcove.agent.sessions import Session
from sandcove.agent.shell import Command
from sandcove.agent.text import Text, whole
from sandcove.asgi import disconnected, json
from sandcove.errors import ExecutionTimeoutError, FileSystemError, InvalidRequestError, SandboxError
from sandcove.wire.codec import encode
from sandcove.wire.events import ExecEvent
from sandcove.wire.models import Execute, ExecuteAnswer
from sandcove.wire.names import check_command, check_env, check_path, check_timeout
from sandcove.wire.sse import encode_event

__all__ = ["INLINE", "EventStream", "check", "execute"]

KEEP = 32 * 1024 * 1024
"""Bytes of each stream that a collected answer holds; the rest is dropped, and `truncated` says so."""
WATCH_AFTER = 0.02
"""Seconds that a collected command runs before its caller's connection is watched."""
INLINE = 256 * 1024
"""Bytes of output up to which an answer is made at once: a thread costs more."""
HEARTBEAT = 15.0
"""Seconds of silence after which a stream sends a comment, so that proxies keep it."""


def check(request: Execute) -> bytes | None:
    """Checks what the types do not; gives the standard input as bytes."""
    check_command(request.command)
    check_env(request.env or {})
    if request.cwd is not None:
        check_path(request.cwd)
    check_timeout(request.timeout)
    if request.stdin is None:
        return None
    if request.stdin_encoding == "utf-8":
        return request.stdin.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(request.stdin, validate=True)
    except ValueError as error:
        raise InvalidRequestError(f"stdin is no valid base64: {error}") from None


async def _start(session: Session, spec: Execute, stdin: bytes | None, http: Request, keep: int | None) -> Command:
    async def wanted() -> bool:
        return not await http.is_disconnected()

    try:
        return await session.run(spec.command, cwd=spec.cwd, env=spec.env, stdin=stdin, keep=keep, wanted=wanted)
    except (SandboxError, OSError) as error:
        # If the session was deleted meanwhile, that is what counts.
        session.check()
        if isinstance(error, SandboxError):
            raise
        where = f" ({error.filename})" if error.filename else ""
        raise FileSystemError(f"the command can't be started: {error.strerror or error}{where}") from None


async def execute(session: Session, spec: Execute, http: Request, large: asyncio.Lock) -> Response:
    """Runs a command to its end. The caller's leaving ends it.

    Args:
        large: held while a large answer is made: that takes ten times as much memory as the output has.

    Raises:
        ExecutionTimeoutError: it was ended by its timeout; what it printed until then is in the details.
    """
    stdin = check(spec)
    command = await _start(session, spec, stdin, http, KEEP)
    began = time.perf_counter()
    timed_out = False
    try:
        # Most commands end at once: only for longer ones is it worth a task to see whether the caller is still there.
        quick = WATCH_AFTER if spec.timeout is None else min(WATCH_AFTER, spec.timeout / 1000)
        if not await _ends_within(command, quick):
            timed_out = not await _ends_before(command, disconnected(http), spec.timeout)
    finally:
        if not command.ended.done():
            await command.kill()
    if not timed_out and command.ended.exception() is not None:
        session.check()
    output = command.output.kept("stdout"), command.output.kept("stderr")
    milliseconds = round((time.perf_counter() - began) * 1000, 3)
    answer = functools.partial(_answer, command, spec, output, timed_out, milliseconds)
    if sum(map(len, output)) <= INLINE:
        return answer()
    async with large:
        return await asyncio.to_thread(answer)


def _answer(
    command: Command, spec: Execute, output: tuple[bytes, bytes], timed_out: bool, milliseconds: float
) -> Response:
    (out, out_base64), (err, err_base64) = map(whole, output)
    if timed_out:
        partial: dict[str, Any] = {"stdout": out, "stderr": err}
        if out_base64 is not None:
            partial["stdoutBase64"] = out_base64
        if err_base64 is not None:
            partial["stderrBase64"] = err_base64
        raise _timeout_error(spec, **partial)
    exit_code = command.ended.result()
    return json(
        ExecuteAnswer(
            success=exit_code == 0,
            exit_code=exit_code,
            stdout=out,
            stderr=err,
            stdout_base64=out_base64,
            stderr_base64=err_base64,
            truncated=command.output.truncated,
            command=_shown(spec),
            duration=milliseconds,
            timestamp=timestamp(),
        )
    )


async def _ends_within(command: Command, seconds: float) -> bool:
    loop = asyncio.get_running_loop()
    late: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(seconds, _set, late)
    command.ended.add_done_callback(lambda _: _set(late))
    await late
    timer.cancel()
    return command.ended.done()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _ends_before(command: Command, gone: Coroutine[Any, Any, None], timeout: int | None) -> bool:
    """Waits for the command's end or the caller's leaving; False when `timeout` (ms) is over first."""
    leaving = asyncio.ensure_future(gone)
    seconds = None if timeout is None else timeout / 1000
    waiting: set[asyncio.Future[Any]] = {command.ended, leaving}
    try:
        done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
    return bool(done)


class EventStream(Response):
    """Runs a command and sends what it prints as it comes; the caller's leaving ends the command."""

    media_type = "text/event-stream"

    def __init__(self, session: Session, spec: Execute, http: Request) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._session = session
        self._spec = spec
        self._http = http
        self._stdin = check(spec)
        self._sent = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        command = await _start(self._session, self._spec, self._stdin, self._http, None)
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async with asyncio.TaskGroup() as helpers:
                helping = [helpers.create_task(self._heartbeat(send)), helpers.create_task(self._watch(command))]
                await self._pump(command, send)
                for task in helping:
                    task.cancel()
        finally:
            if not command.output.ended:
                command.output.abandon()
            if not command.ended.done():
                await command.kill()
        await send({"type": "http.response.body", "body": b""})

    async def _pump(self, command: Command, send: Send) -> None:
        spec = self._spec
        began = time.perf_counter()
        timed_out = False

        async def event(kind: Any, **fields: Any) -> None:
            self._sent = time.monotonic()
            message = ExecEvent(type=kind, timestamp=timestamp(), **fields)
            await send({"type": "http.response.body", "body": encode_event(encode(message)), "more_body": True})

        async def end_late() -> None:
            nonlocal timed_out
            if spec.timeout is not None:
                await asyncio.sleep(spec.timeout / 1000)
                timed_out = not command.ended.done()
                await command.kill()

        text: dict[Stream, Text] = {"stdout": Text(), "stderr": Text()}
        limit = asyncio.ensure_future(end_late())
        try:
            await event("start", command=_shown(spec))
            async for stream, chunk in command.output.chunks():
                data, exact = text[stream].feed(chunk)
                if data or exact:
                    await event(stream, data=data, bytes=exact)
            for stream, rest in text.items():
                data, exact = rest.end()
                if exact:
                    await event(stream, data=data, bytes=exact)
            exit_code = await command.ended
            duration = round((time.perf_counter() - began) * 1000, 3)
            if timed_out:
                error = _timeout_error(spec)
                await event("error", error=error.message, code=error.code)
                return
            result = ExecuteAnswer(
                success=exit_code == 0,
                exit_code=exit_code,
                stdout="",
                stderr="",
                command=_shown(spec),
                duration=duration,
                timestamp=timestamp(),
            )
            await event("complete", exit_code=exit_code, result=result)
        except SandboxError as error:
            await event("error", error=error.message, code=error.code)
        finally:
            limit.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await limit

    async def _heartbeat(self, send: Send) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            if time.monotonic() - self._sent >= HEARTBEAT:
                await send({"type": "http.response.body", "body": b": \n\n", "more_body": True})

    async def _watch(self, command: Command) -> None:
        await disconnected(self._http)
        command.output.abandon()
        await command.kill()


def _shown(spec: Execute) -> str:
    return spec.command if isinstance(spec.command, str) else shlex.join(spec.command)


def _timeout_error(spec: Execute, **details: Any) -> ExecutionTimeoutError:
    seconds = (spec.timeout or 0) / 1000
    return ExecutionTimeoutError(
        f"the command ran longer than its timeout of {seconds:g} s and was ended with all its children; "
        "give it a longer timeout, or start it as a process",
        timeout=spec.timeout,
        **details,
    )
