"""The ways out of all sandboxes, and how far the operator lets any of them go."""

from __future__ import annotations

import logging
from collections import Counter

from sandcove.errors import ForbiddenError, HostUnsupportedError
from sandcove.runtimes.base import Room
from sandcove.server.audit import Audit
from sandcove.server.egress.addresses import Addresses, parse_exempt
from sandcove.server.egress.outlet import Common, Outlet
from sandcove.server.egress.resolve import Resolver
from sandcove.server.egress.trail import Trail
from sandcove.wire.egress import Policy, parse_egress
from sandcove.wire.egress_log import EgressEntry

__all__ = ["Outlets"]

_log = logging.getLogger("sandcove.egress")


class Outlets:
    """All of them, by the sandboxes' uids.

    Args:
        ceiling: the setting `egress_ceiling`.
        private: the setting `egress_private`.
        file: where verdicts are written down.

    Attributes:
        counts: verdicts since the start, and bytes as ``sent`` and ``received``.
    """

    def __init__(self, ceiling: str, private: str, file: Audit | None = None) -> None:
        self.counts = Counter({"allowed": 0, "refused": 0, "failed": 0, "sent": 0, "received": 0})
        self._ceiling = parse_egress(ceiling.replace(",", " ").split())
        self._common = Common(self._ceiling, Addresses(parse_exempt(private)), Resolver())
        self._file = file
        self._open: dict[str, Outlet] = {}
        self._trails: dict[str, Trail] = {}

    def check(self, value: str | list[str]) -> Policy:
        """An egress that a user asks for.

        Raises:
            InvalidRequestError: it is not understood.
            ForbiddenError: it is more than the operator allows.
        """
        policy = parse_egress(value)
        beyond = policy.beyond(self._ceiling)
        if beyond:
            raise ForbiddenError(
                f"egress {', '.join(beyond[:5])} is more than this server allows, which is {self._ceiling}; "
                "its operator sets that by egress_ceiling"
            )
        return policy

    async def open(self, uid: str, tenant: str, name: str, words: list[str], room: Room) -> str | None:
        """A sandbox runs, in this room; gives what it lacks of its egress, for people."""
        policy = parse_egress(words)
        trail = self._trails.get(uid)
        if trail is None:
            who = {"tenant": tenant, "sandbox": name}
            trail = self._trails[uid] = Trail(self._file, who, self.counts)
        self.close(uid)
        self._open[uid] = Outlet(self._common, policy, trail, room.way_out())
        if policy.unfiltered:
            try:
                await self._set_network(room, policy)
            except HostUnsupportedError as error:
                # It must wake nevertheless: else nobody could change its egress.
                _log.warning("sandbox %s has no network: %s", uid, error)
                return f"it has no network: {error.message}"
            except BaseException:
                # The caller has left.
                self.close(uid)
                await room.end()
                raise
        return None

    async def change(self, uid: str, policy: Policy, room: Room | None) -> None:
        """What a sandbox may reach has changed; connections that are not allowed any more are cut.

        Raises:
            HostUnsupportedError: it can't have the network that it shall have. Nothing has changed then.
        """
        if room is not None:
            await self._set_network(room, policy)
        if uid in self._open:
            self._open[uid].change(policy)

    async def _set_network(self, room: Room, policy: Policy) -> None:
        """The operator may have lowered the ceiling since this policy was given."""
        await room.set_network(unfiltered=policy.unfiltered and self._ceiling.unfiltered)

    def close(self, uid: str) -> None:
        """A sandbox runs no more."""
        outlet = self._open.pop(uid, None)
        if outlet is not None:
            outlet.close()

    def forget(self, uid: str) -> None:
        """A sandbox is destroyed."""
        self.close(uid)
        self._trails.pop(uid, None)

    def entries(self, uid: str) -> list[EgressEntry]:
        """What a sandbox has asked for, the newest last."""
        trail = self._trails.get(uid)
        return [] if trail is None else list(trail.entries)
