"""A named session of a sandbox."""

from __future__ import annotations

from sandcove.client._async.agent import AsyncAgent
from sandcove.client._async.code import AsyncCode
from sandcove.client._async.commands import AsyncCommands
from sandcove.client._async.git import AsyncGit
from sandcove.client._async.ports import AsyncPorts
from sandcove.client._async.processes import AsyncProcesses
from sandcove.client._async.transfer import AsyncTransfer

__all__ = ["AsyncSession"]


class AsyncSession(AsyncCommands, AsyncProcesses, AsyncGit, AsyncTransfer, AsyncCode, AsyncPorts):
    """A shell of its own in a sandbox: working directory, environment, functions and aliases of its own.

    Has every method of a sandbox but those for sessions and for the sandbox's life. Made by the sandbox's
    `create_session` and `get_session`.

    Attributes:
        id: its name.
    """

    def __init__(self, agent: AsyncAgent, id: str, sandbox: AsyncCommands) -> None:
        self.id = id
        self._sandbox = sandbox  # an anonymous one is destroyed when nobody holds it
        self._agent = agent
        self._session_id = id
        self._scope = id
        self._hooks = sandbox._hooks  # noqa: SLF001 - a session is a part of its sandbox

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} of sandbox {self._agent.id!r}>"
