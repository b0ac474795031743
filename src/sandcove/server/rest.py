"""How a sandbox is told that its room is about to end."""

from __future__ import annotations

from pathlib import Path

from sandcove.server.relay import ask
from sandcove.server.sandbox import Sandbox
from sandcove.wire.models import Rest

__all__ = ["lay_to_rest"]


async def lay_to_rest(sandbox: Sandbox, rest: Rest, aside: Path) -> None:
    """Has the agent get ready for the end of its room, so that no caller's request gets lost in it.

    Args:
        aside: where its socket is meanwhile.

    Raises:
        ConflictError: it has been in use too lately.
        SandboxError, OSError: it does not answer as it should.
    """
    await ask(sandbox.socket, "POST", "/api/rest", rest)
    # Who comes later finds nobody, and asks this server to wake the sandbox; who came before is answered.
    sandbox.socket.rename(aside)
    try:
        await ask(aside, "POST", "/api/refuse")
    finally:
        aside.unlink()
