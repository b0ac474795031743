"""The ways out of all sandboxes, and how far the operator lets any of them go."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from sandcove.errors import ForbiddenError, HostUnsupportedError
from sandcove.runtimes.base import Room, Rule
from sandcove.server.audit import Audit
from sandcove.server.egress.addresses import Addresses, parse_exempt
from sandcove.server.egress.authority import Authority
from sandcove.server.egress.outlet import MOST, Common, Outlet
from sandcove.server.egress.own import own_changes, own_networks
from sandcove.server.egress.purse import Secrets
from sandcove.server.egress.resolve import Resolver
from sandcove.server.egress.trail import Trail
from sandcove.waiting import lasting
from sandcove.wire.egress import Policy, parse_egress
from sandcove.wire.egress_log import EgressEntry
from sandcove.wire.secrets import Secret

__all__ = ["Granted", "Outlets"]

AGAIN = 30.0
"""Seconds until the machine's own addresses are watched anew where that could not be."""


class Granted(NamedTuple):
    """What a sandbox has to have for its secrets: variables, None for one that is removed; a certificate to trust."""

    env: dict[str, str | None]
    certificate: str | None


_log = logging.getLogger("sandcove.egress")


class Outlets:
    """All of them, by the sandboxes' uids.

    Args:
        ceiling: the setting `egress_ceiling`.
        private: the setting `egress_private`.
        secrets: of all sandboxes.
        file: where verdicts are written down.
        rate, most: the settings `egress_rate` and `egress_connections`.

    Attributes:
        counts: verdicts since the start, and bytes as ``sent`` and ``received``.
    """

    def __init__(
        self,
        ceiling: str,
        private: str,
        secrets: Secrets,
        file: Audit | None = None,
        *,
        rate: int = 0,
        most: int = MOST,
    ) -> None:
        self.counts = Counter({"allowed": 0, "refused": 0, "failed": 0, "sent": 0, "received": 0})
        self._ceiling = parse_egress(ceiling.replace(",", " ").split())
        self._common = Common(self._ceiling, Addresses(parse_exempt(private)), Resolver(), rate=rate, most=most)
        self.secrets = secrets
        self._file = file
        self._open: dict[str, Outlet] = {}
        self._rooms: dict[str, Room] = {}
        self._trails: dict[str, Trail] = {}
        self._known: list[Rule] | None = None
        """The rules that all unfiltered networks have; None: perhaps not all have the same."""

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
        self._open[uid] = Outlet(self._common, policy, trail, room.way_out(), self.secrets.of(uid), tenant=tenant)
        self._rooms[uid] = room
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
            if not self._ceiling.unfiltered:
                return f"it has no network, but the proxy: this server's egress_ceiling is {self._ceiling} now"
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

    def set_secrets(self, uid: str, changes: Mapping[str, Secret | None], egress: Policy) -> Granted:
        """Other secrets are added to a sandbox's requests, at once; `egress` is what it may reach.

        Raises:
            InvalidRequestError: they are not for hosts of this egress, or are in each other's way.
            HostUnsupportedError: TLS can't be ended here.
        """
        before = self.secrets.of(uid)
        after = before.changed(changes, egress)
        if after != before:
            self.secrets.put(uid, after)
        if uid in self._open:
            self._open[uid].set_secrets(after)
        env = {name: after.kept[name].placeholder if name in after.kept else None for name in changes}
        return Granted(env, Authority(after.authority).certificate if after.authority else None)

    async def _set_network(self, room: Room, policy: Policy) -> None:
        """The operator may have lowered the ceiling since this policy was given."""
        rules = self._rules() if policy.unfiltered and self._ceiling.unfiltered else None
        if rules is not None and rules != self._known:
            self._known = None  # and so this room gets the next ones too, whatever they are
        await room.set_network(rules)

    def _rules(self) -> list[Rule]:
        try:
            return self._common.addresses.rules(own_networks())
        except OSError as error:
            raise HostUnsupportedError(f"the machine's own addresses are not known: {error}") from None

    async def watch_own(self) -> None:
        """Shuts the machine's own addresses in all unfiltered networks, as they come; for good."""
        if self._ceiling.unfiltered:
            await lasting(self._watch_own, _log, AGAIN)

    async def _watch_own(self) -> None:
        async for _ in own_changes():
            try:
                rules = self._rules()
            except HostUnsupportedError as error:
                _log.warning("what is new of them is not shut in unfiltered networks: %s", error)
                continue
            if rules == self._known:
                continue
            self._known = rules
            for uid, room in list(self._rooms.items()):
                try:
                    await room.set_rules(rules)
                except HostUnsupportedError as error:
                    _log.warning("sandbox %s has no network any more: %s", uid, error)

    def close(self, uid: str) -> None:
        """A sandbox runs no more."""
        self._rooms.pop(uid, None)
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

    def bytes_of(self, uid: str) -> tuple[int, int] | None:
        """What a sandbox has sent and received since the server's start; None if it never could."""
        trail = self._trails.get(uid)
        return None if trail is None else (trail.sent, trail.received)
