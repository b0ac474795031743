"""Background processes of a sandbox, or of one session of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

import msgspec

from sandcove.client._async.agent import AsyncAgent
from sandcove.client._async.io import Aside, call_back
from sandcove.client._async.process import AsyncProcess, kill, log_events, logs_of
from sandcove.client.check import (
    StrPath,
    check_callback,
    check_command,
    check_cursor,
    check_env,
    check_flag,
    check_path,
    check_port,
    check_process_id,
    check_seconds,
)
from sandcove.client.endpoint import answer_within
from sandcove.client.results import LogEvent, ProcessLogs, log
from sandcove.errors import SandboxError
from sandcove.wire import models
from sandcove.wire.http import quote

__all__ = ["AsyncProcesses", "OnExit", "OnOutput"]

OnOutput = Callable[[str, str], Awaitable[object] | object]
"""Called with ``"stdout"`` or ``"stderr"`` and each piece of output."""
OnExit = Callable[[int], Awaitable[object] | object]
"""Called with the exit code."""


class _Killed(msgspec.Struct, rename="camel"):
    killed_count: int


class _Cleaned(msgspec.Struct, rename="camel"):
    cleaned_count: int


class AsyncProcesses:
    """What a sandbox and a session can both do with processes. A sandbox has those of all its sessions."""

    _agent: AsyncAgent
    _session_id: str
    _scope: str | None

    async def start_process(
        self,
        command: str | Sequence[str],
        *,
        process_id: str | None = None,
        cwd: StrPath | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        auto_cleanup: bool = False,
        on_output: OnOutput | None = None,
        on_exit: OnExit | None = None,
    ) -> AsyncProcess:
        """Starts a process in the background; returns at once.

        It starts in the session's folder with the session's variables, as they are now; functions and aliases stay
        with the session's shell. Its standard input is a pipe, for `AsyncProcess.write_stdin`.

        Args:
            command: a text for bash, or a list of program and arguments, which no shell sees.
            process_id: its id, 1 to 128 characters of ``A-Z a-z 0-9 _ . @ : -``; else one is made up.
            cwd: working directory.
            env: further environment variables.
            timeout: seconds after which it is killed with all its children.
            auto_cleanup: forget it with its log when it has ended. Else the newest 256 that ended are kept.
            on_output: called with ``"stdout"`` or ``"stderr"`` and each piece of text that it prints.
            on_exit: called with its exit code.

        The two functions are called beside the program, in a thread (or task) of their own, for as long as the program
        lives.

        Raises:
            ProcessAlreadyExistsError: there is one with this id.
            PathNotFoundError: `cwd` or the program of a list is not there.
        """
        check_callback("on_output", on_output)
        check_callback("on_exit", on_exit)
        request = models.StartProcess(
            command=check_command(command),
            session_id=self._session_id,
            options=models.ProcessOptions(
                process_id=None if process_id is None else check_process_id(process_id),
                cwd=None if cwd is None else check_path(cwd, "cwd"),
                env=check_env(env),
                timeout=check_seconds("timeout", timeout),
                auto_cleanup=check_flag("auto_cleanup", auto_cleanup),
            ),
        )
        answer = await self._agent.call("POST", "/api/process/start", models.ProcessAnswer, request)
        following = None
        if on_output is not None or on_exit is not None:
            following = Aside(_follow, self._agent, answer.process.id, on_output, on_exit)
        return AsyncProcess(self._agent, answer.process, self, following)

    async def list_processes(self) -> list[AsyncProcess]:
        """Those that run and those that have ended and are not cleaned up, in the order of their start."""
        answer = await self._agent.call("GET", self._of("list"), models.ProcessList, repeatable=True)
        return [self._process(info) for info in answer.processes]

    async def get_process(self, id: str) -> AsyncProcess:
        """The process with this id.

        Raises:
            ProcessNotFoundError: there is none.
        """
        path = f"/api/process/{quote(check_process_id(id))}"
        answer = await self._agent.call("GET", path, models.ProcessAnswer, repeatable=True)
        return self._process(answer.process)

    async def kill_process(self, id: str, signal: int | str | None = None) -> None:
        """Ends a process with all its children, or sends a signal; see `AsyncProcess.kill`."""
        await kill(self._agent, check_process_id(id), signal)

    async def kill_all_processes(self) -> int:
        """Ends all that run, as `AsyncProcess.kill` does; gives how many that were."""
        return (await self._agent.call("DELETE", self._of("kill-all"), _Killed)).killed_count

    async def cleanup_completed_processes(self) -> int:
        """Forgets those that have ended, and their logs; gives how many that were."""
        return (await self._agent.call("POST", self._of("cleanup"), _Cleaned)).cleaned_count

    async def get_process_logs(self, id: str) -> ProcessLogs:
        """What a process has printed so far; see `AsyncProcess.logs`."""
        return await logs_of(self._agent, check_process_id(id))

    def stream_process_logs(
        self, id: str, *, cursor: int = 0, timeout: float | None = None
    ) -> AsyncGenerator[LogEvent, None]:
        """Yields what a process prints; see `AsyncProcess.stream`."""
        return log_events(self._agent, check_process_id(id), f"?cursor={check_cursor(cursor)}", timeout)

    async def wait_for_port(self, port: int, timeout: float | None = None) -> None:
        """Returns when something in the sandbox listens on a TCP port.

        Raises:
            ExecutionTimeoutError: nothing does after `timeout` seconds.
        """
        request = models.WaitForPort(port=check_port(port), timeout=check_seconds("timeout", timeout))
        await self._agent.call(
            "POST", "/api/wait-for-port", dict, request, repeatable=True, within=answer_within(request.timeout)
        )

    def _process(self, info: models.ProcessInfo) -> AsyncProcess:
        return AsyncProcess(self._agent, info, self)

    def _of(self, what: str) -> str:
        session = "" if self._scope is None else f"?session={quote(self._scope)}"
        return f"/api/process/{what}{session}"


async def _follow(agent: AsyncAgent, id: str, on_output: OnOutput | None, on_exit: OnExit | None) -> None:
    """Calls the two functions until the process has ended, or can't be followed any more."""
    stream = log_events(agent, id, "?cursor=0", None)
    try:
        async for event in stream:
            if event.type == "exit":
                if on_exit is not None and event.exit_code is not None:
                    await call_back(on_exit, event.exit_code)
            elif on_output is not None:
                await call_back(on_output, event.type, event.data)
    except SandboxError as error:
        log.debug("process %s is not followed any more: %s", id, error)
    finally:
        await stream.aclose()
