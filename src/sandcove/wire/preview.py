"""The hosts of previews, ``{port}-{sandbox}-{token}.{domain}``, and how a proxy with a key asks for one. No I/O."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from sandcove.errors import InvalidRequestError
from sandcove.wire.names import PORT_TOKEN

__all__ = ["KEY", "LONGEST_LABEL", "RELAYED", "Base", "Label", "in_host", "read_hostname"]

RELAYED: Final = "/v1/previews/"
"""A label and the service's own path follow: the way in for a proxy, which says in ``X-Forwarded-Host``, ``-Proto`` and
``-For`` what its visitor sees and who it is."""
KEY: Final = b"x-sandcove-key"
"""The header with such a proxy's key. It is not ``Authorization``, which is the visitor's own; and nothing else takes
it, so that a visitor whose path some gateway on the way rewrites comes to other routes without a key."""

LONGEST_LABEL: Final = 63
"""Of a host name, RFC 1035."""

_HOSTNAME = re.compile(
    r"(?:(https?)://)?((?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)"
    r"(?::([1-9][0-9]{0,4}))?/?",
    re.ASCII | re.IGNORECASE,
)
_LABEL = re.compile(r"([1-9][0-9]{0,4})-([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)", re.ASCII)
_USUAL = {"http": 80, "https": 443}


class Label(NamedTuple):
    """A label taken apart as far as it can be without knowing which sandboxes there are.

    Attributes:
        port: 1 to 65535.
        rest: a sandbox's uid, or a uid, a hyphen and a token.
    """

    port: int
    rest: str

    @classmethod
    def parse(cls, text: str) -> Label | None:
        match = _LABEL.fullmatch(text)
        if match is None or int(match[1]) > 65535:
            return None
        return cls(int(match[1]), match[2])

    def with_token(self) -> tuple[str, str] | None:
        """Uid and token, if it can have both."""
        uid, hyphen, token = self.rest.rpartition("-")
        return (uid, token) if hyphen and PORT_TOKEN.fullmatch(token) else None

    def __str__(self) -> str:
        return f"{self.port}-{self.rest}"


class Base(NamedTuple):
    """What the previews' URLs have in common: ``{scheme}://{label}.{domain}:{port}/``."""

    scheme: str
    domain: str
    port: int

    @classmethod
    def of(cls, url: str) -> Base:
        """Of a URL without a path."""
        parts = urlsplit(url)
        return cls(parts.scheme, parts.hostname or "", parts.port or _USUAL[parts.scheme])

    def url(self, label: str) -> str:
        usual = _USUAL[self.scheme] == self.port
        return f"{self.scheme}://{label}.{self.domain}{'' if usual else f':{self.port}'}/"


def read_hostname(text: str) -> Base:
    """Of a host whose names below (``*.``) are previews': ``example.com``, with a port where it is not the usual one.

    It is https, but http for ``localhost`` and what is below that; ``http://`` before it says otherwise.

    Raises:
        InvalidRequestError: it is none, or an address, which has no names below it.
    """
    match = _HOSTNAME.fullmatch(text)
    domain = match[2].lower() if match else ""
    port = int(match[3] or 0) if match else 0
    if not domain or port > 65535 or len(domain) > 253 - LONGEST_LABEL - 1 or domain.rpartition(".")[2].isdigit():
        raise InvalidRequestError(
            f"hostname {text[:200]!r} is no host name such as 'previews.example.com' or 'localhost:8000'"
        )
    scheme = (match[1] or "").lower() if match else ""
    if not scheme:
        scheme = "http" if domain == "localhost" or domain.endswith(".localhost") else "https"
    return Base(scheme, domain, port or _USUAL[scheme])


def in_host(host: str, domain: str) -> Label | None:
    """The label of a Host header's value, if that is a preview's: one label below `domain`, with or without a port."""
    name = host.rpartition(":")[0] if re.search(r":[0-9]*\Z", host) else host
    first, dot, rest = name.lower().removesuffix(".").partition(".")
    return Label.parse(first) if dot and rest == domain else None
