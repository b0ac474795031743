"""Running a session's commands for a caller: collected into one answer, or as a stream of events."""

from __future__ import annotations

import asyncio
import base64
import codecs
import contextlib
import re
import shlex
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sandcove.agent.output import Stream
from sandcove.agent.sessions import Sessions, timestamp
from sandcove.agent.shell import Command
from sandcove.agent.stdin import drop
from sandcove.asgi import disconnected, json
from sandcove.errors import ExecutionTimeoutError, InvalidRequestError, SandboxError
from sandcove.wire.codec import encode
from sandcove.wire.events import ExecEvent
from sandcove.wire.models import Execute, ExecuteAnswer
from sandcove.wire.names import check_command, check_env, check_path
from sandcove.wire.sse import encode_comment, encode_event

__all__ = ["EventStream", "Text", "check", "execute", "heartbeat"]

KEEP = 32 * 1024 * 1024
"""Bytes of each stream that a collected answer holds; the rest is dropped, and `truncated` says so."""
WATCH_AFTER = 0.02
"""Seconds that a collected command runs before its caller's connection is watched."""
HEARTBEAT = 15_000
"""Milliseconds of silence after which a stream sends a comment, so that proxies keep it; a caller may say."""


def check(request: Execute) -> bytes | None:
    """Checks what the types do not; gives the standard input as bytes."""
    check_command(request.command)
    check_env(request.env or {})
    if request.cwd is not None:
        check_path(request.cwd)
    if request.timeout is not None and request.timeout <= 0:
        raise InvalidRequestError(f"timeout is {request.timeout} ms; give more than 0, or leave it out for no limit")
    if request.stdin is None:
        return None
    if request.stdin_token is not None:
        raise InvalidRequestError("a command has one standard input: give stdin or stdinToken, not both")
    if request.stdin_encoding == "utf-8":
        return request.stdin.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(request.stdin, validate=True)
    except ValueError as error:
        raise InvalidRequestError(f"stdin is no valid base64: {error}") from None


def heartbeat(http: Request) -> float:
    """Seconds of silence after which the stream that this request asks for sends a comment.

    Raises:
        InvalidRequestError: the query has something else, or no number from 10 to 60,000 (ms).
    """
    if unknown := set(http.query_params) - {"heartbeat"}:
        raise InvalidRequestError(f"unknown query parameter {min(unknown)!r}")
    given = http.query_params.get("heartbeat", str(HEARTBEAT))
    if not re.fullmatch("[0-9]{1,5}", given, re.ASCII) or not 10 <= int(given) <= 60_000:
        raise InvalidRequestError(f"heartbeat {given[:80]!r} is no number of milliseconds from 10 to 60000")
    return int(given) / 1000


async def _start(sessions: Sessions, spec: Execute, http: Request, keep: int | None) -> Command:
    """Checks the request and starts its command, when its turn has come."""
    stdin: bytes | Path | None = check(spec)
    session = sessions.get(spec.id)

    async def wanted() -> bool:
        return not await http.is_disconnected()

    if spec.stdin_token is None:
        return await session.run(spec.command, cwd=spec.cwd, env=spec.env, stdin=stdin, keep=keep, wanted=wanted)
    path = sessions.inputs.take(spec.stdin_token)
    try:
        command = await session.run(spec.command, cwd=spec.cwd, env=spec.env, stdin=path, keep=keep, wanted=wanted)
    except BaseException:
        drop(path)
        raise
    command.ended.add_done_callback(lambda _: drop(path))
    return command


async def execute(sessions: Sessions, spec: Execute, http: Request) -> Response:
    """Runs a command to its end. The caller's leaving ends it.

    Raises:
        ExecutionTimeoutError: it was ended by its timeout; what it printed until then is in the details.
    """
    command = await _start(sessions, spec, http, KEEP)
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
    stdout, stdout_base64 = _text(command.output.kept("stdout"))
    stderr, stderr_base64 = _text(command.output.kept("stderr"))
    if timed_out:
        partial: dict[str, Any] = {"stdout": stdout, "stderr": stderr}
        if stdout_base64 is not None:
            partial["stdoutBase64"] = stdout_base64
        if stderr_base64 is not None:
            partial["stderrBase64"] = stderr_base64
        raise _timeout_error(spec, **partial)
    exit_code = command.ended.result()
    return json(
        ExecuteAnswer(
            success=exit_code == 0,
            exit_code=exit_code,
            stdout=stdout,
            stderr=stderr,
            stdout_base64=stdout_base64,
            stderr_base64=stderr_base64,
            truncated=command.output.truncated,
            command=_shown(spec),
            duration=round((time.perf_counter() - began) * 1000, 3),
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

    def __init__(self, sessions: Sessions, spec: Execute, http: Request) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._sessions = sessions
        self._spec = spec
        self._http = http
        self._heartbeat = heartbeat(http)
        self._sent = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        command = await _start(self._sessions, self._spec, self._http, None)
        self._sent = time.monotonic()
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async with asyncio.TaskGroup() as helpers:
                helping = [helpers.create_task(self._beat(send)), helpers.create_task(self._watch(command))]
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

    async def _beat(self, send: Send) -> None:
        while True:
            silent = time.monotonic() - self._sent
            if silent >= self._heartbeat:
                self._sent, silent = time.monotonic(), 0.0
                await send({"type": "http.response.body", "body": encode_comment(), "more_body": True})
            await asyncio.sleep(self._heartbeat - silent)

    async def _watch(self, command: Command) -> None:
        await disconnected(self._http)
        command.output.abandon()
        await command.kill()


class Text:
    """Bytes of a stream as text, chunk by chunk, no character split.

    `feed` and `end` give the text and, only where it is not exactly the bytes, the bytes in base64.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = b""

    def feed(self, chunk: bytes, final: bool = False) -> tuple[str, str | None]:
        data = self._held + chunk if self._held else chunk
        text = self._decoder.decode(chunk, final)
        self._held, _ = self._decoder.getstate()
        if "\ufffd" in text:
            used = data[: len(data) - len(self._held)]
            if text.encode() != used:
                return text, base64.b64encode(used).decode()
        return text, None

    def end(self) -> tuple[str, str | None]:
        """What is left: the beginning of a character that never ended."""
        return self.feed(b"", final=True)


def _text(data: bytes) -> tuple[str, str | None]:
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace"), base64.b64encode(data).decode()


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
