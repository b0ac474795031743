"""The routes of background processes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandcove.agent.clock import timestamp
from sandcove.agent.commands import INLINE
from sandcove.agent.log_stream import LogStream
from sandcove.agent.ports import wait_for_port
from sandcove.agent.process import Process
from sandcove.agent.text import whole
from sandcove.asgi import body, disconnected, json, raw_body
from sandcove.errors import InvalidRequestError, ProcessEndedError
from sandcove.wire.models import ProcessAnswer, ProcessList, ProcessLogs, StartProcess, WaitForPort
from sandcove.wire.names import MAX_TIMEOUT, check_port, check_timeout

if TYPE_CHECKING:
    from sandcove.agent.app import Agent

__all__ = ["process_routes"]

MOST_LOGS = 32 * 1024 * 1024
"""Bytes of each stream in one answer: the newest. `/stream` gives all that is kept."""
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


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
        _query(http)
        return _answer(self._process(http))

    async def kill(self, http: Request) -> Response:
        """Without a signal: SIGTERM, after a time SIGKILL, and the answer when it has ended. With one: just that."""
        process = self._process(http)
        wanted = _query(http, "signal").get("signal")
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
        _query(http)
        process = self._process(http)
        async with self._agent.large:
            stdout, stderr, more = process.log.newest(MOST_LOGS)
            answer = functools.partial(_logs_answer, process, process.log.end, stdout, stderr, more)
            return answer() if len(stdout) + len(stderr) <= INLINE else await asyncio.to_thread(answer)

    async def stream(self, http: Request) -> Response:
        """(ours) ``cursor``: an offset, or ``end``; ``timeout``: ms; ``output=false``: only the end."""
        process = self._agent.processes.follow(http.path_params["id"])
        query = _query(http, "cursor", "timeout", "output")
        end = process.log.end
        cursor = end if query.get("cursor") == "end" else _number(query, "cursor", 0, end)
        timeout = _number(query, "timeout", None)
        check_timeout(timeout)
        output = query.get("output", "true")
        if output not in _FLAGS:
            raise InvalidRequestError(f"the query parameter output is {output!r}; give true or false")
        return LogStream(http, process, cursor or 0, timeout, _FLAGS[output])

    async def stdin(self, http: Request) -> Response:
        """(ours) the body goes to the process's standard input as it reads; ``close=true`` ends that after it."""
        process = self._process(http)
        close = _query(http, "close").get("close", "false")
        if close not in _FLAGS:
            raise InvalidRequestError(f"the query parameter close is {close!r}; give true or false")
        data = await raw_body(http)
        # Who does not wait for the process to read must not stand in the way of others.
        left = asyncio.ensure_future(disconnected(http))
        try:
            taken = await process.stdin.write(data, unless=left)
        finally:
            left.cancel()
        if not taken:
            raise ProcessEndedError(f"process {process.id!r} reads no more: it has ended or closed its standard input")
        if _FLAGS[close]:
            await process.stdin.close()
        return json({"success": True, "processId": process.id, "written": len(data), "timestamp": timestamp()})

    async def wait_for_port(self, http: Request) -> Response:
        """(ours) answers when something listens."""
        spec = await body(http, WaitForPort)
        check_port(spec.port)
        check_timeout(spec.timeout)
        process = None if spec.process_id is None else self._agent.processes.follow(spec.process_id)
        seconds = None if spec.timeout is None else spec.timeout / 1000
        waiting = asyncio.ensure_future(wait_for_port(spec.port, seconds, process))
        left = asyncio.ensure_future(disconnected(http))
        try:
            await asyncio.wait({waiting, left}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                waiting.result()
        finally:
            for task in (waiting, left):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({task})
        return json({"success": True, "port": spec.port, "timestamp": timestamp()})

    def _process(self, http: Request) -> Process:
        return self._agent.processes.get(http.path_params["id"])

    def _session(self, http: Request) -> str | None:
        name = _query(http, "session").get("session")
        if name is not None:
            self._agent.sessions.get(name)
        return name


def process_routes(agent: Agent) -> list[Route]:
    """All of them."""
    calls = _Calls(agent)

    def route(method: str, path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
        return Route(path, endpoint, methods=[method])

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


def _query(http: Request, *known: str) -> dict[str, str]:
    query = dict(http.query_params)
    if unknown := set(query) - set(known):
        raise InvalidRequestError(f"unknown query parameter {min(unknown)!r}")
    return query


def _number(query: dict[str, str], name: str, default: Any, most: int = MAX_TIMEOUT) -> Any:
    text = query.get(name)
    if text is None:
        return default
    if not re.fullmatch("[0-9]{1,13}", text, re.ASCII) or int(text) > most:
        raise InvalidRequestError(f"the query parameter {name} is {text[:40]!r}; give a whole number of at most {most}")
    return int(text)


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
