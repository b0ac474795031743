"""The secrets of each sandbox, and the authority that vouches for hosts inside it: in the registry, in the clear."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import msgspec

from sandcove.errors import InvalidRequestError
from sandcove.server.database import Database
from sandcove.server.egress.authority import Authority
from sandcove.server.egress.keyring import Grant, Keyring
from sandcove.wire.egress import Policy
from sandcove.wire.secret_calls import SecretInfo
from sandcove.wire.secrets import MAX_SECRETS, Secret, hosts_of, read_as, read_header

__all__ = ["NO_SECRETS", "Purse", "Secrets"]


class Kept(msgspec.Struct):
    """A secret, and what the sandbox has in its place."""

    secret: Secret
    placeholder: str


class Purse(msgspec.Struct):
    """All that is kept for one sandbox.

    Attributes:
        kept: by the names of the variables.
        authority: see `Authority.make`; empty when none was needed yet.
    """

    kept: dict[str, Kept] = {}
    authority: str = ""

    def __repr__(self) -> str:
        return f"<Purse {', '.join(self.kept)}>"

    def __bool__(self) -> bool:
        return bool(self.kept or self.authority)

    def keyring(self) -> Keyring:
        """As the proxy uses them."""
        return Keyring(Grant.of(name, kept.secret, kept.placeholder) for name, kept in self.kept.items())

    def listing(self) -> list[SecretInfo]:
        """Without values."""
        return [
            SecretInfo(
                name=name,
                hosts=list(kept.secret.hosts),
                header=kept.secret.header,
                intercept_tls=kept.secret.intercept_tls,
                in_url=kept.secret.in_url,
            )
            for name, kept in sorted(self.kept.items())
        ]

    def changed(self, changes: Mapping[str, Secret | None], egress: Policy) -> Purse:
        """The one with these changes. A secret that has another value keeps its placeholder: what runs goes on.

        Raises:
            InvalidRequestError: they are too many, not for hosts of this egress, or put two into one header.
            HostUnsupportedError: TLS can't be ended here.
        """
        kept = dict(self.kept)
        authority = self.authority
        for name, secret in changes.items():
            if secret is None:
                kept.pop(name, None)
                continue
            beyond = hosts_of(secret).beyond(egress)
            if beyond:
                raise InvalidRequestError(
                    f"secrets[{name!r}] is for {', '.join(beyond[:5])}, which is not in the egress of the sandbox "
                    f'({egress}); allow it with egress=["{beyond[0]}"]'
                )
            if secret.intercept_tls and not authority:
                authority = Authority.make()
            before = kept.get(name)
            kept[name] = Kept(secret, before.placeholder if before is not None else _placeholder())
        if len(kept) > MAX_SECRETS:
            raise InvalidRequestError(f"the sandbox would have {len(kept)} secrets; it has at most {MAX_SECRETS}")
        _check_headers({name: kept[name].secret for name in kept})
        return Purse(kept, authority)


NO_SECRETS = Purse()


class Secrets:
    """Those of all sandboxes, by their uids."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, uid: str) -> Purse:
        rows = self._database.rows("select content from secrets where uid = ?", (uid,))
        return msgspec.json.decode(rows[0][0], type=Purse) if rows else Purse()

    def put(self, uid: str, purse: Purse) -> None:
        """Returns when it is written down. The registry deletes them with their sandbox."""
        content = msgspec.json.encode(purse).decode()
        self._database.write("insert or replace into secrets (uid, content) values (?, ?)", (uid, content))


def _placeholder() -> str:
    return f"sandcove_secret_{secrets.token_hex(16)}"


def _check_headers(secrets_: Mapping[str, Secret]) -> None:
    """No request gets one header from two secrets."""
    seen: list[tuple[str, bytes, Secret]] = []
    for name, secret in secrets_.items():
        if secret.header is None:
            continue
        header = read_as(read_header(secret.header).name)
        for other, same, earlier in seen:
            alike = same == header and earlier.intercept_tls is secret.intercept_tls
            if alike and hosts_of(earlier).overlaps(hosts_of(secret)):
                raise InvalidRequestError(
                    f"secrets[{other!r}] and secrets[{name!r}] are both for the header {header.decode()!r} of one host"
                )
        seen.append((name, header, secret))
