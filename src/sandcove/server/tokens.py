"""Tokens for one sandbox, which a backend can hand to a browser: signed, expiring, written down nowhere.

``scs_<payload>.<mac>``: the payload is JSON (`_Payload`), the MAC is HMAC-SHA256 of the payload's text under a secret
of the server, both in URL-safe base64 without padding. It ends with its time, its sandbox, and the key that made it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from sandcove.errors import SandboxError, UnauthorizedError
from sandcove.server.caller import Caller
from sandcove.server.keys import Keys
from sandcove.server.lifecycle import Sandbox, Sandboxes
from sandcove.wire.clock import timestamp
from sandcove.wire.keys import TOKEN_SCOPES, CreateToken, TokenCreated, check_expiry, check_scopes

__all__ = ["Tokens", "read_secret"]

SECRET_BYTES = 32
_FORM = re.compile(r"scs_([A-Za-z0-9_-]{1,1000})\.([A-Za-z0-9_-]{43})", re.ASCII)


class _Payload(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What a token says. `born` tells a sandbox from a later one of its name; `expires_at` is in epoch seconds."""

    uid: str
    born: str
    scopes: list[str]
    expires_at: float
    key: str | None


def read_secret(path: Path) -> bytes:
    """The server's secret, made when there is none; mode 0600. Whoever deletes the file ends all tokens.

    Raises:
        SandboxError: the file is damaged.
    """
    # Whole or not at all: a server that is killed here leaves no half of it, and the next one nothing else.
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    if not path.exists():
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, secrets.token_bytes(SECRET_BYTES))
            os.fsync(fd)
            os.rename(new, path)
        finally:
            os.close(fd)
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise SandboxError(f"{path} is damaged; delete it (all sandbox tokens end by that) and start the server again")
    return secret


class Tokens:
    """Makes and checks them. `clock` gives the seconds since the epoch."""

    def __init__(self, secret: bytes, sandboxes: Sandboxes, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._sandboxes = sandboxes
        self._keys = keys
        self._clock = clock

    def create(self, sandbox: Sandbox, caller: Caller, spec: CreateToken) -> TokenCreated:
        """A new token of `sandbox`.

        Raises:
            InvalidRequestError: the time or a scope is none.
        """
        check_expiry(spec.expires_in)
        scopes = ["api"] if spec.scopes is None else spec.scopes
        check_scopes(scopes, TOKEN_SCOPES)
        expires_at = self._clock() + spec.expires_in / 1000
        payload = _Payload(sandbox.record.uid, sandbox.record.created_at, sorted(scopes), expires_at, caller.key)
        text = _text(msgspec.json.encode(payload))
        return TokenCreated(
            token=f"scs_{text}.{self._mac(text)}", expires_at=timestamp(expires_at), scopes=sorted(scopes)
        )

    def caller(self, token: str) -> tuple[Caller, str]:
        """Who holds `token`, and the id of its sandbox.

        Raises:
            UnauthorizedError: it is none, or no longer. The message never repeats what was sent.
        """
        match = _FORM.fullmatch(token)
        if match is None or not hmac.compare_digest(match[2], self._mac(match[1])):
            raise UnauthorizedError("the sandbox token is not one of this server's; was it cut off?")
        payload = msgspec.json.decode(base64.urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)), type=_Payload)
        if self._clock() >= payload.expires_at:
            raise UnauthorizedError(f"the sandbox token expired at {timestamp(payload.expires_at)}; ask for another")
        if payload.key is not None:
            self._keys.still_good(payload.key)
        sandbox = self._sandboxes.of_uid(payload.uid)
        if sandbox is None or sandbox.record.created_at != payload.born:
            raise UnauthorizedError("the sandbox of this token was destroyed")
        record = sandbox.record
        return Caller(record.tenant, frozenset(payload.scopes), payload.key, record.uid), record.id

    def _mac(self, text: str) -> str:
        return _text(hmac.digest(self._secret, text.encode(), hashlib.sha256))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
