"""Descriptors of this process that sandboxes' connections have, both sides counted: never all that it may have."""

from __future__ import annotations

import resource
import socket
from typing import Self
from weakref import WeakSet, WeakValueDictionary

__all__ = ["Descriptors", "Share"]

PART = 3 / 8
"""Of the descriptors of this process, how many the connections of all sandboxes may have. Rooms are made while half are
free, so that an eighth is left for callers whatever sandboxes do."""
OWN = 3
"""How many times a sandbox's own count against what is left for its tenant."""
TO_CONNECT = 3 / 4
"""Of what is free, how much counts as free where one is for the outside: a program that gets none is answered why."""


class Descriptors:
    """Those of all sandboxes.

    Args:
        most: how many there may be; None: a part of what the process may have.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * PART) if most is None else most
        self.held: WeakSet[Counted] = WeakSet()
        self._tenants: WeakValueDictionary[str, WeakSet[Counted]] = WeakValueDictionary()

    def share(self, tenant: str) -> Share:
        """That of a sandbox of this tenant."""
        of_tenant: WeakSet[Counted] = self._tenants.setdefault(tenant, WeakSet())
        return Share(self, of_tenant)


class Share:
    """What one sandbox has of them.

    A tenant may have one more while it has less than is free, so that whoever comes later finds as much as it has; and
    each of its sandboxes while what it has is a part of what is left for its tenant: alone it gets a fifth of all.
    """

    def __init__(self, all: Descriptors, of_tenant: WeakSet[Counted]) -> None:
        self._all = all
        self._of_tenant = of_tenant
        self._own: WeakSet[Counted] = WeakSet()

    def may_take(self) -> bool:
        """There is one for a program's connection."""
        return self._has_below(self._free)

    @property
    def _free(self) -> int:
        return self._all.most - len(self._all.held)

    def _has_below(self, bound: float) -> bool:
        return OWN * len(self._own) + len(self._of_tenant) < bound

    def count(self, sock: socket.socket) -> Counted:
        """The same connection, counted from here on until it is closed."""
        return Counted(fileno=sock.detach()).among(self._own, self._of_tenant, self._all.held)

    def connecting(self, family: int) -> Counted:
        """A socket that is counted, to connect to the outside.

        Raises:
            OSError: there are too many.
        """
        if not self._has_below(self._free * TO_CONNECT):
            raise OSError(
                f"this sandbox has {len(self._own)} and all together {len(self._all.held)} of the {self._all.most} "
                "descriptors that the server can spare for their connections, which is its part; close some, or have "
                "the operator raise the limit of open files (LimitNOFILE, ulimit -n) or lower egress_connections"
            )
        return Counted(family, socket.SOCK_STREAM).among(self._own, self._of_tenant, self._all.held)


class Counted(socket.socket):
    """A connection that is counted until it is closed."""

    _counts: tuple[WeakSet[Counted], ...] = ()

    def among(self, *counts: WeakSet[Counted]) -> Self:
        """Counted there."""
        self._counts = counts
        for each in counts:
            each.add(self)
        return self

    def close(self) -> None:
        for each in self._counts:
            each.discard(self)
        super().close()
