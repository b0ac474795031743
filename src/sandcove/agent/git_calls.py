"""The git routes: a clone for one caller, answered when it is done, or told as it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from sandcove.agent.checkout import Checkout
from sandcove.agent.event_stream import EventStream
from sandcove.agent.progress import Progress
from sandcove.asgi import while_there
from sandcove.calls import Call, Json
from sandcove.errors import (
    ExecutionTimeoutError,
    FileSystemError,
    GitError,
    PathExistsError,
    SandboxError,
    SecurityError,
    SessionNotFoundError,
)
from sandcove.wire.clock import timestamp
from sandcove.wire.git import CheckoutAnswer, CheckoutEvent, CheckoutRequest, Phase
from sandcove.wire.queries import Heartbeat

if TYPE_CHECKING:
    from sandcove.agent.app import Agent

__all__ = ["git_routes"]


FAILS = (SessionNotFoundError, SecurityError, PathExistsError, FileSystemError, ExecutionTimeoutError)


def git_routes(agent: Agent) -> list[Call]:
    """All of them."""
    targets: set[str] = set()

    async def checkout(http: Request, spec: CheckoutRequest) -> Json[CheckoutAnswer]:
        """Clones a repository."""
        call = Checkout(spec, agent.sessions, agent.env, targets)
        try:
            return Json(await while_there(http, in_time(call, lambda _: None)))
        except GitError as error:
            # As the reference has it: a clone that failed is an answer, as a command that failed is.
            return Json(call.failed(error))

    async def stream(http: Request, spec: CheckoutRequest, query: Heartbeat) -> CheckoutStream:
        """(ours) clones a repository and tells how far it is."""
        return CheckoutStream(http, Checkout(spec, agent.sessions, agent.env, targets), query.heartbeat)

    return [
        Call("POST", "/api/git/checkout", checkout, FAILS),
        Call("POST", "/api/git/checkout/stream", stream, [SessionNotFoundError, SecurityError]),
    ]


async def over(task: asyncio.Future[Any]) -> None:
    """Cancels it if it runs, once, so that what it does then is not cut short, and returns when it has done that."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})


async def in_time(call: Checkout, on_progress: Callable[[Progress], None]) -> CheckoutAnswer:
    """Clones, unless the time is over first: then nothing of it is left when this raises.

    Raises:
        ExecutionTimeoutError: the time is over.
        SandboxError: see `Checkout.run`.
    """
    running = asyncio.ensure_future(call.run(on_progress))
    try:
        await asyncio.wait({running}, timeout=None if call.timeout is None else call.timeout / 1000)
    finally:
        await over(running)
    if not running.cancelled():
        return running.result()
    raise ExecutionTimeoutError(
        f"the clone of {call.url[:200]} took longer than its timeout of {(call.timeout or 0) / 1000:g} s and was "
        "ended; nothing of it is left. Give it a longer timeout, or fetch less by a depth",
        timeout=call.timeout,
        stdout="",
        stderr=call.stderr,
    )


class CheckoutStream(EventStream[CheckoutEvent]):
    """Clones and tells how far it is. A slow reader holds up nothing: of each phase it is told the last word."""

    def __init__(self, http: Request, call: Checkout, heartbeat: int) -> None:
        super().__init__(http, heartbeat)
        self._call = call
        self._news: dict[Phase, Progress] = {}
        self._changed = asyncio.Event()

    async def run(self) -> bytes:
        cloning = asyncio.ensure_future(in_time(self._call, self._note))
        cloning.add_done_callback(lambda _: self._changed.set())
        try:
            while self._news or not cloning.done():
                await self._changed.wait()
                self._changed.clear()
                news, self._news = self._news, {}
                for progress in news.values():
                    await self.tell(self._event(type="progress", **progress._asdict()))
        finally:
            await over(cloning)
        try:
            return self.encoded(self._event(type="complete", result=cloning.result()))
        except SandboxError as error:
            told = {"stderr": error.details.get("stderr"), "exit_code": error.details.get("exitCode")}
            return self.encoded(self._event(type="error", error=error.message, code=error.code, **told))

    def _note(self, progress: Progress) -> None:
        # Taken out first, so that the phases stay in the order of their last word.
        self._news.pop(progress.phase, None)
        self._news[progress.phase] = progress
        self._changed.set()

    def _event(self, **fields: Any) -> CheckoutEvent:
        return CheckoutEvent(timestamp=timestamp(), **fields)
