"""Running a session's command for a caller, to its end."""

from __future__ import annotations

import asyncio
import base64
import functools
import shlex
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from starlette.requests import Request

from sandcove.agent.inputs import drop
from sandcove.agent.sessions import Sessions
from sandcove.agent.shell import Command
from sandcove.agent.text import whole
from sandcove.asgi import disconnected
from sandcove.calls import Json
from sandcove.errors import ExecutionTimeoutError, FileSystemError, InvalidRequestError, SandboxError
from sandcove.waiting import settle
from sandcove.wire.clock import timestamp
from sandcove.wire.models import Execute, ExecuteAnswer
from sandcove.wire.names import check_command, check_env, check_path, check_timeout

__all__ = ["INLINE", "execute", "shown", "start", "timeout_error"]

KEEP = 32 * 1024 * 1024
"""Bytes of each stream that a collected answer holds; the rest is dropped, and `truncated` says so."""
WATCH_AFTER = 0.02
"""Seconds that a collected command runs before its caller's connection is watched."""
INLINE = 256 * 1024
"""Bytes of output up to which an answer is made at once: a thread costs more."""


def _check(request: Execute) -> bytes | None:
    """Checks what the types do not; gives the standard input as bytes."""
    check_command(request.command)
    check_env(request.env or {})
    if request.cwd is not None:
        check_path(request.cwd)
    check_timeout(request.timeout)
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


async def start(sessions: Sessions, spec: Execute, http: Request, keep: int | None) -> Command:
    """Checks the request and starts its command, when its turn has come."""
    stdin: bytes | Path | None = _check(spec)
    session = sessions.get(spec.id)

    async def wanted() -> bool:
        return not await http.is_disconnected()

    path = None if spec.stdin_token is None else sessions.inputs.take(spec.stdin_token)
    try:
        command = await session.run(
            spec.command, cwd=spec.cwd, env=spec.env, stdin=path or stdin, keep=keep, wanted=wanted
        )
    except BaseException as error:
        if path is not None:
            drop(path)
        if isinstance(error, SandboxError | OSError):
            # If the session was deleted meanwhile, that is what counts.
            session.check()
        if isinstance(error, OSError):
            where = f" ({error.filename})" if error.filename else ""
            raise FileSystemError(f"the command can't be started: {error.strerror or error}{where}") from None
        raise
    if path is not None:
        command.ended.add_done_callback(lambda _: drop(path))
    return command


async def execute(sessions: Sessions, spec: Execute, http: Request, large: asyncio.Lock) -> Json[ExecuteAnswer]:
    """Runs a command to its end. The caller's leaving ends it.

    Args:
        large: held while a large answer is made: that takes ten times as much memory as the output has.

    Raises:
        ExecutionTimeoutError: it was ended by its timeout; what it printed until then is in the details.
    """
    command = await start(sessions, spec, http, KEEP)
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
        sessions.get(spec.id)
    output = command.output.kept("stdout"), command.output.kept("stderr")
    milliseconds = round((time.perf_counter() - began) * 1000, 3)
    answer = functools.partial(_answer, command, spec, output, timed_out, milliseconds)
    if sum(map(len, output)) <= INLINE:
        return answer()
    async with large:
        return await asyncio.to_thread(answer)


def _answer(
    command: Command, spec: Execute, output: tuple[bytes, bytes], timed_out: bool, milliseconds: float
) -> Json[ExecuteAnswer]:
    (out, out_base64), (err, err_base64) = map(whole, output)
    if timed_out:
        partial: dict[str, Any] = {"stdout": out, "stderr": err}
        if out_base64 is not None:
            partial["stdoutBase64"] = out_base64
        if err_base64 is not None:
            partial["stderrBase64"] = err_base64
        raise timeout_error(spec, **partial)
    exit_code = command.ended.result()
    return Json(
        ExecuteAnswer(
            success=exit_code == 0,
            exit_code=exit_code,
            stdout=out,
            stderr=err,
            stdout_base64=out_base64,
            stderr_base64=err_base64,
            truncated=command.output.truncated,
            command=shown(spec),
            duration=milliseconds,
            timestamp=timestamp(),
            out_of_memory=command.out_of_memory,
        )
    )


async def _ends_within(command: Command, seconds: float) -> bool:
    loop = asyncio.get_running_loop()
    late: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(seconds, settle, late)
    command.ended.add_done_callback(lambda _: settle(late))
    await late
    timer.cancel()
    return command.ended.done()


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


def shown(spec: Execute) -> str:
    return spec.command if isinstance(spec.command, str) else shlex.join(spec.command)


def timeout_error(spec: Execute, **details: Any) -> ExecutionTimeoutError:
    seconds = (spec.timeout or 0) / 1000
    return ExecutionTimeoutError(
        f"the command ran longer than its timeout of {seconds:g} s and was ended with all its children; "
        "give it a longer timeout, or start it as a process",
        timeout=spec.timeout,
        **details,
    )
