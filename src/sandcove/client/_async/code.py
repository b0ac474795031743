"""Code contexts of a sandbox, and cells in them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from sandcove.client._async.agent import AsyncAgent
from sandcove.client._async.context import AsyncCodeContext, code_events, id_of, path_of
from sandcove.client._async.io import call_back
from sandcove.client.check import (
    StrPath,
    check_callback,
    check_env,
    check_flag,
    check_language,
    check_path,
    check_seconds,
    check_text,
    wrong,
)
from sandcove.client.endpoint import START
from sandcove.client.execution import Assembly, CodeEvent, Execution, ExecutionError
from sandcove.client.results import log
from sandcove.client.rich import Result
from sandcove.errors import (
    CodeExecutionError,
    ContextEndedError,
    ExecutionTimeoutError,
    InvalidRequestError,
    SandboxError,
)
from sandcove.wire import code as wire

__all__ = ["AsyncCode"]


class AsyncCode:
    """What a sandbox and a session can both do with code contexts. A sandbox has those of all its sessions."""

    _agent: AsyncAgent
    _session_id: str
    _scope: str | None

    async def create_code_context(
        self,
        language: wire.Language = "python",
        *,
        cwd: StrPath | None = None,
        env_vars: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> AsyncCodeContext:
        """Makes a code context: a process of its own, which keeps variables from one cell to the next.

        Args:
            language: ``"python"``, ``"javascript"`` or ``"typescript"``.
            cwd: the folder that it begins in; ``/workspace`` by default, of a session the session's.
            env_vars: environment variables beside the session's.
            timeout: seconds that each of its cells may run that is given no other; None: no limit.

        Raises:
            CodeExecutionError: the sandbox lacks what runs this language; the message says how to get it.
            PathNotFoundError: `cwd` is not there.
            InvalidRequestError: an argument is wrong.
        """
        check_seconds("timeout", timeout)
        request = wire.CreateContext(
            language=check_language(language),
            cwd=None if cwd is None else check_path(cwd, "cwd"),
            env_vars=check_env(env_vars, "env_vars"),
            session_id=self._session_id,
        )
        info = await self._agent.call("POST", "/api/contexts", wire.ContextInfo, request, within=START)
        return AsyncCodeContext(self._agent, info, self, timeout)

    async def run_code(
        self,
        code: str,
        *,
        context: AsyncCodeContext | str | None = None,
        language: wire.Language | None = None,
        env_vars: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = False,
        on_stdout: Callable[[str], Awaitable[object] | object] | None = None,
        on_stderr: Callable[[str], Awaitable[object] | object] | None = None,
        on_result: Callable[[Result], Awaitable[object] | object] | None = None,
        on_error: Callable[[ExecutionError], Awaitable[object] | object] | None = None,
    ) -> Execution:
        """Runs a cell to its end. That it raises is told by `Execution.error`.

        Args:
            code: the cell.
            context: a context or its id; None: the default context of the language, which the first such call makes;
                a session has its own.
            language: of the default context, ``"python"`` if not given. With `context` it must be the context's.
            env_vars: environment variables for this cell only.
            timeout: seconds that it may run, its wait for the cells before it not counted; then it is interrupted.
                None: those of the context, if it is given as an object that has some; else there is no limit.
            check: raise when the cell does.
            on_stdout, on_stderr: called with each piece of text that it prints, as it comes.
            on_result: called with each `Result`, as it comes.
            on_error: called when it raises.

        Raises:
            ExecutionTimeoutError: it ran longer than `timeout`; has what it printed, and its results. The variables of
                the context stay.
            ContextEndedError: the context's process has ended, now or before: it was killed, or ended itself. Has what
                the cell printed, and its results.
            CodeExecutionError: with `check`, it raised; has the `Execution`.
            ContextNotFoundError: there is no such context.
            InvalidRequestError: an argument is wrong.
        """
        check_flag("check", check)
        callbacks: dict[str, Callable[[Any], object] | None] = {
            "stdout": on_stdout,
            "stderr": on_stderr,
            "result": on_result,
            "error": on_error,
        }
        for name, callback in callbacks.items():
            check_callback(f"on_{name}", callback)
        assembly = Assembly()
        stream = self._code_events(self._run_code(code, context, language, env_vars, timeout))
        try:
            async for event, size in stream:
                assembly.add(event, size)
                if callback := callbacks.get(event.type):
                    told = CodeEvent(event)
                    await call_back(callback, told.result or told.error or told.text)
        except (ExecutionTimeoutError, ContextEndedError) as error:
            error.details.update(assembly.so_far())
            raise
        finally:
            await stream.aclose()
        execution = assembly.execution(code)
        if check and execution.error is not None:
            raise CodeExecutionError(
                f"the cell raised {str(execution.error)[:500]}"
                + (f" (line {execution.error.line_number})" if execution.error.line_number else ""),
                execution=execution,
            )
        return execution

    def run_code_stream(
        self,
        code: str,
        *,
        context: AsyncCodeContext | str | None = None,
        language: wire.Language | None = None,
        env_vars: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[CodeEvent, None]:
        """Runs a cell and yields what it gives as it comes; ``execution_complete`` is the last.

        Leaving the loop before its end interrupts the cell. The cell waits while nobody takes what it gives.

        Args:
            code, context, language, env_vars, timeout: as for `run_code`.

        Raises:
            ExecutionTimeoutError, ContextEndedError: as `run_code` does, but without output and results: the events
                had them.
            ContextNotFoundError: there is no such context.
            InvalidRequestError: an argument is wrong.
        """
        return self._stream_code(self._run_code(code, context, language, env_vars, timeout))

    async def list_code_contexts(self) -> list[AsyncCodeContext]:
        """Those there are, default contexts among them, in the order in which they were made."""
        listing = await self._agent.call("GET", "/api/contexts", wire.ContextList, repeatable=True)
        ours = (info for info in listing.contexts if self._scope in (None, info.session_id))
        return [AsyncCodeContext(self._agent, info, self) for info in ours]

    async def delete_code_context(self, context: AsyncCodeContext | str) -> None:
        """Ends a context, given itself or by its id; see `AsyncCodeContext.delete`."""
        await self._agent.call("DELETE", path_of(self._id_of(context)), dict)

    async def interrupt(
        self, context: AsyncCodeContext | str | None = None, *, language: wire.Language | None = None
    ) -> bool:
        """Interrupts the cell that runs in a context; see `AsyncCodeContext.interrupt`.

        Args:
            context: a context or its id; None: the default context of the language.
            language: of the default context, ``"python"`` if not given.
        """
        path = path_of(self._context_of(context, language), "/interrupt")
        return (await self._agent.call("POST", path, wire.Interrupted)).interrupted

    async def restart(
        self, context: AsyncCodeContext | str | None = None, *, language: wire.Language | None = None
    ) -> None:
        """Gives a context a new process, without the variables; see `AsyncCodeContext.restart`.

        Args:
            context, language: as for `interrupt`.
        """
        path = path_of(self._context_of(context, language), "/restart")
        if isinstance(context, AsyncCodeContext):
            await context.restart()
        else:
            await self._agent.call("POST", path, wire.ContextInfo, within=START)

    def _context_of(self, context: AsyncCodeContext | str | None, language: wire.Language | None) -> str:
        if context is None:
            chosen = "python" if language is None else check_language(language)
            return wire.default_context(chosen, self._session_id)
        if language is not None:
            raise InvalidRequestError("give a context, or a language for its default context, not both")
        return self._id_of(context)

    def _id_of(self, context: AsyncCodeContext | str) -> str:
        if not isinstance(context, AsyncCodeContext | str):
            raise wrong("context", "a code context or the id of one", context)
        # Default contexts have the same ids everywhere.
        if isinstance(context, AsyncCodeContext) and context._agent.id != self._agent.id:  # noqa: SLF001 - see above
            raise InvalidRequestError(
                f"context {context.id} is of sandbox {context._agent.id}, not of {self._agent.id}"  # noqa: SLF001
            )
        return id_of(context)

    def _run_code(
        self,
        code: str,
        context: AsyncCodeContext | str | None,
        language: wire.Language | None,
        env_vars: Mapping[str, str] | None,
        timeout: float | None,
    ) -> wire.RunCode:
        """The request, its arguments checked."""
        if timeout is None and isinstance(context, AsyncCodeContext):
            timeout = context.timeout
        return wire.RunCode(
            code=check_text("code", code),
            context_id=None if context is None else self._id_of(context),
            language=None if language is None else check_language(language),
            timeout=check_seconds("timeout", timeout),
            env_vars=check_env(env_vars, "env_vars"),
            session_id=self._session_id,
        )

    async def _stream_code(self, request: wire.RunCode) -> AsyncGenerator[CodeEvent, None]:
        stream = self._code_events(request)
        try:
            async for event, _ in stream:
                yield CodeEvent(event)
        finally:
            await stream.aclose()

    async def _code_events(self, request: wire.RunCode) -> AsyncGenerator[tuple[wire.CodeEvent, int], None]:
        began = time.monotonic()
        stream = code_events(self._agent, request)
        where = request.context_id or wire.default_context(request.language or "python", self._session_id)
        outcome = "ended"
        try:
            async for event in stream:
                if event[0].type == "error":
                    outcome = "raised"
                yield event
        except SandboxError as error:
            # Never the error's text: it may repeat what the cell holds.
            log.debug("context %s: a cell failed (%s)", where, error.code)
            raise
        finally:
            await stream.aclose()
        log.debug("context %s: a cell %s after %.3f s", where, outcome, time.monotonic() - began)
