"""Secrets that the proxy adds to requests, outside of the sandbox that makes them. No I/O, and no value in any text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sandcove.errors import InvalidRequestError
from sandcove.wire.names import check_env

if TYPE_CHECKING:
    from sandcove.wire.egress import Policy

__all__ = ["MAX_SECRETS", "Header", "Secret", "check_secrets", "hosts_of", "read_as", "read_header"]

MAX_SECRETS = 64
"""Of one sandbox."""
MAX_HOSTS = 32
MAX_VALUE = 8192
"""Bytes of a value."""
MAX_HEADER = 256

HERE = "{secret}"
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):[ \t]*([ -~]*)")
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NEVER = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers of a connection, which no secret is put into."""


class Secret(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """A value that a sandbox's requests to some hosts carry, and that the sandbox never has.

    Attributes:
        value: what is secret. It is shown nowhere.
        hosts: where it goes, as in an egress: ``api.example.com``, ``*.example.com:8443``. One without a port means 443
            with `intercept_tls`, else 80.
        header: ``X-Api-Key: {secret}``: every request to these hosts has this header, and what the sandbox put there is
            dropped. Left out, the value takes the place of the variable's in any header of a request.
        intercept_tls: TLS to these hosts is ended at the proxy, by a certificate that only the sandbox trusts. The
            value is then sent by TLS alone; without it, in plain HTTP alone.
        in_url: without `header`, the value takes the variable's place in a request's path and query too.
    """

    value: str
    hosts: list[str]
    header: str | None = None
    intercept_tls: bool = False
    in_url: bool = False

    def __repr__(self) -> str:
        shown = [f"hosts={self.hosts!r}"]
        shown += [
            f"{name}={getattr(self, name)!r}" for name in ("header", "intercept_tls", "in_url") if getattr(self, name)
        ]
        return f"Secret('...', {', '.join(shown)})"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("hosts", self.hosts), ("header", self.header), ("intercept_tls", self.intercept_tls)]


class Header(NamedTuple):
    """A header, and what stands in it before and after the secret; the name is in lower case."""

    name: bytes
    before: bytes
    after: bytes


def read_as(name: bytes) -> bytes:
    """One header's name, in lower case, for all those that a gateway interface reads alike."""
    return name.replace(b"_", b"-")


def hosts_of(secret: Secret) -> Policy:
    """Where it goes.

    Raises:
        InvalidRequestError: a host is not understood, or means too much.
    """
    from sandcove.wire.egress import parse_hosts

    return parse_hosts(secret.hosts, 443 if secret.intercept_tls else 80)


def read_header(text: str) -> Header:
    """``X-Api-Key: {secret}``, taken apart.

    Raises:
        InvalidRequestError: it is none.
    """
    match = _HEADER.fullmatch(text) if len(text) <= MAX_HEADER else None
    if match is None or match[2].count(HERE) != 1:
        raise InvalidRequestError(
            "header is a name and a value with {secret} in it once, such as 'X-Api-Key: {secret}' or "
            "'Authorization: Bearer {secret}'"
        )
    name = match[1].lower()
    if name.replace("_", "-") in _NEVER:
        raise InvalidRequestError(f"header {name!r} belongs to the connection; no secret can be in it")
    before, _, after = match[2].partition(HERE)
    return Header(name.encode(), before.encode(), after.encode())


def check_secrets(value: object, *, removal: bool = False) -> dict[str, Secret | None]:
    """A mapping of variables' names to secrets; with `removal` to None too.

    Raises:
        InvalidRequestError: it is none, or one of them is wrong. The text never has a value.
    """
    if not isinstance(value, Mapping):
        raise InvalidRequestError(f"secrets is a mapping of names to Secret, not {type(value).__name__}")
    if len(value) > MAX_SECRETS:
        raise InvalidRequestError(f"there are {len(value)} secrets; a sandbox has at most {MAX_SECRETS}")
    checked: dict[str, Secret | None] = {}
    for name, secret in value.items():
        if not isinstance(name, str):
            raise InvalidRequestError(f"a name in secrets is a str, not {type(name).__name__}")
        check_env({name: None})
        if secret is None and removal:
            checked[name] = None
            continue
        if not isinstance(secret, Secret):
            raise InvalidRequestError(f"secrets[{name!r}] is a Secret(value, hosts=[...]), not {type(secret).__name__}")
        try:
            checked[name] = _checked(secret)
        except InvalidRequestError as error:
            raise InvalidRequestError(f"secrets[{name!r}]: {error.message}") from None
    return checked


def _checked(secret: Secret) -> Secret:
    value: object = secret.value
    hosts: object = secret.hosts
    header: object = secret.header
    if not isinstance(value, str):
        raise InvalidRequestError(f"its value is a str, not {type(value).__name__}")
    if not value:
        raise InvalidRequestError("its value is empty")
    if _UNSENDABLE.search(value):
        raise InvalidRequestError(
            "its value has a line break or another control character, which no header can carry; "
            "strip what was read from a file"
        )
    if value != value.strip(" \t"):
        raise InvalidRequestError("its value has a space at one end, which headers don't keep")
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidRequestError("its value is no text that UTF-8 has") from None
    if length > MAX_VALUE:
        raise InvalidRequestError(f"its value has {length:,} bytes; give at most {MAX_VALUE:,}")
    if isinstance(hosts, tuple | set | frozenset):
        hosts = list(hosts)
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise InvalidRequestError("its hosts are a list of str, such as ['api.example.com']")
    if not 0 < len(hosts) <= MAX_HOSTS:
        raise InvalidRequestError(f"it has {len(hosts)} hosts; give 1 to {MAX_HOSTS}")
    for flag in ("intercept_tls", "in_url"):
        if not isinstance(getattr(secret, flag), bool):
            raise InvalidRequestError(f"its {flag} is True or False, not {type(getattr(secret, flag)).__name__}")
    if header is not None:
        if not isinstance(header, str):
            raise InvalidRequestError(f"its header is a str, not {type(header).__name__}")
        read_header(header)
        if secret.in_url:
            raise InvalidRequestError("it has a header, so that it goes nowhere else; leave out header or in_url")
    made = Secret(value, hosts, secret.header, secret.intercept_tls, secret.in_url)
    if hosts_of(made).names_port(443) and not made.intercept_tls:
        raise InvalidRequestError("at port 443 is TLS, which it can't be put into as it is; give intercept_tls=True")
    return made
