# Written by scripts/unasync.py from _async/egress.py. Change that file, not this one.
"""What a sandbox may reach, and what it has asked for."""

from __future__ import annotations

from collections.abc import Sequence

from sandcove.client._sync.agent import Agent
from sandcove.client.check import check_egress
from sandcove.client.results import EgressEntry, SandboxInfo
from sandcove.errors import InvalidRequestError
from sandcove.wire import egress_log

__all__ = ["Egress"]


class Egress:
    """The way out of a sandbox."""

    _agent: Agent

    def set_egress(self, egress: str | Sequence[str]) -> SandboxInfo:
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
        self._agent.ensure()
        client = self._agent.client()
        return SandboxInfo.of(client.set_egress(self._agent.id or "", egress_log.SetEgress(egress=checked)))

    def get_egress_log(self) -> list[EgressEntry]:
        """The connections that it asked for since the server's start, the newest last, at most 500; wakes nothing."""
        client = self._agent.known()
        return [EgressEntry.of(entry) for entry in (client.egress_log(self._agent.id or "")).entries]
