"""What a sandbox may reach, and what it has asked for."""

from __future__ import annotations

from collections.abc import Sequence

from sandcove.client._async.agent import AsyncAgent
from sandcove.client.check import check_egress
from sandcove.client.results import EgressEntry, SandboxInfo
from sandcove.errors import InvalidRequestError
from sandcove.wire import egress_log

__all__ = ["AsyncEgress"]


class AsyncEgress:
    """The way out of a sandbox."""

    _agent: AsyncAgent

    async def set_egress(self, egress: str | Sequence[str]) -> SandboxInfo:
        """Changes what it may reach, at once; connections that are not allowed any more are cut.

        Args:
            egress: as for the constructor: ``"none"``, ``"public"``, ``"unfiltered"``, or presets and hosts.

        Raises:
            InvalidRequestError: it is not understood.
            ForbiddenError: the server's operator does not allow so much.
            HostUnsupportedError: its machine has no ``"unfiltered"``; it says what is missing.
        """
        checked = check_egress(egress)
        if checked is None:
            raise InvalidRequestError(
                "egress is 'none', 'public', 'unfiltered', or a list of hosts and presets, not None"
            )
        await self._agent.ensure()
        client = await self._agent.client()
        return SandboxInfo.of(await client.set_egress(self._agent.id or "", egress_log.SetEgress(egress=checked)))

    async def get_egress_log(self) -> list[EgressEntry]:
        """The connections that it asked for since the server's start, the newest last, at most 500; wakes nothing."""
        client = await self._agent.known()
        return [EgressEntry.of(entry) for entry in (await client.egress_log(self._agent.id or "")).entries]
