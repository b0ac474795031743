"""JSON bodies about keys and sandbox tokens, and what a tenant, a scope and a limit may be."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from sandcove.errors import InvalidRequestError
from sandcove.wire.limits import LEAST
from sandcove.wire.limits import MOST as MOST_BYTES
from sandcove.wire.models import Answer, Request

__all__ = [
    "SCOPES",
    "TOKEN_SCOPES",
    "CreateKey",
    "CreateToken",
    "KeyCreated",
    "KeyInfo",
    "KeyList",
    "Limits",
    "TokenCreated",
    "check_expiry",
    "check_key",
    "check_scopes",
]

SCOPES: Final = ("admin", "sandboxes", "read")
"""Of keys."""
TOKEN_SCOPES: Final = ("api", "life")
"""Of a sandbox's tokens: what happens in it; its waking, sleeping and end."""
LONGEST_EXPIRY: Final = 10 * 365 * 86_400_000
"""Milliseconds: ten years."""
LONGEST_TOKEN: Final = 30 * 86_400_000
"""Milliseconds: 30 days."""
MOST: Final = 10**9

_TENANT = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,61}[a-z0-9])?", re.ASCII)


class Limits(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What a key may have at most; None: as much as it wants."""

    sandboxes: int | None = None
    """Sandboxes of its tenant, asleep ones too."""
    alive: int | None = None
    """Sandboxes of its tenant that are awake."""
    execs: int | None = None
    """Calls of this key that run a command or a cell, at the same time."""
    rate: float | None = None
    """Requests a second of this key."""
    memory: int | None = None
    """Bytes that each of its sandboxes may use, as `cpus`, `processes` and `disk`: see `ResourceLimits`."""
    cpus: float | None = None
    processes: int | None = None
    disk: int | None = None
    burst: int | None = None
    """Requests that may come at once before `rate` counts; else one second's."""


class CreateKey(Request):
    """``POST /v1/keys``."""

    tenant: str | None = None
    """Keys of one tenant see the same sandboxes; left out, the key is a tenant of its own, named by its id."""
    name: str = ""
    """For people."""
    scopes: list[str] | None = None
    """Of `SCOPES`; left out, ``sandboxes``."""
    expires_in: int | None = None
    """Milliseconds; left out, it does not expire."""
    limits: Limits = Limits()


class KeyInfo(Answer):
    """What is known of a key; not the key itself."""

    id: str
    tenant: str
    name: str
    scopes: list[str]
    limits: Limits
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    """To the minute."""


class KeyCreated(KeyInfo):
    """The only answer that has the key itself."""

    key: str


class KeyList(Answer):
    keys: list[KeyInfo]
    count: int


class CreateToken(Request):
    """``POST /v1/sandboxes/{id}/tokens``."""

    expires_in: int = 3_600_000
    """Milliseconds."""
    scopes: list[str] | None = None
    """Of `TOKEN_SCOPES`; left out, ``api``."""


class TokenCreated(Answer):
    token: str
    expires_at: str
    scopes: list[str]


def check_key(spec: CreateKey) -> None:
    """A tenant's name is 1 to 63 characters; the key's own at most 100, none of them a control character.

    Raises:
        InvalidRequestError: that, a scope, the expiry or a limit is none.
    """
    if spec.tenant is not None and not _TENANT.fullmatch(spec.tenant):
        raise InvalidRequestError(
            f"tenant {spec.tenant[:80]!r} is not 1 to 63 characters of a-z, 0-9 and '_.-' "
            "that begin and end with a letter or digit"
        )
    if len(spec.name) > 100 or not spec.name.isprintable():
        raise InvalidRequestError("the key's name has over 100 characters, or one that can't be printed")
    if spec.scopes is not None:
        check_scopes(spec.scopes, SCOPES)
    if spec.expires_in is not None:
        check_expiry(spec.expires_in, LONGEST_EXPIRY)
    for limit in msgspec.structs.fields(spec.limits):
        value = getattr(spec.limits, limit.name)
        if value is None:
            continue
        least, most = (LEAST[limit.name], MOST_BYTES) if limit.name in LEAST else (0, MOST)
        if not (value > 0 if limit.name in ("rate", "burst") else value >= least) & (value <= most):
            raise InvalidRequestError(f"limit {limit.name}={value:g} is not between {least:,} and {most:,}")
    if spec.limits.burst is not None and spec.limits.rate is None:
        raise InvalidRequestError("limit burst goes with rate, which is missing")


def check_scopes(scopes: list[str], known: tuple[str, ...]) -> None:
    """At least one, each once, each of `known`; raises `InvalidRequestError`."""
    if not scopes or len(set(scopes)) != len(scopes) or not set(scopes) <= set(known):
        shown = ", ".join(scope[:20] for scope in scopes[:5])
        raise InvalidRequestError(f"scopes [{shown}] are not one or more of {', '.join(known)}, each once")


def check_expiry(milliseconds: int, longest: int = LONGEST_TOKEN) -> None:
    """Over 0, and at most `longest`; raises `InvalidRequestError`."""
    if not 0 < milliseconds <= longest:
        raise InvalidRequestError(
            f"expiresIn is {milliseconds if abs(milliseconds) < 10**15 else 'a number too large'} ms; give over 0 "
            f"and at most {longest} ({longest // 86_400_000} days)"
        )
