"""Running commands in a session."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Literal, cast, overload

from sandcove.client._async.agent import AsyncAgent
from sandcove.client._async.client import JSON
from sandcove.client._async.io import Input, call_back
from sandcove.client._async.stdin import AsyncStdin
from sandcove.client.check import (
    StrPath,
    check_callback,
    check_command,
    check_encoding,
    check_env,
    check_env_changes,
    check_flag,
    check_path,
    check_seconds,
)
from sandcove.client.endpoint import Broken, Due, answer_within
from sandcove.client.hooks import Hooks, shown
from sandcove.client.output import Output, exact
from sandcove.client.results import ExecEvent, ExecResult, log, when
from sandcove.errors import (
    CommandFailedError,
    ExecutionTimeoutError,
    SandboxError,
    SandboxNetworkError,
    error_from_wire,
)
from sandcove.wire import events
from sandcove.wire.codec import NOT_JSON, decoder_of, encode
from sandcove.wire.models import Execute, ExecuteAnswer, SetEnv
from sandcove.wire.sse import SseDecoder

__all__ = ["AsyncCommands"]

_answers = decoder_of(ExecuteAnswer)
_events = decoder_of(events.ExecEvent)


class AsyncCommands:
    """What a sandbox and a session can both run."""

    _agent: AsyncAgent
    _session_id: str
    _scope: str | None
    """The session that calls are about; None: the whole sandbox."""
    _hooks: Hooks | None

    @overload
    async def exec(
        self,
        command: str | Sequence[str],
        *,
        cwd: StrPath | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = False,
        stdin: Input | None = None,
        on_stdout: Callable[[str], object] | None = None,
        on_stderr: Callable[[str], object] | None = None,
        encoding: Literal["utf-8"] = "utf-8",
    ) -> ExecResult[str]: ...

    @overload
    async def exec(
        self,
        command: str | Sequence[str],
        *,
        cwd: StrPath | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = False,
        stdin: Input | None = None,
        on_stdout: Callable[[bytes], object] | None = None,
        on_stderr: Callable[[bytes], object] | None = None,
        encoding: None,
    ) -> ExecResult[bytes]: ...

    async def exec(
        self,
        command: str | Sequence[str],
        *,
        cwd: StrPath | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = False,
        stdin: Input | None = None,
        on_stdout: Callable[[Any], object] | None = None,
        on_stderr: Callable[[Any], object] | None = None,
        encoding: Literal["utf-8"] | None = "utf-8",
    ) -> ExecResult[str] | ExecResult[bytes]:
        """Runs a command to its end.

        Args:
            command: a text for the session's shell, which keeps what it changes (``cd``, ``export``, functions),
                or a list of program and arguments, which no shell sees.
            cwd: working directory, for this command, which then changes nothing in the session.
            env: environment variables, for this command, which then changes nothing in the session.
            timeout: seconds after which the command is ended with all its children; None: no limit. For its turn in
                its session, and its answer, it waits 15 minutes longer at most.
            check: raise when the exit code is not 0.
            stdin: what the command reads; without it, its standard input is empty. Text, bytes, a file object or an
                iterable of text or bytes (an asynchronous one too, in the asyncio half), of any size: it is sent in
                pieces, read to its end before the command begins. For a dialogue start a process, and write to it.
            on_stdout, on_stderr: called with each piece of output as it comes.
            encoding: ``"utf-8"`` for text, None for the exact bytes, in the result and in the callbacks.

        Returns:
            Exit code and output; of each stream at most 32 MiB, `truncated` tells when there was more.

        Raises:
            ExecutionTimeoutError: it ran longer than `timeout`; has the output until then.
            CommandFailedError: with `check`, its exit code was not 0; has the result.
            InvalidRequestError: an argument is wrong.
        """
        text = check_encoding(encoding)
        check_callback("on_stdout", on_stdout)
        check_callback("on_stderr", on_stderr)
        check_flag("check", check)
        request = self._execute(command, cwd, env, timeout)
        source = None if stdin is None else AsyncStdin(stdin)
        hooks = self._hooks
        if hooks is not None:
            await self._tell_start(hooks, request)
        try:
            if source is not None:
                await source.send(self._agent, request)
            if on_stdout is None and on_stderr is None and (hooks is None or hooks.output is None):
                result = await self._collect(request, text)
            else:
                result = await self._stream_and_collect(request, text, on_stdout, on_stderr)
        except SandboxError as error:
            await self._tell_failure(hooks, error)
            raise
        await self._tell_end(hooks, result)
        if check and not result.success:
            told = result.stderr.strip() or result.stdout.strip()
            ending = told if isinstance(told, str) else told.decode("utf-8", "replace")
            raise CommandFailedError(
                f"the command {result.command[:200]!r} ended with exit code {result.exit_code}"
                + (f": {ending[-500:]}" if ending else ""),
                result=result,
            )
        return result

    def exec_stream(
        self,
        command: str | Sequence[str],
        *,
        cwd: StrPath | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        stdin: Input | None = None,
    ) -> AsyncGenerator[ExecEvent, None]:
        """Runs a command and yields what happens as it happens: ``start``, output, ``complete``.

        Leaving the loop before its end cancels the command. The command waits while nobody takes its output.

        Args:
            command, cwd, env, timeout, stdin: as for `exec`.

        Raises:
            ExecutionTimeoutError: at the event after the last output, when it ran longer than `timeout`. Its own output
                is empty: the events had it.
            InvalidRequestError: an argument is wrong.
        """
        request = self._execute(command, cwd, env, timeout)
        return self._stream(request, None if stdin is None else AsyncStdin(stdin))

    async def set_env_vars(self, env: Mapping[str, str | None]) -> None:
        """Sets environment variables for everything that starts afterwards; None removes one.

        Of a sandbox: in all its sessions. Of a session: in that one.
        """
        changes = check_env_changes(env)
        await self._agent.call("POST", "/api/env", dict, SetEnv(env=changes, session_id=self._scope), repeatable=True)

    def _execute(self, command: object, cwd: object, env: object, timeout: object) -> Execute:
        """The request, its arguments checked."""
        return Execute(
            id=self._session_id,
            command=check_command(command),
            cwd=None if cwd is None else check_path(cwd, "cwd"),
            env=check_env(env),
            timeout=check_seconds("timeout", timeout),
        )

    async def _collect(self, request: Execute, text: bool) -> ExecResult[str] | ExecResult[bytes]:
        try:
            response = await self._agent.open(
                "POST", "/api/execute", encode(request), JSON, within=answer_within(request.timeout, turn=True)
            )
            answer = _answers.decode(await response.read())
        except ExecutionTimeoutError as error:
            details = error.details
            for name in ("stdout", "stderr"):
                base64 = details.pop(f"{name}Base64", None)
                told = str(details.get(name, ""))
                details[name] = told if text else exact(told, base64 if isinstance(base64, str) else None)
            raise
        except Broken as error:
            raise await self._agent.ended(error) from None
        except NOT_JSON as error:
            raise _not_understood(error) from None
        if text:
            return _result(answer, answer.stdout, answer.stderr, answer.truncated)
        return _result(
            answer,
            exact(answer.stdout, answer.stdout_base64),
            exact(answer.stderr, answer.stderr_base64),
            answer.truncated,
        )

    async def _stream_and_collect(
        self,
        request: Execute,
        text: bool,
        on_stdout: Callable[[Any], object] | None,
        on_stderr: Callable[[Any], object] | None,
    ) -> ExecResult[str] | ExecResult[bytes]:
        collected = {"stdout": Output(text), "stderr": Output(text)}
        callbacks = {"stdout": on_stdout, "stderr": on_stderr}
        on_output = None if self._hooks is None else self._hooks.output
        last: events.ExecEvent | None = None
        stream = self._events(request)
        try:
            async for last in stream:
                if last.type in collected:
                    data = last.data or ""
                    piece = data if text else exact(data, last.bytes)
                    collected[last.type].add(piece)
                    if on_output:
                        await call_back(on_output, last.type, data)
                    if callback := callbacks[last.type]:
                        await call_back(callback, piece)
        except ExecutionTimeoutError as error:
            error.details.update({name: output.value() for name, output in collected.items()})
            raise
        finally:
            await stream.aclose()
        if last is None or last.result is None:
            raise _not_understood("the stream ended without the command's result")
        out, err = collected.values()
        return _result(last.result, out.value(), err.value(), out.truncated or err.truncated)

    async def _stream(self, request: Execute, source: AsyncStdin | None) -> AsyncGenerator[ExecEvent, None]:
        hooks = self._hooks
        if hooks is not None:
            await self._tell_start(hooks, request)
        stream = self._events(request, source)
        try:
            async for event in stream:
                if event.type == "complete" and event.result is not None:
                    await self._tell_end(hooks, _result(event.result, "", "", False))
                elif hooks is not None and hooks.output and event.type in ("stdout", "stderr"):
                    await call_back(hooks.output, event.type, event.data or "")
                yield ExecEvent(event)
        except SandboxError as error:
            await self._tell_failure(hooks, error)
            raise
        finally:
            await stream.aclose()

    async def _tell_start(self, hooks: Hooks, request: Execute) -> None:
        if hooks.start:
            await call_back(hooks.start, shown(request.command))

    async def _tell_end(self, hooks: Hooks | None, result: ExecResult[Any]) -> None:
        log.debug(
            "session %s: a command ended with exit code %d after %.3f s",
            self._session_id,
            result.exit_code,
            result.duration,
        )
        if hooks is not None and hooks.complete:
            await call_back(hooks.complete, result)

    async def _tell_failure(self, hooks: Hooks | None, error: SandboxError) -> None:
        # Never the error's text: it may repeat the command.
        log.debug("session %s: a command failed (%s)", self._session_id, error.code)
        if hooks is not None and hooks.complete:
            await call_back(hooks.complete, error)

    async def _events(
        self, request: Execute, source: AsyncStdin | None = None
    ) -> AsyncGenerator[events.ExecEvent, None]:
        """The wire's events; an ``error`` is raised, and ``complete`` is the last."""
        if source is not None:
            await source.send(self._agent, request)
        response = await self._agent.open("POST", "/api/execute/stream", encode(request), JSON)
        decoder = SseDecoder()
        complete = False
        due = Due(request.timeout, turn=True)
        try:
            while not complete:
                messages = decoder.feed(await response.next_piece())
                if not messages:
                    due.check()
                for message in messages:
                    event = _events.decode(message.data)
                    if event.type == "error":
                        raise error_from_wire(500, {"error": event.error, "code": event.code})
                    complete = event.type == "complete"
                    yield event
                    due.heard()
            await response.finish()
        except Broken as error:
            raise await self._agent.ended(error) from None
        except NOT_JSON as error:
            raise _not_understood(error) from None
        finally:
            response.close()


def _result(
    answer: ExecuteAnswer, stdout: str | bytes, stderr: str | bytes, truncated: bool
) -> ExecResult[str] | ExecResult[bytes]:
    return ExecResult(
        success=answer.success,
        exit_code=answer.exit_code,
        stdout=cast(Any, stdout),
        stderr=cast(Any, stderr),
        command=answer.command,
        duration=round(answer.duration / 1000, 6),
        timestamp=when(answer.timestamp),
        truncated=truncated,
        out_of_memory=answer.out_of_memory,
    )


def _not_understood(error: object) -> SandboxNetworkError:
    return SandboxNetworkError(f"the agent's answer is not what this client understands: {error}")
