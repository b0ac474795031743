"""Which ports of which sandboxes are exposed, by which token: kept in the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sandcove.errors import PortAlreadyExposedError, PortNotExposedError
from sandcove.server.database import Database
from sandcove.wire.clock import timestamp

__all__ = ["Exposure", "Ports"]


class Cuttable(Protocol):
    """A connection that can be ended."""

    def cut(self) -> None: ...


@dataclass(frozen=True)
class Exposure:
    """One exposed port.

    Attributes:
        uid: of its sandbox.
        name: for people, or None.
        token: None for one that is public.
        exposed_at: ISO 8601.
        ended: it was exposed once, and is not any more.
    """

    uid: str
    port: int
    name: str | None
    token: str | None
    exposed_at: str
    ended: bool = False


class Ports:
    """All of them, and the connections that go through them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: dict[tuple[str, int], set[Cuttable]] = {}

    def find(self, uid: str, port: int) -> Exposure | None:
        """That of a port, ended or not."""
        rows = self._database.rows(
            "select uid, port, name, token, exposed_at, ended from ports where uid = ? and port = ?", (uid, port)
        )
        return next((_exposure(row) for row in rows), None)

    def of(self, uid: str) -> list[Exposure]:
        """Those of a sandbox that have not ended, by port."""
        rows = self._database.rows(
            "select uid, port, name, token, exposed_at, ended from ports where uid = ? and not ended order by port",
            (uid,),
        )
        return [_exposure(row) for row in rows]

    @property
    def any(self) -> bool:
        """Some port of some sandbox is exposed."""
        return bool(self._database.rows("select 1 from ports where not ended limit 1"))

    def expose(self, uid: str, port: int, name: str | None, token: str | None) -> Exposure:
        """Exposes a port.

        Raises:
            PortAlreadyExposedError: it is.
        """
        found = self.find(uid, port)
        if found is not None and not found.ended:
            raise PortAlreadyExposedError(
                f"port {port} is exposed already; get_exposed_ports() tells its URL, unexpose_port({port}) ends it",
                port=port,
            )
        exposure = Exposure(uid, port, name, token, timestamp())
        self._put(exposure)
        return exposure

    def end(self, uid: str, port: int) -> None:
        """Exposes a port no more, and ends the connections that go through it.

        Raises:
            PortNotExposedError: it is not.
        """
        found = self.find(uid, port)
        if found is None or found.ended:
            raise PortNotExposedError(f"port {port} is not exposed", port=port)
        # Who has its address is told that it was right once.
        self._put(Exposure(uid, port, found.name, found.token, found.exposed_at, ended=True))
        for connection in list(self._open.get((uid, port), ())):
            connection.cut()

    def watch(self, uid: str, port: int, connection: Cuttable) -> None:
        """`connection` goes through this port."""
        self._open.setdefault((uid, port), set()).add(connection)

    def forget(self, uid: str, port: int, connection: Cuttable) -> None:
        """It does so no more."""
        connections = self._open.get((uid, port))
        if connections is not None:
            connections.discard(connection)
            if not connections:
                del self._open[uid, port]

    def _put(self, e: Exposure) -> None:
        self._database.write(
            "insert or replace into ports (uid, port, name, token, exposed_at, ended) values (?, ?, ?, ?, ?, ?)",
            (e.uid, e.port, e.name, e.token, e.exposed_at, e.ended),
        )


def _exposure(row: tuple[str, int, str | None, str | None, str, int]) -> Exposure:
    return Exposure(row[0], row[1], row[2], row[3], row[4], bool(row[5]))
