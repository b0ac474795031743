"""The routes of code contexts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from sandcove.agent.code_stream import CodeStream
from sandcove.asgi import while_there
from sandcove.calls import Call, Json
from sandcove.errors import (
    CodeExecutionError,
    ConflictError,
    ContextEndedError,
    ContextNotFoundError,
    PathNotFoundError,
    SessionNotFoundError,
)
from sandcove.wire.answers import Done
from sandcove.wire.clock import timestamp
from sandcove.wire.code import ContextForked, ContextInfo, ContextList, CreateContext, Interrupted, RunCode
from sandcove.wire.queries import Heartbeat

if TYPE_CHECKING:
    from sandcove.agent.app import Agent

__all__ = ["context_routes"]

NEW = (SessionNotFoundError, PathNotFoundError, ConflictError, CodeExecutionError)
"""What making a context may end in."""


class _Calls:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def create(self, http: Request, spec: CreateContext) -> Json[ContextInfo]:
        """Makes a code context: a process that keeps variables between cells."""
        context = await while_there(http, self._agent.contexts.create(spec))
        return Json(context.info())

    async def list(self, _: Request) -> Json[ContextList]:
        """The code contexts."""
        found = [context.info() for context in self._agent.contexts.all()]
        return Json(ContextList(contexts=found, count=len(found), timestamp=timestamp()))

    async def delete(self, http: Request) -> Json[Done]:
        """Ends a context with its variables."""
        await self._agent.contexts.delete(http.path_params["id"])
        return Json(Done(timestamp=timestamp()))

    async def interrupt(self, http: Request) -> Json[Interrupted]:
        """(ours) the cell that runs ends with an error; its own call tells that."""
        interrupted = await self._agent.contexts.named(http.path_params["id"]).interrupt()
        return Json(Interrupted(success=True, interrupted=interrupted, timestamp=timestamp()))

    async def restart(self, http: Request) -> Json[ContextInfo]:
        """(ours) a new kernel, without the variables."""
        context = await self._agent.contexts.restart(http.path_params["id"])
        return Json(context.info())

    async def fork(self, http: Request) -> Json[ContextForked]:
        """(ours) a live copy."""
        return Json(await while_there(http, self._agent.contexts.fork(http.path_params["id"])))

    async def run(self, http: Request, spec: RunCode, query: Heartbeat) -> CodeStream:
        """Runs a cell and tells what it gives as it comes, one JSON object a line."""
        return CodeStream(http, self._agent.contexts, spec, query.heartbeat)


def context_routes(agent: Agent) -> list[Call]:
    """All of them."""
    calls = _Calls(agent)

    return [
        Call("GET", "/api/contexts", calls.list),
        Call("POST", "/api/contexts", calls.create, NEW),
        Call("DELETE", "/api/contexts/{id}", calls.delete, [ContextNotFoundError]),
        Call("POST", "/api/contexts/{id}/interrupt", calls.interrupt, [ContextNotFoundError]),
        Call("POST", "/api/contexts/{id}/restart", calls.restart, [ContextNotFoundError, *NEW]),
        Call("POST", "/api/contexts/{id}/fork", calls.fork, [ContextNotFoundError, ContextEndedError, *NEW]),
        Call("POST", "/api/execute/code", calls.run, [ContextNotFoundError, ContextEndedError, *NEW]),
    ]
