"""Who calls: what a request may do, as its listener and its key say."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LOCAL", "Caller"]


@dataclass(frozen=True)
class Caller:
    """`sandbox` is the uid of the only sandbox that a token is for; `key` the id of the key that was shown."""

    tenant: str
    scopes: frozenset[str]
    key: str | None = None
    sandbox: str | None = None


LOCAL = Caller("local", frozenset({"admin", "sandboxes", "read"}))
"""Whoever can open the server's Unix socket."""
