"""A sandbox's code contexts by id."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sandcove.agent.context import Context
from sandcove.agent.kernel import Kernel
from sandcove.agent.kernel_start import Kernels
from sandcove.agent.sessions import Session, Sessions
from sandcove.errors import ConflictError, ContextNotFoundError, InvalidRequestError
from sandcove.wire.code import ContextForked, CreateContext, Language, RunCode, default_context
from sandcove.wire.models import DEFAULT_SESSION, WORKSPACE
from sandcove.wire.names import check_env, check_path

__all__ = ["Contexts"]

T = TypeVar("T")

MOST = 256
"""Contexts that are there at a time; each is a process."""


class Contexts:
    """All of them."""

    def __init__(self, sessions: Sessions, kernels: Kernels) -> None:
        self._sessions = sessions
        self._kernels = kernels
        self._all: dict[str, Context] = {}
        self._starting = 0
        self._making_default = asyncio.Lock()

    async def create(self, request: CreateContext, id: str | None = None) -> Context:
        """Makes a context, its kernel ready.

        Raises:
            InvalidRequestError, PathNotFoundError, SessionNotFoundError, CodeExecutionError, ConflictError.
        """
        session = self._sessions.get(request.session_id)
        env_vars = request.env_vars or {}
        check_env(env_vars)
        cwd = request.cwd
        if cwd is None and request.session_id == DEFAULT_SESSION:
            cwd = WORKSPACE
        folder = session.folder(None if cwd is None else check_path(cwd))
        kernel = await self._start(request.language, session, folder, env_vars)
        context = Context(
            id or _new_id(),
            request.language,
            cwd=folder,
            session_id=request.session_id,
            env_vars=env_vars,
            kernel=kernel,
        )
        return await self._add(context, session)

    def find(self, request: RunCode) -> Context | None:
        """The context that a cell is for; None if it is a default one that has to be made.

        Raises:
            ContextNotFoundError, InvalidRequestError.
        """
        if request.context_id is not None:
            context = self.named(request.context_id)
            if request.language not in (None, context.language):
                raise InvalidRequestError(
                    f"context {context.id} runs {context.language}, not {request.language}; "
                    "leave the language out, or create a context for it"
                )
            return context
        return self._all.get(default_context(request.language or "python", request.session_id))

    async def find_or_create(self, request: RunCode) -> Context:
        """As `find`, but a default context is made if need be; raises what `create` raises, too."""
        async with self._making_default:
            if (found := self.find(request)) is not None:
                return found
            language = request.language or "python"
            name = default_context(language, request.session_id)
            return await self.create(CreateContext(language=language, session_id=request.session_id), name)

    def named(self, id: str) -> Context:
        """The context; raises `ContextNotFoundError`."""
        if (context := self._all.get(id)) is None:
            # The seed's client knows this text.
            raise ContextNotFoundError(f"Context {id[:128]} not found")
        return context

    def all(self) -> list[Context]:
        """In the order in which they were made."""
        return list(self._all.values())

    async def restart(self, id: str) -> Context:
        """Gives a context a new kernel; raises as `create` does."""
        context = self.named(id)
        session = self._sessions.get(context.session_id)
        await context.replace(lambda: self._start(context.language, session, context.cwd, context.env_vars))
        return context

    async def fork(self, id: str) -> ContextForked:
        """Makes a live copy of a context.

        Raises:
            ContextNotFoundError, ContextEndedError, ConflictError.
            CodeExecutionError: it can't be copied, and why.
        """
        context = self.named(id)
        session = self._sessions.get(context.session_id)
        kernel, lost = await self._counted(context.fork)
        copy = await self._add(context.copied(_new_id(), kernel), session)
        info = copy.info()
        return ContextForked(**{name: getattr(info, name) for name in info.__struct_fields__}, lost=lost)

    async def delete(self, id: str) -> None:
        """Ends a context with all that runs in it."""
        context = self.named(id)
        del self._all[id]
        await context.delete()

    async def delete_all(self, session_id: str) -> None:
        """Ends those of a session."""
        ours = [context.id for context in self.all() if context.session_id == session_id]
        await asyncio.gather(*map(self.delete, ours))

    async def _start(self, language: Language, session: Session, cwd: str, env_vars: dict[str, str]) -> Kernel:
        env = {**await session.environment(), **env_vars, "PWD": cwd}
        session.check()
        return await self._counted(lambda: self._kernels.start(language, session.init, env, cwd))

    async def _counted(self, make: Callable[[], Awaitable[T]]) -> T:
        if len(self._all) + self._starting >= MOST:
            raise ConflictError(f"the sandbox has {MOST} code contexts, the most that it may have; delete some")
        self._starting += 1
        try:
            return await make()
        finally:
            self._starting -= 1

    async def _add(self, context: Context, session: Session) -> Context:
        if session.deleted:
            # While its kernel started: whoever deleted the session has not seen it.
            await context.delete()
            session.check()
        self._all[context.id] = context
        return context


def _new_id() -> str:
    return f"ctx_{secrets.token_hex(8)}"
