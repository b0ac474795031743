"""The routes of secrets: what the proxy adds to a sandbox's requests, and which there are."""

from __future__ import annotations

from starlette.requests import Request

from sandcove.calls import Call, Json
from sandcove.errors import (
    ConflictError,
    ContainerNotReadyError,
    FileSystemError,
    HostUnsupportedError,
    QuotaExceededError,
)
from sandcove.server.auth import caller_of
from sandcove.server.grant import grant, hand_over
from sandcove.server.lifecycle import UNNAMED, Sandbox
from sandcove.server.limit_calls import HasQuotas
from sandcove.wire.secret_calls import SecretList, SetSecrets
from sandcove.wire.secrets import check_secrets

__all__ = ["secret_routes"]


class _Calls:
    def __init__(self, server: HasQuotas) -> None:
        self._server = server

    async def change(self, http: Request, spec: SetSecrets) -> Json[SecretList]:
        """Changes a sandbox's secrets, at once, and the variables that stand for them; wakes it."""
        sandbox = self._server.named(http)
        sandboxes = self._server.sandboxes
        granted = grant(sandboxes.outlets, sandbox, check_secrets(spec.secrets, removal=True))
        await sandboxes.wake(sandbox, self._server.quotas.of(caller_of(http.scope)))
        await hand_over(sandbox, granted)
        return Json(self._listing(sandbox))

    async def list(self, http: Request) -> Json[SecretList]:
        """The secrets of a sandbox, without their values."""
        return Json(self._listing(self._server.named(http)))

    def _listing(self, sandbox: Sandbox) -> SecretList:
        found = self._server.sandboxes.outlets.secrets.of(sandbox.record.uid).listing()
        return SecretList(secrets=found, count=len(found))


def secret_routes(server: HasQuotas) -> list[Call]:
    """All of them."""
    calls = _Calls(server)
    fails = [*UNNAMED, HostUnsupportedError, QuotaExceededError, ContainerNotReadyError, ConflictError, FileSystemError]
    return [
        Call("PUT", "/v1/sandboxes/{id}/secrets", calls.change, fails),
        Call("GET", "/v1/sandboxes/{id}/secrets", calls.list, UNNAMED),
    ]
