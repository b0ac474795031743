"""Keys for callers over TCP: made, found, revoked. A key is shown once; its secret's SHA-256 is kept.

The secret is 256 bits by chance: nobody can guess it, however fast the hash is, so it needs none of the slow hashes
that passwords need. The server is the only writer of the table and holds all of it in memory: a key that is revoked is
refused from the next request on.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from sandcove.errors import ConflictError, NotFoundError, ServiceUnavailableError, UnauthorizedError
from sandcove.server.caller import LOCAL, Caller
from sandcove.server.database import Database
from sandcove.wire.clock import timestamp
from sandcove.wire.keys import CreateKey, KeyInfo, Limits, check_key

__all__ = ["Key", "Keys"]

MOST_KEYS = 10_000
USED_STEP = 60.0
"""Seconds: the time of a key's last use is written down at most so often."""
_FORM = re.compile(r"sck_(k_[a-z2-7]{8})_([a-z2-7]{52})", re.ASCII)
_NOBODY = bytes(32)
_UNKNOWN = "the key is not one of this server's; check SANDCOVE_API_KEY, or make one: `sandcove keys create`"


@dataclass
class Key:
    """A row of the table, without a secret: `digest` is its SHA-256. `expires_at` is in seconds since the epoch."""

    id: str
    tenant: str
    name: str
    digest: bytes
    scopes: frozenset[str]
    limits: Limits
    created_at: str
    expires_at: float | None
    revoked_at: str | None = None
    last_used_at: str | None = None
    written: float = 0.0

    def __repr__(self) -> str:
        return f"<Key {self.id} of tenant {self.tenant}>"

    def info(self) -> KeyInfo:
        return KeyInfo(
            id=self.id,
            tenant=self.tenant,
            name=self.name,
            scopes=sorted(self.scopes),
            limits=self.limits,
            created_at=self.created_at,
            expires_at=None if self.expires_at is None else timestamp(self.expires_at),
            revoked_at=self.revoked_at,
            last_used_at=self.last_used_at,
        )


class Keys:
    """All keys. `clock` gives the seconds since the epoch."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._all = {key.id: key for key in self._read()}

    def create(self, spec: CreateKey) -> tuple[Key, str]:
        """A new key, and its text, which is nowhere else.

        Raises:
            InvalidRequestError, ConflictError, ServiceUnavailableError.
        """
        check_key(spec)
        if len(self._all) >= MOST_KEYS:
            raise ConflictError(f"there are {MOST_KEYS:,} keys, revoked ones included, which is as many as can be")
        key_id = _new_id()
        while key_id in self._all:
            key_id = _new_id()
        secret = base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()
        key = Key(
            id=key_id,
            tenant=spec.tenant or key_id,
            name=spec.name,
            digest=hashlib.sha256(secret.encode()).digest(),
            scopes=frozenset(spec.scopes or ["sandboxes"]),
            limits=spec.limits,
            created_at=timestamp(self._clock()),
            expires_at=None if spec.expires_in is None else self._clock() + spec.expires_in / 1000,
        )
        self._put(key)
        self._all[key.id] = key
        return key, f"sck_{key.id}_{secret}"

    def all(self) -> list[Key]:
        """Oldest first, revoked and expired ones too."""
        return sorted(self._all.values(), key=lambda key: (key.created_at, key.id))

    def revoke(self, key_id: str) -> Key:
        """From now on it is refused. Repeating it is harmless.

        Raises:
            NotFoundError: there is none of this id.
        """
        key = self._all.get(key_id)
        if key is None:
            raise NotFoundError(f"there is no key {key_id[:40]!r}; `sandcove keys ls` shows those there are")
        # Written again when it is repeated: it may not have been, on a full disk.
        key.revoked_at = key.revoked_at or timestamp(self._clock())
        self._put(key)
        return key

    def caller(self, text: str) -> Caller:
        """Who holds the key `text`.

        Raises:
            UnauthorizedError: it is no key, or no longer. The message never repeats what was sent.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise UnauthorizedError(
                "what was sent as key is none: a key begins with sck_k_ and has 67 characters; was it cut off?"
            )
        key = self._all.get(match[1])
        digest = hashlib.sha256(match[2].encode()).digest()
        # Compared in constant time, also with nothing when there is no such key.
        if not hmac.compare_digest(digest, _NOBODY if key is None else key.digest) or key is None:
            raise UnauthorizedError(_UNKNOWN)
        self.still_good(key.id)
        now = self._clock()
        if not 0 <= now - key.written < USED_STEP:
            key.written = now
            key.last_used_at = timestamp(now)
            with contextlib.suppress(ServiceUnavailableError):  # a full disk locks nobody out
                self._put(key)
        return Caller(key.tenant, key.scopes, key.id)

    def still_good(self, key_id: str) -> Key:
        """The key of this id.

        Raises:
            UnauthorizedError: it is revoked or expired, or there is none.
        """
        key = self._all.get(key_id)
        if key is None:
            raise UnauthorizedError(_UNKNOWN)
        if key.revoked_at is not None:
            raise UnauthorizedError(f"key {key.id} was revoked at {key.revoked_at}; ask for another")
        if key.expires_at is not None and self._clock() >= key.expires_at:
            raise UnauthorizedError(f"key {key.id} expired at {timestamp(key.expires_at)}; ask for another")
        return key

    def limits_of(self, tenant: str) -> Limits:
        """What holds where no key asks, such as when a visit to a preview wakes: the tenant's most generous key, alone.

        If all its keys have ended, the most generous of those. The machine's own user has no limits.
        """
        keys = [key for key in self._all.values() if key.tenant == tenant]
        limits = [key.limits.alive for key in keys if self._is_good(key)] or [key.limits.alive for key in keys]
        known = [alive for alive in limits if alive is not None]
        return Limits(alive=max(known) if tenant != LOCAL.tenant and known and len(known) == len(limits) else None)

    def _is_good(self, key: Key) -> bool:
        return key.revoked_at is None and (key.expires_at is None or self._clock() < key.expires_at)

    def _read(self) -> list[Key]:
        return [
            Key(
                id=row[0],
                tenant=row[1],
                name=row[2],
                digest=row[3],
                scopes=frozenset(row[4].split()),
                limits=msgspec.json.decode(row[5], type=Limits),
                created_at=row[6],
                expires_at=row[7],
                revoked_at=row[8],
                last_used_at=row[9],
            )
            for row in self._database.rows(
                "select id, tenant, name, digest, scopes, limits, created_at, expires_at, revoked_at, last_used_at "
                "from keys"
            )
        ]

    def _put(self, key: Key) -> None:
        self._database.write(
            "insert or replace into keys "
            "(id, tenant, name, digest, scopes, limits, created_at, expires_at, revoked_at, last_used_at) "
            "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key.id,
                key.tenant,
                key.name,
                key.digest,
                " ".join(sorted(key.scopes)),
                msgspec.json.encode(key.limits).decode(),
                key.created_at,
                key.expires_at,
                key.revoked_at,
                key.last_used_at,
            ),
        )


def _new_id() -> str:
    return "k_" + base64.b32encode(secrets.token_bytes(5)).decode().lower()
