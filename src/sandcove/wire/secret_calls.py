"""The calls about secrets: set them, list them without their values, and have a sandbox trust an authority."""

from __future__ import annotations

from sandcove.wire.models import Answer, Request
from sandcove.wire.secrets import Secret

__all__ = ["SecretInfo", "SecretList", "SetSecrets", "Trust"]


class SetSecrets(Request):
    """``PUT /v1/sandboxes/{id}/secrets``, by the names of the variables; null removes, what is left out stays."""

    secrets: dict[str, Secret | None]


class SecretInfo(Answer):
    """A secret without its value; `name` is the variable's, the others are as in `Secret`."""

    name: str
    hosts: list[str]
    header: str | None = None
    intercept_tls: bool = False
    in_url: bool = False


class SecretList(Answer):
    """``GET /v1/sandboxes/{id}/secrets`` and the answer to ``PUT``, by name."""

    secrets: list[SecretInfo]
    count: int


class Trust(Request):
    """(ours, from the server) ``POST /api/trust``: programs of the sandbox trust this certificate, as PEM."""

    certificate: str
