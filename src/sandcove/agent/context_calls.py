"""The routes of code contexts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandcove.agent.code_stream import CodeStream
from sandcove.agent.query import query
from sandcove.asgi import body, json, route, while_there
from sandcove.wire.clock import timestamp
from sandcove.wire.code import ContextList, CreateContext, Interrupted, RunCode

if TYPE_CHECKING:
    from sandcove.agent.app import Agent

__all__ = ["context_routes"]


class _Calls:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def all(self, http: Request) -> Response:
        query(http)
        if http.method == "POST":
            spec = await body(http, CreateContext)
            context = await while_there(http, self._agent.contexts.create(spec))
            return json(context.info())
        found = [context.info() for context in self._agent.contexts.all()]
        return json(ContextList(contexts=found, count=len(found), timestamp=timestamp()))

    async def delete(self, http: Request) -> Response:
        query(http)
        await self._agent.contexts.delete(http.path_params["id"])
        return json({"success": True, "timestamp": timestamp()})

    async def interrupt(self, http: Request) -> Response:
        """(ours) the cell that runs ends with an error; its own call tells that."""
        query(http)
        interrupted = await self._agent.contexts.named(http.path_params["id"]).interrupt()
        return json(Interrupted(success=True, interrupted=interrupted, timestamp=timestamp()))

    async def restart(self, http: Request) -> Response:
        """(ours) a new kernel, without the variables."""
        query(http)
        context = await self._agent.contexts.restart(http.path_params["id"])
        return json(context.info())

    async def fork(self, http: Request) -> Response:
        """(ours) a live copy."""
        query(http)
        return json(await while_there(http, self._agent.contexts.fork(http.path_params["id"])))

    async def run(self, http: Request) -> Response:
        query(http, "heartbeat")
        return CodeStream(http, self._agent.contexts, await body(http, RunCode))


def context_routes(agent: Agent) -> list[Route]:
    """All of them."""
    calls = _Calls(agent)

    return [
        Route("/api/contexts", calls.all, methods=["GET", "POST"]),
        route("DELETE", "/api/contexts/{id}", calls.delete),
        route("POST", "/api/contexts/{id}/interrupt", calls.interrupt),
        route("POST", "/api/contexts/{id}/restart", calls.restart),
        route("POST", "/api/contexts/{id}/fork", calls.fork),
        route("POST", "/api/execute/code", calls.run),
    ]
