# Written by scripts/unasync.py from _async/session.py. Change that file, not this one.
"""A named session of a sandbox."""

from __future__ import annotations

from sandcove.client._sync.agent import Agent
from sandcove.client._sync.code import Code
from sandcove.client._sync.commands import Commands
from sandcove.client._sync.git import Git
from sandcove.client._sync.ports import Ports
from sandcove.client._sync.processes import Processes
from sandcove.client._sync.transfer import Transfer

__all__ = ["Session"]


class Session(Commands, Processes, Git, Transfer, Code, Ports):
    """A shell of its own in a sandbox: working directory, environment, functions and aliases of its own.

    Has every method of a sandbox but those for sessions and for the sandbox's life. Made by the sandbox's
    `create_session` and `get_session`.

    Attributes:
        id: its name.
    """

    def __init__(self, agent: Agent, id: str, sandbox: Commands) -> None:
        self.id = id
        self._sandbox = sandbox  # an anonymous one is destroyed when nobody holds it
        self._agent = agent
        self._session_id = id
        self._scope = id
        self._hooks = sandbox._hooks  # noqa: SLF001 - a session is a part of its sandbox

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} of sandbox {self._agent.id!r}>"
