"""A background process of a sandbox, as its user holds it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from datetime import datetime

import msgspec

from sandcove.client._async.agent import AsyncAgent
from sandcove.client._async.io import Aside
from sandcove.client.check import check_bytes, check_cursor, check_pattern, check_port, check_seconds, check_signal
from sandcove.client.endpoint import Broken, Due, answer_within
from sandcove.client.results import LogEvent, ProcessLogs, when
from sandcove.errors import ProcessEndedError, SandboxNetworkError, error_from_wire
from sandcove.wire import events, models
from sandcove.wire.codec import NOT_JSON, decoder_of
from sandcove.wire.http import quote
from sandcove.wire.sse import SseDecoder

__all__ = ["AsyncProcess", "kill", "log_events", "logs_of"]

SEARCHED = 64 * 1024
"""Characters of the output so far that `wait_for_log` searches together with the newest."""

AT_ONCE = 16 * 1024 * 1024
"""Bytes for standard input that go out in one request."""

_events = decoder_of(events.LogEvent)


class _Killed(msgspec.Struct):
    process: models.ProcessInfo


class AsyncProcess:
    """A process that runs in the background. It outlives the program that started it, not its sandbox's sleep.

    The attributes are as of the last call that asked for them; `refresh` asks anew.

    Attributes:
        id: its name in the sandbox.
        pid: its number there.
        command: what was started; a list is shown as a shell would need it.
        status: ``running``, ``completed`` (exit code 0), ``failed`` (another) or ``killed`` (by a signal, its
            timeout, or `kill`).
        start_time, end_time: when; `end_time` is None while it runs.
        exit_code: None while it runs; 128 + n when signal n ended it.
        signal: the name of the signal that ended it, such as ``SIGKILL``; None when it ended by itself.
        timed_out: its timeout ended it.
        out_of_memory: the kernel killed it: the sandbox had reached its limit of memory.
        session_id: the session that it was started in.
    """

    def __init__(
        self, agent: AsyncAgent, info: models.ProcessInfo, sandbox: object, following: Aside | None = None
    ) -> None:
        self._agent = agent
        self._sandbox = sandbox  # an anonymous one is destroyed when nobody holds it
        self._following = following
        self.pid = info.pid
        self.exit_code: int | None = None
        self._take(info)

    def _take(self, info: models.ProcessInfo) -> None:
        if self.exit_code is not None and info.exit_code is None and info.pid == self.pid:
            return  # The answer to a call that was made before it ended, and overtaken by another's.
        self.id = info.id
        self.pid = info.pid
        self.command = info.command
        self.status: models.ProcessStatus = info.status
        self.start_time: datetime = when(info.start_time)
        self.end_time: datetime | None = None if info.end_time is None else when(info.end_time)
        self.exit_code = info.exit_code
        self.signal = info.signal
        self.timed_out = info.timed_out
        self.out_of_memory = info.out_of_memory
        self.session_id = info.session_id

    async def refresh(self) -> None:
        """Asks for its state.

        Raises:
            ProcessNotFoundError: it was cleaned up, or the sandbox slept.
        """
        answer = await self._agent.call("GET", self._path(), models.ProcessAnswer, repeatable=True)
        self._take(answer.process)

    async def kill(self, signal: int | str | None = None) -> None:
        """Ends it with all its children: SIGTERM, and SIGKILL to what is left 2 s later. Returns when it has ended.

        A daemon that has left both its parent and its session is no child any more.

        Args:
            signal: a number, or a name such as ``"SIGHUP"``: sends just that, to it and all its children.
        """
        self._take(await kill(self._agent, self.id, signal))

    async def logs(self) -> ProcessLogs:
        """What it has printed so far: the newest 32 MiB of each stream. `stream` has all that is kept: 128 MiB."""
        return await logs_of(self._agent, self.id)

    def stream(self, *, cursor: int = 0, timeout: float | None = None) -> AsyncGenerator[LogEvent, None]:
        """Yields what it prints, from the first byte that is kept, as it prints it; last the ``exit`` event.

        Leaving the loop does nothing to the process, nor does a slow reader: it loses what falls out of the log
        (128 MiB), which `LogEvent.skipped` tells.

        Args:
            cursor: where to begin: the `LogEvent.cursor` behind the last event that was seen.
            timeout: seconds.

        Raises:
            ExecutionTimeoutError: the process still runs after `timeout`.
        """
        return self._stream(f"?cursor={check_cursor(cursor)}", timeout)

    async def wait(self, timeout: float | None = None) -> int:
        """Returns the exit code when it has ended, and its `on_output` and `on_exit` have been called.

        Raises:
            ExecutionTimeoutError: it still runs after `timeout` seconds; it goes on.
        """
        code: int | None = None
        stream = self._stream("?cursor=end&output=false", timeout)
        try:
            async for event in stream:
                code = event.exit_code
        finally:
            await stream.aclose()
        if self._following is not None:
            await self._following.join()
        assert code is not None
        return code

    async def wait_for_port(self, port: int, timeout: float | None = None) -> None:
        """Returns when something in the sandbox listens on a TCP port.

        Raises:
            ProcessEndedError: this process ended before.
            ExecutionTimeoutError: nothing listens after `timeout` seconds.
        """
        request = models.WaitForPort(
            port=check_port(port), timeout=check_seconds("timeout", timeout), process_id=self.id
        )
        await self._agent.call(
            "POST", "/api/wait-for-port", dict, request, repeatable=True, within=answer_within(request.timeout)
        )

    async def wait_for_log(self, pattern: str | re.Pattern[str], timeout: float | None = None) -> re.Match[str]:
        """Returns the match when its output, from the first byte on, has one of a regular expression.

        Standard output and standard error are searched apart. A match may be split over pieces of output, and is found
        when it is at most 65,536 characters long.

        Raises:
            ProcessEndedError: it ended without.
            ExecutionTimeoutError: there is none after `timeout` seconds.
        """
        wanted = check_pattern(pattern)
        seen = {"stdout": "", "stderr": ""}
        stream = self._stream("?cursor=0", timeout)
        try:
            async for event in stream:
                if event.type in seen:
                    text = seen[event.type] + event.data
                    if match := wanted.search(text):
                        return match
                    seen[event.type] = text[-SEARCHED:]
        finally:
            await stream.aclose()
        told = (seen["stderr"] or seen["stdout"]).strip()[-500:]
        raise ProcessEndedError(
            f"process {self.id!r} ended with exit code {self.exit_code} and never printed what matches "
            f"{wanted.pattern!r}" + (f"; its output ends: {told}" if told else ""),
            exitCode=self.exit_code,
        )

    async def write_stdin(self, data: str | bytes) -> None:
        """Writes to its standard input; returns when the process, or the 64 KiB of the pipe, has taken it.

        Raises:
            ProcessEndedError: it reads no more: it has ended, or closed its standard input.
        """
        content = check_bytes("data", data)
        for begin in range(0, len(content) or 1, AT_ONCE):
            await self._agent.send("POST", self._path("/stdin"), content[begin : begin + AT_ONCE])

    async def close_stdin(self) -> None:
        """Ends its standard input: after what was written it reads the end of file."""
        await self._agent.send("POST", self._path("/stdin?close=true"), b"")

    def _path(self, rest: str = "") -> str:
        return f"/api/process/{quote(self.id)}{rest}"

    async def _stream(self, query: str, timeout: float | None) -> AsyncGenerator[LogEvent, None]:
        stream = log_events(self._agent, self.id, query, timeout)
        try:
            async for event in stream:
                if event.type == "exit":
                    self.exit_code, self.signal, self.end_time = event.exit_code, event.signal, event.timestamp
                    self.out_of_memory = event.out_of_memory
                    self.status = event.status or self.status
                yield event
        finally:
            await stream.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} {self.status}: {self.command[:60]!r}>"


async def kill(agent: AsyncAgent, id: str, signal: int | str | None) -> models.ProcessInfo:
    """Ends a process, or sends it a signal; what it is then."""
    query = "" if signal is None else f"?signal={check_signal(signal)}"
    return (await agent.call("DELETE", f"/api/process/{quote(id)}{query}", _Killed)).process


async def logs_of(agent: AsyncAgent, id: str) -> ProcessLogs:
    """What a process has printed so far."""
    path = f"/api/process/{quote(id)}/logs"
    return ProcessLogs.of(await agent.call("GET", path, models.ProcessLogs, repeatable=True))


async def log_events(agent: AsyncAgent, id: str, query: str, timeout: float | None) -> AsyncGenerator[LogEvent, None]:
    """The events of a process's log: ``exit`` is the last, an ``error`` is raised."""
    if (limit := check_seconds("timeout", timeout)) is not None:
        query += f"&timeout={limit}"
    response = await agent.open("GET", f"/api/process/{quote(id)}/stream{query}", repeatable=True)
    decoder = SseDecoder()
    ended = False
    due = Due(limit)
    try:
        while not ended:
            messages = decoder.feed(await response.next_piece())
            if not messages:
                due.check()
            for message in messages:
                event = _events.decode(message.data)
                if event.type == "error":
                    raise error_from_wire(500, {"error": event.error, "code": event.code})
                if event.type == "complete":
                    ended = True  # says what `exit` has said
                else:
                    yield LogEvent(event)
                    due.heard()
        await response.finish()
    except Broken as error:
        raise await agent.ended(error) from None
    except NOT_JSON as error:
        raise SandboxNetworkError(f"the agent's answer is not what this client understands: {error}") from None
    finally:
        response.close()
