"""Secrets that requests of a sandbox carry and that it never has."""

from __future__ import annotations

from collections.abc import Mapping

from sandcove.client._async.agent import AsyncAgent
from sandcove.client.results import SecretInfo
from sandcove.wire import secret_calls
from sandcove.wire.secrets import Secret, check_secrets

__all__ = ["AsyncSecrets"]


class AsyncSecrets:
    """The calls of a sandbox about its secrets."""

    _agent: AsyncAgent

    async def set_secrets(self, secrets: Mapping[str, Secret | None]) -> list[SecretInfo]:
        """Changes the secrets that its requests carry, at once, on connections that are open too; wakes it.

        A secret with another value keeps its placeholder, so that programs which run go on. Those that are not named
        stay. Programs that begin afterwards have the variables.

        Args:
            secrets: by the names of the variables, as for the constructor; None removes one.

        Returns:
            all that it has now.

        Raises:
            InvalidRequestError: one is wrong, or is for a host that the egress does not allow.
            HostUnsupportedError: TLS can't be ended by this server.
            FileSystemError: the sandbox's certificates can't be written; values that were removed are removed.
        """
        checked = check_secrets(secrets, removal=True)
        await self._agent.ensure()
        client = await self._agent.client()
        request = secret_calls.SetSecrets(secrets=checked)
        return [SecretInfo.of(each) for each in (await client.set_secrets(self._agent.id or "", request)).secrets]

    async def get_secrets(self) -> list[SecretInfo]:
        """Its secrets, by name; does not wake it. What their values are is never told."""
        client = await self._agent.known()
        return [SecretInfo.of(each) for each in (await client.secrets(self._agent.id or "")).secrets]
