"""The routes of background processes."""

from __future__ import annotations

import asyncio
import functools
import re
import signal
from typing import TYPE_CHECKING

from starlette.requests import Request

from sandcove.agent.commands import INLINE
from sandcove.agent.log_stream import LogStream
from sandcove.agent.ports import wait_for_port
from sandcove.agent.process import Process
from sandcove.agent.text import whole
from sandcove.asgi import while_there
from sandcove.calls import Bytes, Call, Json, raw_body
from sandcove.errors import (
    ExecutionTimeoutError,
    FileSystemError,
    InvalidRequestError,
    PathNotFoundError,
    ProcessAlreadyExistsError,
    ProcessEndedError,
    ProcessNotFoundError,
    SessionNotFoundError,
    TooLargeError,
)
from sandcove.wire.answers import CleanedUp, InputTaken, KilledAll, PortDone, ProcessKilled
from sandcove.wire.clock import timestamp
from sandcove.wire.models import ProcessAnswer, ProcessList, ProcessLogs, StartProcess, WaitForPort
from sandcove.wire.names import check_port, check_timeout
from sandcove.wire.queries import Close, KillProcess, LogFrom, OfSession

if TYPE_CHECKING:
    from sandcove.agent.app import Agent

__all__ = ["process_routes"]

MOST_LOGS = 32 * 1024 * 1024
"""Bytes of each stream in one answer: the newest. `/stream` gives all that is kept."""
STARTING = (SessionNotFoundError, PathNotFoundError, ProcessAlreadyExistsError, FileSystemError)


class _Calls:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def start(self, _: Request, spec: StartProcess) -> Json[ProcessAnswer]:
        """Starts a background process."""
        return _answer(await self._agent.processes.start(self._agent.sessions.get(spec.session_id), spec))

    async def list(self, _: Request, query: OfSession) -> Json[ProcessList]:
        """The background processes, those that have ended too."""
        found = [process.info() for process in self._agent.processes.of(self._session(query))]
        return Json(ProcessList(processes=found, count=len(found), timestamp=timestamp()))

    async def get(self, http: Request) -> Json[ProcessAnswer]:
        """A background process."""
        return _answer(self._process(http))

    async def kill(self, http: Request, query: KillProcess) -> Json[ProcessKilled]:
        """Ends a process with all its children, or sends them a signal.

        Without a signal: SIGTERM, after a time SIGKILL, and the answer when it has ended. With one: just that.
        """
        process = self._process(http)
        if query.signal is None:
            running = not process.exit.done()
            await process.kill()
            message = "it was ended" if running else "it had ended already"
        else:
            number = _signal(query.signal)
            message = f"the signal went to {await process.signal(number)} of its processes"
            if number == signal.SIGKILL:
                await asyncio.wait({process.exit})
        return Json(
            ProcessKilled(
                process_id=process.id,
                session_id=process.session_id,
                message=f"process {process.id!r}: {message}",
                process=process.info(),
                timestamp=timestamp(),
            )
        )

    async def kill_all(self, _: Request, query: OfSession) -> Json[KilledAll]:
        """Ends all background processes."""
        count = await self._agent.processes.kill_all(self._session(query))
        return Json(KilledAll(killed_count=count, message=f"{count} processes were ended", timestamp=timestamp()))

    async def clean_up(self, _: Request, query: OfSession) -> Json[CleanedUp]:
        """(ours) forgets the ended ones."""
        count = self._agent.processes.clean_up(self._session(query))
        return Json(CleanedUp(cleaned_count=count, timestamp=timestamp()))

    async def logs(self, http: Request) -> Json[ProcessLogs]:
        """The newest of what a process has printed."""
        process = self._process(http)
        async with self._agent.large:
            stdout, stderr, more = process.log.newest(MOST_LOGS)
            answer = functools.partial(_logs_answer, process, process.log.end, stdout, stderr, more)
            return answer() if len(stdout) + len(stderr) <= INLINE else await asyncio.to_thread(answer)

    async def stream(self, http: Request, query: LogFrom) -> LogStream:
        """What a process prints, from the first byte or from an offset on, and its end."""
        process = self._agent.processes.follow(http.path_params["id"])
        end = process.log.end
        cursor = end if query.cursor == "end" else query.cursor
        if cursor > end:
            raise InvalidRequestError(f"cursor {cursor} is behind all that was printed, which ends at {end}")
        return LogStream(http, process, cursor, query.heartbeat, timeout=query.timeout, output=query.output)

    async def stdin(self, http: Bytes, query: Close) -> Json[InputTaken]:
        """(ours) writes to a process's standard input.

        The body goes to the process's standard input as it reads; ``close=true`` ends that after it.
        """
        process = self._process(http)
        data = await raw_body(http)
        # Who does not wait for the process to read must not stand in the way of others.
        if not await while_there(http, process.stdin.write(data)):
            raise ProcessEndedError(f"process {process.id!r} reads no more: it has ended or closed its standard input")
        if query.close:
            await process.stdin.close()
        return Json(InputTaken(process_id=process.id, written=len(data), timestamp=timestamp()))

    async def wait_for_port(self, http: Request, spec: WaitForPort) -> Json[PortDone]:
        """(ours) answers when something listens."""
        check_port(spec.port)
        check_timeout(spec.timeout)
        process = None if spec.process_id is None else self._agent.processes.follow(spec.process_id)
        seconds = None if spec.timeout is None else spec.timeout / 1000
        await while_there(http, wait_for_port(spec.port, seconds, process))
        return Json(PortDone(port=spec.port, timestamp=timestamp()))

    def _process(self, http: Request) -> Process:
        return self._agent.processes.get(http.path_params["id"])

    def _session(self, query: OfSession) -> str | None:
        if query.session is not None:
            self._agent.sessions.get(query.session)
        return query.session


