"""Running a cell for a caller, as a stream of lines."""

from __future__ import annotations

from starlette.requests import Request

from sandcove.agent.context import Context
from sandcove.agent.contexts import Contexts
from sandcove.agent.event_stream import EventStream
from sandcove.asgi import while_there
from sandcove.errors import InvalidRequestError
from sandcove.kernels.messages import Run
from sandcove.wire.code import CodeEvent, RunCode
from sandcove.wire.names import check_env, check_timeout

__all__ = ["CodeStream"]

LONGEST_CODE = 16 * 1024 * 1024
"""Characters of a cell."""


class CodeStream(EventStream[CodeEvent]):
    """Runs a cell and sends what it gives as it comes; the caller's leaving interrupts it.

    One JSON object a line, in ASCII, and not server-sent events: so the seed has it. An empty line is a heartbeat.
    """

    media_type = "application/x-ndjson"
    beat = b"\n"

    def __init__(self, http: Request, contexts: Contexts, spec: RunCode, heartbeat: int) -> None:
        super().__init__(http, heartbeat)
        self._contexts = contexts
        self._spec = spec
        self._context: Context

    async def begin(self) -> None:
        spec = self._spec
        check_env(spec.env_vars or {})
        check_timeout(spec.timeout)
        if len(spec.code) > LONGEST_CODE:
            raise InvalidRequestError(f"the code has {len(spec.code):,} characters, more than {LONGEST_CODE:,}")
        found = self._contexts.find(spec)
        if found is None:
            found = await while_there(self._http, self._contexts.find_or_create(spec))
        found.check()
        self._context = found

    async def run(self) -> bytes:
        spec = self._spec
        timeout = None if spec.timeout is None else spec.timeout / 1000
        return await self._context.run(Run(spec.code, spec.env_vars), timeout, self.send)
