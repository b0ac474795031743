"""The calls about what a sandbox may reach, and has asked for."""

from __future__ import annotations

from typing import Literal

import msgspec

from sandcove.wire.models import Answer, Request

__all__ = ["EgressEntry", "EgressLog", "SetEgress", "Verdict"]

Verdict = Literal["allowed", "refused", "failed"]


class SetEgress(Request):
    """``PUT /v1/sandboxes/{id}/egress``."""

    egress: str | list[str]


class EgressEntry(Answer):
    """A connection that a sandbox has asked for.

    Attributes:
        time: when.
        host: as it was asked for; empty when what was asked is no host.
        port: 0 when it is not known.
        via: ``http``, ``connect``, ``socks5``; ``https``: a request out of TLS that the proxy ends.
        verdict: ``allowed``, ``refused`` by a rule, or ``failed``: it was allowed, and could not be made.
        reason: of what is not allowed.
        address: what it was connected to.
        sent: bytes out of the sandbox so far.
        received: bytes into it so far.
        ended: it is over.
        secrets: the names of those that requests over it were given.
    """

    time: str
    host: str
    port: int
    via: str
    verdict: Verdict
    reason: str = ""
    address: str = ""
    sent: int = 0
    received: int = 0
    ended: bool = False
    secrets: list[str] = msgspec.field(default_factory=list)


class EgressLog(Answer):
    """``GET /v1/sandboxes/{id}/egress/log``: the newest last."""

    entries: list[EgressEntry]
    count: int