def process_routes(agent: Agent) -> list[Call]:
    """All of them."""
    calls = _Calls(agent)
    none = [ProcessNotFoundError]
    ended = [ProcessNotFoundError, ProcessEndedError]
    return [
        Call("POST", "/api/process/start", calls.start, STARTING),
        Call("GET", "/api/process/list", calls.list, [SessionNotFoundError]),
        Call("DELETE", "/api/process/kill-all", calls.kill_all, [SessionNotFoundError]),
        Call("POST", "/api/process/cleanup", calls.clean_up, [SessionNotFoundError]),
        Call("GET", "/api/process/{id}", calls.get, none),
        Call("DELETE", "/api/process/{id}", calls.kill, none),
        Call("GET", "/api/process/{id}/logs", calls.logs, none),
        Call("GET", "/api/process/{id}/stream", calls.stream, none),
        Call("POST", "/api/process/{id}/stdin", calls.stdin, [*ended, TooLargeError]),
        Call("POST", "/api/wait-for-port", calls.wait_for_port, [*ended, ExecutionTimeoutError]),
    ]


def _answer(process: Process) -> Json[ProcessAnswer]:
    return Json(ProcessAnswer(process=process.info(), timestamp=timestamp()))


def _logs_answer(process: Process, cursor: int, stdout: bytes, stderr: bytes, more: bool) -> Json[ProcessLogs]:
    out, out_base64 = whole(stdout)
    err, err_base64 = whole(stderr)
    return Json(
        ProcessLogs(
            process_id=process.id,
            session_id=process.session_id,
            stdout=out,
            stderr=err,
            stdout_base64=out_base64,
            stderr_base64=err_base64,
            truncated=more,
            cursor=cursor,
            timestamp=timestamp(),
        )
    )


def _signal(text: str) -> int:
    """The number of a signal that is given as number or name, with or without ``SIG``."""
    if re.fullmatch("[0-9]{1,3}", text, re.ASCII) and int(text) in signal.valid_signals():
        return int(text)
    name = text.upper()
    try:
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except KeyError:
        raise InvalidRequestError(
            f"signal {text[:40]!r} is none; give a number, or a name such as SIGTERM or TERM"
        ) from None
