"""How a sandbox gets secrets: the proxy has their values, the sandbox placeholders, and what it has to trust."""

from __future__ import annotations

from collections.abc import Mapping

from sandcove.errors import InvalidRequestError
from sandcove.server.egress.outlets import Granted, Outlets
from sandcove.server.questions import ask, set_env
from sandcove.server.sandbox import Sandbox
from sandcove.wire.egress import Policy, parse_egress
from sandcove.wire.models import CreateSandbox
from sandcove.wire.secret_calls import Trust
from sandcove.wire.secrets import Secret, check_secrets

__all__ = ["grant", "hand_over", "wanted_secrets"]


def wanted_secrets(spec: CreateSandbox) -> dict[str, Secret | None]:
    """Those that a sandbox is made with.

    Raises:
        InvalidRequestError: they are wrong, or a variable is to be two things.
    """
    secrets = check_secrets(spec.secrets or {})
    both = sorted(secrets.keys() & (spec.env or {}).keys())
    if both:
        raise InvalidRequestError(f"{', '.join(both[:5])}: a variable is in env or in secrets, not in both")
    return secrets


def grant(
    outlets: Outlets, sandbox: Sandbox, changes: Mapping[str, Secret | None], egress: Policy | None = None
) -> Granted:
    """Changes what the proxy adds, at once, whatever the sandbox does; gives what it has to be told by `hand_over`.

    Args:
        egress: what it may reach; else what is recorded.

    Raises:
        InvalidRequestError, HostUnsupportedError: see `Outlets.set_secrets`.
        SandboxNotFoundError: it is being destroyed.
    """
    if sandbox.record.destroying:
        raise sandbox.gone()
    return outlets.set_secrets(sandbox.record.uid, changes, egress or parse_egress(sandbox.record.egress))


async def hand_over(sandbox: Sandbox, granted: Granted) -> None:
    """Gives a sandbox that is awake its placeholders."""
    if granted.certificate is not None:
        await ask(sandbox.socket, "POST", "/api/trust", Trust(certificate=granted.certificate))
    await set_env(sandbox.socket, granted.env)
