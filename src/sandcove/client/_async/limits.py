"""What a sandbox may use, and what it uses."""

from __future__ import annotations

from sandcove.client._async.agent import AsyncAgent
from sandcove.client.check import AnyLimits, check_limits
from sandcove.client.results import ResourceUsage, SandboxInfo
from sandcove.wire.limits import NO_LIMITS

__all__ = ["AsyncLimits"]


class AsyncLimits:
    """The calls of a sandbox about its limits."""

    _agent: AsyncAgent

    async def set_limits(self, limits: AnyLimits) -> SandboxInfo:
        """Changes what the sandbox may use at most, at once; what is left out stays as it is.

        What holds each process is lowered at once; raised, it is in force when the sandbox next wakes: the limit of
        open files, the size of one file, and where no control group counts them memory and processes.

        Args:
            limits: `ResourceLimits`, or by name, such as ``{"memory": "2g"}``; 0: as much as it wants.

        Raises:
            InvalidRequestError: it is above what the server allows.
            QuotaExceededError: it is above what the key allows.
            ConflictError: the sandbox uses more memory than that.
        """
        wanted = check_limits(limits)
        await self._agent.ensure()
        client = await self._agent.client()
        return SandboxInfo.of(await client.set_limits(self._agent.id or "", wanted or NO_LIMITS))

    async def get_usage(self) -> ResourceUsage:
        """What the sandbox uses now, and nothing while it sleeps; does not wake it."""
        client = await self._agent.known()
        return await client.usage(self._agent.id or "")
