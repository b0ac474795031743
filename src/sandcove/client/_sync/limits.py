# Written by scripts/unasync.py from _async/limits.py. Change that file, not this one.
"""What a sandbox may use, and what it uses."""

from __future__ import annotations

from sandcove.client._sync.agent import Agent
from sandcove.client.check import AnyLimits, check_limits
from sandcove.client.results import ResourceUsage, SandboxInfo
from sandcove.wire.limits import NO_LIMITS

__all__ = ["Limits"]


class Limits:
    """The calls of a sandbox about its limits."""

    _agent: Agent

    def set_limits(self, limits: AnyLimits) -> SandboxInfo:
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
        self._agent.ensure()
        client = self._agent.client()
        return SandboxInfo.of(client.set_limits(self._agent.id or "", wanted or NO_LIMITS))

    def get_usage(self) -> ResourceUsage:
        """What the sandbox uses now, and nothing while it sleeps; does not wake it."""
        client = self._agent.known()
        return client.usage(self._agent.id or "")
