"""What the server itself asks agents. Code inside may have taken an agent over: what it answers is short, in time and
of the form that was asked for, or it is an error like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from sandcove.errors import ContainerNotReadyError, SandboxError, SandboxNetworkError, error_from_wire
from sandcove.server.agents import AgentConnection
from sandcove.wire.answers import Activity
from sandcove.wire.codec import NOT_JSON, decoder_of, encode
from sandcove.wire.http import END, Head, request_head
from sandcove.wire.models import Quiet, Rest

__all__ = ["activity", "ask", "processes", "quieten", "rest", "set_env"]

T = TypeVar("T")

TIMEOUT = 5.0
LONGEST_ANSWER = 64 * 1024
"""Bytes; those of an error too."""


async def activity(agent: Path, within: float = TIMEOUT) -> Activity:
    """How many calls and processes run, and since when none does; by the agent's word, which may be wrong.

    Args:
        agent: its socket, as below.
        within: seconds.

    Raises:
        SandboxError: it does not answer, or not so.
    """
    return _decode(await ask(agent, "GET", "/api/activity", None, within), Activity)


async def processes(agent: Path) -> int:
    """How many background processes run; none where the sandbox is ending."""
    try:
        return (await activity(agent)).processes
    except SandboxError:
        return 0


async def set_env(agent: Path, env: Mapping[str, str | None]) -> None:
    """Sets variables; None removes one.

    Raises:
        SandboxError: the agent refuses them, or does not answer.
    """
    await ask(agent, "POST", "/api/env", {"env": env})


async def quieten(agent: Path, seconds: float) -> None:
    """Returns when no call runs in it, or after so long; from here on none begins. Raises `SandboxError`."""
    await ask(agent, "POST", "/api/quiet", Quiet(within=int(seconds * 1000)), seconds)


async def rest(agent: Path, aside: Path, if_idle: int | None) -> None:
    """Has the agent get ready for the end of its room, so that no caller's request gets lost in it.

    Args:
        aside: where its socket goes meanwhile.
        if_idle: milliseconds that nothing has been in use for, or it refuses; None: it rests in any case.

    Raises:
        ConflictError: it has been in use.
        SandboxError, OSError: it does not answer, or not so.
    """
    await ask(agent, "POST", "/api/rest", Rest(if_idle=if_idle))
    # Who comes later finds nobody, and asks this server to wake the sandbox; who came before is answered.
    agent.rename(aside)
    try:
        await ask(aside, "POST", "/api/refuse")
    finally:
        aside.unlink()


async def ask(agent: Path, method: str, target: str, body: Any = None, within: float = TIMEOUT) -> bytes:
    """One question; gives the answer, which should be JSON. Raises `SandboxError`: there is none, or it is an error."""
    try:
        async with asyncio.timeout(within):
            status, content = await _exchange(agent, method, target, b"" if body is None else encode(body))
    except TimeoutError:
        raise ContainerNotReadyError(f"the sandbox's agent did not answer within {within:g} s") from None
    if status < 400:
        return content
    raise error_from_wire(status, _decode(content, dict))


async def _exchange(path: Path, method: str, target: str, body: bytes) -> tuple[int, bytes]:
    headers = [("host", "agent"), ("content-length", str(len(body))), ("connection", "close")]
    connection = await AgentConnection.open(path)
    try:
        connection.begin(method, request_head(method, target, headers) + body)
        status, content = 0, bytearray()
        while True:
            for event in await connection.receive():
                if isinstance(event, Head):
                    status = event.status
                elif isinstance(event, bytes):
                    content += event
                elif event is END:
                    return status, bytes(content)
            if len(content) > LONGEST_ANSWER:
                raise SandboxNetworkError(f"its answer is longer than {LONGEST_ANSWER:,} bytes")
    except (OSError, SandboxNetworkError) as error:
        raise ContainerNotReadyError(f"the sandbox ended during the call ({error}); call again") from None
    finally:
        connection.close()


def _decode(content: bytes, type: type[T]) -> T:
    try:
        return decoder_of(type).decode(content)
    except NOT_JSON as error:
        raise SandboxNetworkError(f"the sandbox's agent gave an answer that is none: {error}") from None
