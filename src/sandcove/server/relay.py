"""HTTP from the server to an agent: a caller's request passed on, with its answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sandcove.errors import ContainerNotReadyError, SandboxError, SandboxNetworkError
from sandcove.server.agents import AgentConnection, Agents
from sandcove.wire.http import Head, chunk, request_head

__all__ = ["Relay"]

WATCH_AFTER = 0.02
"""Seconds that a call runs before its caller's connection is watched."""
# RFC 9110, section 7.6.1: what belongs to one connection is not passed on. Keys are the server's own.
_HOP_BY_HOP = frozenset(
    {
        b"authorization",
        b"connection",
        b"host",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


class Relay(Response):
    """The caller's request, sent on to the agent at `socket` under `target`, and its answer byte for byte.

    Both bodies are streamed with back-pressure. A caller who leaves closes the agent's connection, which ends what
    it had asked for.

    Args:
        wake: called, once, when the agent is not there.
        traffic: counts the bytes of the bodies.
        broken: gives the error for an answer that broke off before it began.
    """

    def __init__(
        self,
        http: Request,
        agents: Agents,
        socket: Path,
        target: str,
        *,
        wake: Callable[[], Awaitable[None]],
        traffic: Counter[str],
        broken: Callable[[Exception], SandboxError],
    ) -> None:
        self._http = http
        self._agents = agents
        self._socket = socket
        self._target = target
        self._wake = wake
        self._traffic = traffic
        self._broken = broken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        headers = list(_passed_on(scope["headers"]))
        names = {name for name, _ in scope["headers"]}
        chunked = b"transfer-encoding" in names and b"content-length" not in names
        framing = [("transfer-encoding", "chunked")] if chunked else []
        first: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        self._traffic["in"] += len(first)
        data = request_head(self._http.method, self._target, [("host", "agent"), *headers, *framing])
        data += _framed(first, chunked, last=not more)
        connection = await self._begin(data)
        # Most calls are over at once: only for the others is it worth a task to see whether the caller is still there.
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[None]] = []

        def follow() -> None:
            tasks.append(loop.create_task(self._send_rest(connection, receive, chunked, more=more)))

        later = loop.call_later(0 if more else WATCH_AFTER, follow)
        whole = False
        try:
            await self._pass_answer(connection, send)
            whole = not more
        except (OSError, SandboxNetworkError) as error:
            raise self._broken(error) from None
        finally:
            later.cancel()
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            if whole:
                self._agents.done(self._socket, connection)
            else:
                connection.close()

    async def _begin(self, data: bytes) -> AgentConnection:
        try:
            return await self._agents.request(self._socket, self._http.method, data)
        except ContainerNotReadyError:
            await self._wake()
            return await self._agents.request(self._socket, self._http.method, data)

    async def _send_rest(self, connection: AgentConnection, receive: Receive, chunked: bool, *, more: bool) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                connection.close()
                return
            if more:
                more = message.get("more_body", False)
                self._traffic["in"] += len(message.get("body", b""))
                await connection.send(_framed(message.get("body", b""), chunked, last=not more))

    async def _pass_answer(self, connection: AgentConnection, send: Send) -> None:
        while True:
            for event in await connection.receive():
                if isinstance(event, Head):
                    # A 304 may tell the length of what it does not send, and uvicorn would hold it to that.
                    left_out = _HOP_BY_HOP | {b"content-length"} if event.status in (204, 304) else _HOP_BY_HOP
                    headers = [(name, value) for name, value in event.headers if name.lower() not in left_out]
                    await send({"type": "http.response.start", "status": event.status, "headers": headers})
                elif isinstance(event, bytes):
                    self._traffic["out"] += len(event)
                    await send({"type": "http.response.body", "body": event, "more_body": True})
                else:
                    await send({"type": "http.response.body", "body": b""})
                    return


def _framed(data: bytes, chunked: bool, *, last: bool) -> bytes:
    if not chunked:
        return data
    return (chunk(data) if data else b"") + (b"0\r\n\r\n" if last else b"")


def _passed_on(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[str, str]]:
    for name, value in headers:
        if name not in _HOP_BY_HOP:
            yield name.decode("latin-1"), value.decode("latin-1")
