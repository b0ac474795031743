"""Which sandboxes exist: SQLite in WAL mode, written by the one server, called directly (a write takes 30 us)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from sandcove.errors import SandboxError, ServiceUnavailableError

__all__ = ["Record", "Registry"]

_SCHEMA = 1


@dataclass
class Record:
    """What is kept of a sandbox. Times are ISO 8601 in UTC; `sleep_after` is in milliseconds, 0 for never."""

    id: str
    created_at: str
    last_active_at: str
    anonymous: bool
    sleep_after: int
    labels: dict[str, str] = field(default_factory=dict)
    destroying: bool = False
    note: str | None = None


class Registry:
    """The open database."""

    def __init__(self, path: Path) -> None:
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")
            version = self._db.execute("pragma user_version").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise SandboxError(
                f"{path} can't be read ({error}); free disk space if it is full, else move the file away "
                "(its sandboxes are then unknown) or set SANDCOVE_HOME to a new folder"
            ) from None
        if version not in (0, _SCHEMA):
            self._db.close()
            raise SandboxError(
                f"{path} was written by another version of Sandcove (schema {version}, this one knows {_SCHEMA}); "
                "use that version, or set SANDCOVE_HOME to a new folder"
            )
        self._db.execute(
            "create table if not exists sandboxes (id text primary key, created_at text not null, "
            "last_active_at text not null, anonymous integer not null, sleep_after integer not null, "
            "labels text not null, destroying integer not null, note text) strict"
        )
        self._db.execute(
            "create table if not exists ports (uid text not null, port integer not null, name text, token text, "
            "exposed_at text not null, ended integer not null, primary key (uid, port)) strict"
        )
        self._db.execute(f"pragma user_version = {_SCHEMA}")
        path.chmod(0o600)

    def all(self) -> list[Record]:
        rows = self._db.execute(
            "select id, created_at, last_active_at, anonymous, sleep_after, labels, destroying, note from sandboxes"
        )
        return [
            Record(
                id=row[0],
                created_at=row[1],
                last_active_at=row[2],
                anonymous=bool(row[3]),
                sleep_after=row[4],
                labels=msgspec.json.decode(row[5], type=dict[str, str]),
                destroying=bool(row[6]),
                note=row[7],
            )
            for row in rows
        ]

    def put(self, record: Record) -> None:
        """Writes a record, new or changed; returns when it is written down."""
        self.write(
            "insert or replace into sandboxes "
            "(id, created_at, last_active_at, anonymous, sleep_after, labels, destroying, note) "
            "values (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id,
                record.created_at,
                record.last_active_at,
                record.anonymous,
                record.sleep_after,
                msgspec.json.encode(record.labels).decode(),
                record.destroying,
                record.note,
            ),
        )

    def remove(self, sandbox_id: str) -> None:
        self.write("delete from ports where uid = ?", (sandbox_id,))
        self.write("delete from sandboxes where id = ?", (sandbox_id,))

    def read(self, query: str, values: tuple[str | int | None, ...]) -> list[Any]:
        """The rows that a query finds."""
        return self._db.execute(query, values).fetchall()

    def write(self, statement: str, values: tuple[str | int | bool | None, ...]) -> None:
        """Raises `ServiceUnavailableError` when the disk is full."""
        try:
            self._db.execute(statement, values)
        except sqlite3.OperationalError as error:
            raise ServiceUnavailableError(f"the registry can't be written ({error}); free some disk space") from None

    def close(self) -> None:
        self._db.close()
