"""The registry's file: SQLite in WAL mode, written by the one server, called directly (a write takes 30 us)."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sandcove.errors import SandboxError, ServiceUnavailableError

__all__ = ["SCHEMA", "Database"]

_STEPS = (
    """
    create table sandboxes (id text primary key, created_at text not null, last_active_at text not null,
      anonymous integer not null, sleep_after integer not null, labels text not null, destroying integer not null,
      note text) strict
    """,
    """
    alter table sandboxes rename to sandboxes_1;
    create table sandboxes (uid text primary key, tenant text not null, id text not null, created_at text not null,
      last_active_at text not null, anonymous integer not null, sleep_after integer not null, labels text not null,
      destroying integer not null, note text, unique (tenant, id)) strict;
    insert into sandboxes
      select id, 'local', id, created_at, last_active_at, anonymous, sleep_after, labels, destroying, note
      from sandboxes_1;
    drop table sandboxes_1;
    create table keys (id text primary key, tenant text not null, name text not null, digest blob not null,
      scopes text not null, limits text not null, created_at text not null, expires_at real, revoked_at text,
      last_used_at text) strict
    """,
    """
    create table ports (uid text not null, port integer not null, name text, token text, exposed_at text not null,
      ended integer not null, primary key (uid, port)) strict
    """,
    """
    alter table sandboxes add column keep_alive integer not null default 0;
    alter table sandboxes add column expires_at real
    """,
    "alter table sandboxes add column egress text not null default '[]'",
    "alter table sandboxes add column limits text not null default '{}'",
    "create table secrets (uid text primary key, content text not null) strict",
)
"""Step n leads from schema n to n + 1; an empty file is schema 0. A step that was released is never changed."""

SCHEMA = len(_STEPS)


class Database:
    """The open file, of this version's schema: an older one's is upgraded in place.

    Raises:
        SandboxError: it can't be read, or a newer version wrote it.
    """

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
        if not 0 <= version <= SCHEMA:
            self._db.close()
            raise SandboxError(
                f"{path} was written by another version of Sandcove (schema {version}, this one knows {SCHEMA}); "
                "use that version, or set SANDCOVE_HOME to a new folder"
            )
        try:
            self._upgrade(version)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise SandboxError(
                f"{path} could not be upgraded from schema {version} ({error}); it is as it was: free disk space "
                "if it is full"
            ) from None
        path.chmod(0o600)

    def _upgrade(self, version: int) -> None:
        """All of the steps that are missing, or none: SQLite's transactions hold changes of tables too."""
        self._db.execute("begin immediate")
        try:
            for statement in ";".join(_STEPS[version:]).split(";"):
                self._db.execute(statement)
            self._db.execute(f"pragma user_version = {SCHEMA}")
            self._db.execute("commit")
        except BaseException:
            self._db.execute("rollback")
            raise

    def rows(self, query: str, values: tuple[str | int | None, ...] = ()) -> list[tuple[Any, ...]]:
        """What a query finds."""
        return self._db.execute(query, values).fetchall()

    def write(self, statement: str, values: tuple[str | int | float | bytes | None, ...]) -> None:
        """Returns when it is written down.

        Raises:
            ServiceUnavailableError: the disk is full, or fails.
        """
        try:
            self._db.execute(statement, values)
        except sqlite3.OperationalError as error:
            raise ServiceUnavailableError(f"the registry can't be written ({error}); free some disk space") from None

    def close(self) -> None:
        self._db.close()
