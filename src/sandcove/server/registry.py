"""Which sandboxes exist, of which tenant."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import msgspec

from sandcove.errors import ServiceUnavailableError
from sandcove.server.database import Database
from sandcove.wire.limits import NO_LIMITS, ResourceLimits

__all__ = ["Record", "Registry"]

_log = logging.getLogger("sandcove.server")


@dataclass
class Record:
    """What is kept of a sandbox. Times are ISO 8601 in UTC; `sleep_after` is in milliseconds, 0 for never; `expires_at`
    in seconds since the epoch, None for never.

    `id` is the name that its tenant knows it by. `uid` is unique over all tenants, and names its folder, its agent's
    socket and its preview hosts; for tenant ``local`` it is the id. `limits` are those that it was given.
    """

    id: str
    created_at: str
    last_active_at: str
    anonymous: bool
    sleep_after: int
    labels: dict[str, str] = field(default_factory=dict)
    destroying: bool = False
    note: str | None = None
    tenant: str = "local"
    uid: str = ""
    keep_alive: bool = False
    expires_at: float | None = None
    egress: list[str] = field(default_factory=list)
    limits: ResourceLimits = NO_LIMITS

    def __post_init__(self) -> None:
        self.uid = self.uid or self.id


class Registry:
    """The table of sandboxes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._gone: set[str] = set()

    def all(self) -> list[Record]:
        rows = self._database.rows(
            "select uid, tenant, id, created_at, last_active_at, anonymous, sleep_after, labels, destroying, note, "
            "keep_alive, expires_at, egress, limits from sandboxes"
        )
        return [
            Record(
                uid=row[0],
                tenant=row[1],
                id=row[2],
                created_at=row[3],
                last_active_at=row[4],
                anonymous=bool(row[5]),
                sleep_after=row[6],
                labels=msgspec.json.decode(row[7], type=dict[str, str]),
                destroying=bool(row[8]),
                note=row[9],
                keep_alive=bool(row[10]),
                expires_at=row[11],
                egress=msgspec.json.decode(row[12], type=list[str]),
                limits=msgspec.json.decode(row[13], type=ResourceLimits),
            )
            for row in rows
        ]

    def put(self, record: Record) -> None:
        """Writes a record, new or changed; returns when it is written down.

        Raises:
            ServiceUnavailableError: it can't be.
        """
        self.write_off()
        if record.uid in self._gone:
            raise ServiceUnavailableError("the registry can't be written; free some disk space")
        self._database.write(
            "insert or replace into sandboxes "
            "(uid, tenant, id, created_at, last_active_at, anonymous, sleep_after, labels, destroying, note, "
            "keep_alive, expires_at, egress, limits) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.uid,
                record.tenant,
                record.id,
                record.created_at,
                record.last_active_at,
                record.anonymous,
                record.sleep_after,
                msgspec.json.encode(record.labels).decode(),
                record.destroying,
                record.note,
                record.keep_alive,
                record.expires_at,
                msgspec.json.encode(record.egress).decode(),
                msgspec.json.encode(record.limits).decode(),
            ),
        )

    def remove(self, uid: str) -> None:
        """A sandbox is gone. If that can't be written down now it is before the next that is."""
        self._gone.add(uid)
        self.write_off()

    def write_off(self) -> None:
        """Writes down which are gone, as far as that can be."""
        for uid in list(self._gone):
            try:
                self._database.write("delete from ports where uid = ?", (uid,))
                self._database.write("delete from secrets where uid = ?", (uid,))
                self._database.write("delete from sandboxes where uid = ?", (uid,))
            except ServiceUnavailableError as error:
                _log.warning("that sandbox %s is gone is not written down yet: %s", uid, error)
                return
            self._gone.discard(uid)
