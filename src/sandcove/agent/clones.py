"""The git routes: a clone for one caller, answered when it is done, or told as it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sandcove.agent.checkout import Checkout
from sandcove.agent.commands import HEARTBEAT
from sandcove.agent.progress import Progress
from sandcove.agent.sessions import Sessions, timestamp
from sandcove.asgi import body, disconnected, json
from sandcove.errors import ExecutionTimeoutError, GitError, SandboxError
from sandcove.wire.codec import encode
from sandcove.wire.git import CheckoutAnswer, CheckoutEvent, CheckoutRequest, Phase
from sandcove.wire.sse import encode_comment, encode_event

__all__ = ["git_routes"]


class Cloner(Protocol):
    """What the routes need of the agent, when they are called."""

    sessions: Sessions
    env: Mapping[str, str]


def git_routes(agent: Cloner) -> list[Route]:
    """The routes ``/api/git/...``."""
    targets: set[str] = set()

    async def checkout(http: Request) -> Response:
        call = Checkout(await body(http, CheckoutRequest), agent.sessions, agent.env, targets)
        try:
            return json(await supervised(call, http, lambda _: None))
        except GitError as error:
            # As the reference has it: a clone that failed is an answer, as a command that failed is.
            return json(call.failed(error))

    async def stream(http: Request) -> Response:
        return CheckoutStream(Checkout(await body(http, CheckoutRequest), agent.sessions, agent.env, targets), http)

    return [
        Route("/api/git/checkout", checkout, methods=["POST"]),
        Route("/api/git/checkout/stream", stream, methods=["POST"]),
    ]


async def supervised(call: Checkout, http: Request, on_progress: Callable[[Progress], None]) -> CheckoutAnswer:
    """Clones, unless the time is over or the caller leaves first: then nothing of it is left when this returns.

    Raises:
        ExecutionTimeoutError: the time is over.
        SandboxError: see `Checkout.run`.
    """
    running = asyncio.ensure_future(call.run(on_progress))
    leaving = asyncio.ensure_future(disconnected(http))
    try:
        seconds = None if call.timeout is None else call.timeout / 1000
        done, _ = await asyncio.wait({running, leaving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        # It is cancelled by nobody else, so that what it does then is not cut short.
        if not running.done():
            running.cancel()
            await asyncio.wait({running})
    if running in done:
        return running.result()
    if leaving in done:
        raise SandboxError("the caller left before the clone was done")
    raise ExecutionTimeoutError(
        f"the clone of {call.url[:200]} took longer than its timeout of {(call.timeout or 0) / 1000:g} s and was "
        "ended; nothing of it is left. Give it a longer timeout, or fetch less by a depth",
        timeout=call.timeout,
        stdout="",
        stderr=call.stderr,
    )


class CheckoutStream(Response):
    """Clones and tells how far it is; the caller's leaving ends it.

    A slow reader holds up nothing: of each phase it is told the last word.
    """

    media_type = "text/event-stream"

    def __init__(self, call: Checkout, http: Request) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._call = call
        self._http = http
        self._news: dict[Phase, Progress] = {}
        self._changed = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def write(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async def event(**fields: Any) -> None:
            await write(encode_event(encode(CheckoutEvent(timestamp=timestamp(), **fields))))

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        outcome = asyncio.ensure_future(self._outcome())
        outcome.add_done_callback(lambda _: self._changed.set())
        try:
            while not (outcome.done() and not self._news):
                try:
                    async with asyncio.timeout(HEARTBEAT):
                        await self._changed.wait()
                except TimeoutError:
                    await write(encode_comment())
                    continue
                if not outcome.done():
                    self._changed.clear()
                news, self._news = self._news, {}
                for progress in news.values():
                    await event(type="progress", **progress._asdict())
            await event(**outcome.result())
        finally:
            outcome.cancel()
            await asyncio.wait({outcome})
        await send({"type": "http.response.body", "body": b""})

    async def _outcome(self) -> dict[str, Any]:
        try:
            return {"type": "complete", "result": await supervised(self._call, self._http, self._note)}
        except GitError as error:
            told = {"stderr": error.stderr, "exit_code": error.exit_code}
            return {"type": "error", "error": error.message, "code": error.code, **told}
        except ExecutionTimeoutError as error:
            return {"type": "error", "error": error.message, "code": error.code, "stderr": self._call.stderr}
        except SandboxError as error:
            return {"type": "error", "error": error.message, "code": error.code}

    def _note(self, progress: Progress) -> None:
        # Taken out first, so that the phases stay in the order of their last word.
        self._news.pop(progress.phase, None)
        self._news[progress.phase] = progress
        self._changed.set()
