"""The contract of a runtime: it makes rooms, and an agent answers in each.

What every implementation guarantees (tests/contract checks it):

- A room is isolated before anything of its sandbox runs in it. If a step of the isolation fails there is no
  room: `Runtime.open` raises `HostUnsupportedError` with what is missing and how to get it. Nothing degrades.
- When `open` returns, an agent answers on the room's Unix socket.
- The sandbox's files lie in `RoomSpec.folder` and outlast the room; `Runtime.delete` removes them.
- `Room.ended` is done when the last process of the room is gone, whatever ended it.
- `Room.connect` gives a connection to a service in the room that no other room, and nothing on the host, can answer.
- Nothing in the room has a network but its own loopback, until `Room.set_network`; what listens at `Room.way_out`
  is the caller's.
- When the process that holds the runtime dies, by SIGKILL too, its rooms end with it.
- `open` and `end` of different rooms run side by side.

It may also fork Python kernels for its agents: see `sandcove.wire.kernel`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import NamedTuple, Protocol

from sandcove.wire.limits import NO_LIMITS, ResourceLimits, ResourceUsage
from sandcove.wire.models import Isolation

__all__ = ["ENDED", "Room", "RoomSpec", "Rule", "Runtime"]


ENDED = "it was ended"
"""Why a room is gone whose `end` was called."""


@dataclass(frozen=True)
class RoomSpec:
    """What a room is made from.

    Attributes:
        sandbox_id: whose room it is.
        folder: where the sandbox's files are kept on the host; made if missing.
        socket: the path at which the agent is to answer.
        limits: what it may use; 0 and None: as much as it wants.
    """

    sandbox_id: str
    folder: Path
    socket: Path
    limits: ResourceLimits = NO_LIMITS


class Rule(NamedTuple):
    """Whether what goes to a network's addresses gets out of a room; `port` None is every port, and what has none."""

    network: IPv4Network | IPv6Network
    port: int | None
    open: bool


class Room(Protocol):
    """A living room with an agent in it."""

    @property
    def ended(self) -> asyncio.Future[str]:
        """Done when all of it is gone; the result says why, for people."""

    @property
    def isolation(self) -> Isolation:
        """What isolation was really achieved."""

    @property
    def limits(self) -> ResourceLimits:
        """What it may use."""

    @property
    def limited_by(self) -> dict[str, str]:
        """What sees to each limit, by its name: see `sandcove.wire.models.SandboxInfo`."""

    def set_limits(self, limits: ResourceLimits) -> None:
        """Puts other limits in force, all of them.

        Raises:
            ConflictError: it uses more than that already. Nothing has changed then.
        """

    def usage(self) -> ResourceUsage:
        """What it uses now."""

    async def connect(self, port: int, wait: float = 0.0) -> socket.socket:
        """A TCP connection to what listens on `port` of the room's loopback, by IPv4 or IPv6; it never blocks.

        Args:
            port: 1 to 65535.
            wait: seconds to wait for something to listen.

        Raises:
            PortNotListeningError: nothing does.
            ContainerNotReadyError: the room is ending, or its agent does not answer; ``begun`` is false.
        """

    def way_out(self) -> socket.socket:
        """A TCP socket that listens inside, at `PROXY_HOST`, `PROXY_PORT`: by it programs ask for what is outside.

        It is made before anything of the sandbox runs, and is asked for once; the caller owns it.
        """

    @property
    def lost(self) -> str | None:
        """What it had and has no more, for people."""

    async def set_network(self, rules: Sequence[Rule] | None) -> None:
        """Gives it the machine's network if it has none, or takes it away: None.

        Args:
            rules: the first that fits decides; what none fits gets out. Its own loopback is always open.

        Raises:
            HostUnsupportedError: it can't be had here; it has none then.
        """

    async def set_rules(self, rules: Sequence[Rule]) -> None:
        """Other rules for the machine's network, where it has that.

        Raises:
            HostUnsupportedError: they can't be set; it has no network then.
        """

    async def end(self) -> None:
        """Ends it with all that runs in it, and returns when it is gone. Its files stay. Repeating it is harmless."""


class Runtime(Protocol):
    """Makes rooms of one kind."""

    name: str

    async def start(self) -> None:
        """Gets ready to open rooms.

        Raises:
            HostUnsupportedError: this machine can't.
        """

    async def open(self, spec: RoomSpec) -> Room:
        """Opens a room.

        Raises:
            HostUnsupportedError: a step of the isolation is not to be had here.
            SandboxError: it failed otherwise; nothing of the attempt is left but the folder.
        """

    async def delete(self, folder: Path) -> None:
        """Removes the files of a sandbox that has no room."""

    async def close(self) -> None:
        """Ends every room and whatever the runtime keeps running."""
