"""The routes of background processes."""

from __future__ import annotations

import asyncio
import functools
import re
import signal
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandcove.agent.commands import INLINE
from sandcove.agent.log_stream import LogStream
from sandcove.agent.ports import wait_for_port
from sandcove.agent.process import Process
from sandcove.agent.query import flag, number, query
from sandcove.agent.text import whole
from sandcove.asgi import body, json, raw_body, route, while_there
from sandcove.errors import InvalidRequestError, ProcessEndedError
from sandcove.wire.clock import timestamp
from sandcove.wire.models import ProcessAnswer, ProcessList, ProcessLogs, StartProcess, WaitForPort
from sandcove.wire.names import MAX_TIMEOUT, check_port, check_timeout

if TYPE_CHECKING:
    from sandcove.agent.app import Agent

__all__ = ["process_routes"]

MOST_LOGS = 32 * 1024 * 1024
"""Bytes of each stream in one answer: the newest. `/stream` gives all that is kept."""


class _Calls:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def start(self, http: Request) -> Response:
        spec = await body(http, StartProcess)
        return _answer(await self._agent.processes.start(self._agent.sessions.get(spec.session_id), spec))

    async def list(self, http: Request) -> Response:
        found = [process.info() for process in self._agent.processes.of(self._session(http))]
        return json(ProcessList(processes=found, count=len(found), timestamp=timestamp()))

    async def get(self, http: Request) -> Response:
        query(http)
        return _answer(self._process(http))

    async def kill(self, http: Request) -> Response:
        """Without a signal: SIGTERM, after a time SIGKILL, and the answer when it has ended. With one: just that."""
        process = self._process(http)
        wanted = query(http, "signal").get("signal")
        if wanted is None:
            running = not process.exit.done()
            await process.kill()
            message = "it was ended" if running else "it had ended already"
        else:
            number = _signal(wanted)
            message = f"the signal went to {await process.signal(number)} of its processes"
            if number == signal.SIGKILL:
                await asyncio.wait({process.exit})
        return json(
            {
                "success": True,
                "processId": process.id,
                "sessionId": process.session_id,
                "message": f"process {process.id!r}: {message}",
                "process": process.info(),
                "timestamp": timestamp(),
            }
        )

    async def kill_all(self, http: Request) -> Response:
        count = await self._agent.processes.kill_all(self._session(http))
        message = f"{count} processes were ended"
        return json({"success": True, "killedCount": count, "message": message, "timestamp": timestamp()})

    async def clean_up(self, http: Request) -> Response:
        """(ours) forgets the ended ones."""
        count = self._agent.processes.clean_up(self._session(http))
        return json({"success": True, "cleanedCount": count, "timestamp": timestamp()})

    async def logs(self, http: Request) -> Response:
        query(http)
        process = self._process(http)
        async with self._agent.large:
            stdout, stderr, more = process.log.newest(MOST_LOGS)
            answer = functools.partial(_logs_answer, process, process.log.end, stdout, stderr, more)
            return answer() if len(stdout) + len(stderr) <= INLINE else await asyncio.to_thread(answer)

    async def stream(self, http: Request) -> Response:
        """(ours) ``cursor``: an offset, or ``end``; ``timeout``: ms; ``output=false``: only the end."""
        process = self._agent.processes.follow(http.path_params["id"])
        given = query(http, "cursor", "timeout", "output", "heartbeat")
        end = process.log.end
        cursor = end if given.get("cursor") == "end" else number(given, "cursor", 0, most=end)
        timeout = number(given, "timeout", None, least=1, most=MAX_TIMEOUT)
        return LogStream(http, process, cursor, timeout=timeout, output=flag(given, "output", True))

    async def stdin(self, http: Request) -> Response:
        """(ours) the body goes to the process's standard input as it reads; ``close=true`` ends that after it."""
        process = self._process(http)
        close = flag(query(http, "close"), "close", False)
        data = await raw_body(http)
        # Who does not wait for the process to read must not stand in the way of others.
        if not await while_there(http, process.stdin.write(data)):
            raise ProcessEndedError(f"process {process.id!r} reads no more: it has ended or closed its standard input")
        if close:
            await process.stdin.close()
        return json({"success": True, "processId": process.id, "written": len(data), "timestamp": timestamp()})

    async def wait_for_port(self, http: Request) -> Response:
        """(ours) answers when something listens."""
        spec = await body(http, WaitForPort)
        check_port(spec.port)
        check_timeout(spec.timeout)
        process = None if spec.process_id is None else self._agent.processes.follow(spec.process_id)
        seconds = None if spec.timeout is None else spec.timeout / 1000
        await while_there(http, wait_for_port(spec.port, seconds, process))
        return json({"success": True, "port": spec.port, "timestamp": timestamp()})

    def _process(self, http: Request) -> Process:
        return self._agent.processes.get(http.path_params["id"])

    def _session(self, http: Request) -> str | None:
        name = query(http, "session").get("session")
        if name is not None:
            self._agent.sessions.get(name)
        return name


def process_routes(agent: Agent) -> list[Route]:
    """All of them."""
    calls = _Calls(agent)

    async def one(http: Request) -> Response:
        return await (calls.kill(http) if http.method == "DELETE" else calls.get(http))

    return [
        route("POST", "/api/process/start", calls.start),
        route("GET", "/api/process/list", calls.list),
        route("DELETE", "/api/process/kill-all", calls.kill_all),
        route("POST", "/api/process/cleanup", calls.clean_up),
        Route("/api/process/{id}", one, methods=["GET", "DELETE"]),
        route("GET", "/api/process/{id}/logs", calls.logs),
        route("GET", "/api/process/{id}/stream", calls.stream),
        route("POST", "/api/process/{id}/stdin", calls.stdin),
        route("POST", "/api/wait-for-port", calls.wait_for_port),
    ]


def _answer(process: Process) -> Response:
    return json(ProcessAnswer(process=process.info(), timestamp=timestamp()))


def _logs_answer(process: Process, cursor: int, stdout: bytes, stderr: bytes, more: bool) -> Response:
    out, out_base64 = whole(stdout)
    err, err_base64 = whole(stderr)
    return json(
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
