"""Where a preview is: the label ``{port}-{sandbox}-{token}`` as a host's first part or in a path. No I/O."""

from __future__ import annotations

import re
import secrets
from typing import NamedTuple
from urllib.parse import urlsplit

from sandcove.errors import InvalidRequestError
from sandcove.wire.names import PORT_TOKEN

__all__ = ["Base", "Label", "Place", "in_host", "in_path", "make_label", "new_token"]

LONGEST_LABEL = 63
"""Of a host name, RFC 1035."""

_LABEL = re.compile(r"([1-9][0-9]{0,4})-([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)", re.ASCII)
_PREVIEW = re.compile(r"(/preview/([a-z0-9-]{1,200}))([/?].*)?", re.ASCII)
_PROXY = re.compile(
    r"(/v1/(?:sandboxes/([a-z0-9-]{1,63})|with/[A-Za-z0-9._-]{1,1100})/proxy/([0-9]{1,5}))([/?].*)?", re.ASCII
)
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


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


class Place(NamedTuple):
    """What a request's path says of where it goes.

    Attributes:
        prefix: what stands before the service's own path; without a slash at its end.
        path: the service's own path and query; empty when there is not even a slash.
        label: of a preview.
        proxy: sandbox id and port of a call with a key; the id is None where a token in the path says it.
    """

    prefix: str
    path: str
    label: Label | None = None
    proxy: tuple[str | None, int] | None = None


_USUAL = {"http": 80, "https": 443}


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


def in_host(host: str, domain: str) -> Label | None:
    """The label of a Host header's value, if that is a preview's: one label below `domain`, with or without a port."""
    name = host.rpartition(":")[0] if re.search(r":[0-9]*\Z", host) else host
    first, dot, rest = name.lower().removesuffix(".").partition(".")
    return Label.parse(first) if dot and rest == domain else None


def in_path(target: str) -> Place | None:
    """What a target in origin form says, if it is a preview's or a proxy's."""
    if match := _PREVIEW.fullmatch(target):
        label = Label.parse(match[2])
        return Place(match[1], match[3] or "", label=label) if label is not None else None
    if match := _PROXY.fullmatch(target):
        return Place(match[1], match[4] or "", proxy=(match[2], int(match[3])))
    return None


def new_token() -> str:
    """128 random bits as 26 letters and digits."""
    bits = secrets.randbits(130)
    return "".join(_ALPHABET[bits >> 5 * i & 31] for i in range(26))


def make_label(port: int, uid: str, token: str | None) -> str:
    """The label of a preview.

    Raises:
        InvalidRequestError: it is longer than a part of a host's name may be.
    """
    label = f"{port}-{uid}" + (f"-{token}" if token else "")
    if len(label) > LONGEST_LABEL:
        most = LONGEST_LABEL - (len(label) - len(uid))
        raise InvalidRequestError(
            f"the host name of the preview would have a part of {len(label)} characters, over {LONGEST_LABEL}; "
            f"to expose port {port} a sandbox's id may have {max(most, 0)} characters, not {len(uid)}"
        )
    return label
