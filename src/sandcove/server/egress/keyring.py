"""A sandbox's secrets, and how the heads of its requests get them. No I/O.

The sandbox has a placeholder for each. Only the head of a request that goes to a secret's own hosts, the way that is
meant (inside TLS, or not), gets the value, at the moment when it is sent: what is removed meanwhile is not added.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple
from urllib.parse import quote

from sandcove.server.egress.asked import Onward
from sandcove.server.preview.head import Headers, Request
from sandcove.server.preview.rewrite import HOP_BY_HOP
from sandcove.wire.egress import Policy
from sandcove.wire.secrets import Header, Secret, hosts_of, read_as, read_header

__all__ = ["Grant", "Injected", "Keyring"]

MIN_HIDDEN = 6
"""Bytes of the shortest value that is looked for in answers: a shorter one is in many a word."""

_BASIC = re.compile(rb"(basic[ \t]+)([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)


class Grant(NamedTuple):
    """One secret; `header`: the only one that it goes into; `tls`: only inside TLS, else only outside."""

    name: str
    value: bytes
    placeholder: bytes
    hosts: Policy
    header: Header | None
    tls: bool
    in_url: bool

    @classmethod
    def of(cls, name: str, secret: Secret, placeholder: str) -> Grant:
        header = None if secret.header is None else read_header(secret.header)
        value, hosts = secret.value.encode(), hosts_of(secret)
        return cls(name, value, placeholder.encode(), hosts, header, secret.intercept_tls, secret.in_url)

    def __repr__(self) -> str:
        return f"<Grant {self.name}>"

    def change(self, name: bytes, value: bytes) -> tuple[bytes, bytes] | None:
        """What in a header's value gives way, and to what, for the secret to be in the placeholder's place."""
        if self.placeholder in value:
            return self.placeholder, self.value
        if name == b"authorization" and (match := _BASIC.fullmatch(value)):
            try:
                plain = base64.b64decode(match[2], validate=True)
            except binascii.Error:
                return None
            if self.placeholder in plain:
                return match[2], base64.b64encode(plain.replace(self.placeholder, self.value))
        return None


class Keyring:
    """All secrets of a sandbox."""

    def __init__(self, grants: Iterable[Grant] = ()) -> None:
        self._grants = tuple(grants)

    def __bool__(self) -> bool:
        return bool(self._grants)

    def of(self, host: str, port: int, *, tls: bool) -> list[Grant]:
        """Those that a request gets; `tls`: it comes out of TLS that the proxy ends."""
        return [grant for grant in self._grants if grant.tls is tls and grant.hosts.allows(host, port)]

    def ends_tls(self, host: str, port: int) -> bool:
        """TLS to this host is ended at the proxy."""
        return any(grant.tls and grant.hosts.allows(host, port) for grant in self._grants)


class Injected(Onward):
    """The heads of a request that gets the secrets of its host.

    Args:
        keyring: gives the sandbox's secrets as they are now.
        tls: the request comes out of TLS that the proxy ends.
        used: called with the names of those that were put in.
    """

    def __init__(
        self, host: str, port: int, *, keyring: Callable[[], Keyring], tls: bool, used: Callable[[list[str]], None]
    ) -> None:
        super().__init__(host, port, usual=443 if tls else 80)
        self._to = (host, port)
        self._keyring = keyring
        self._tls = tls
        self._used = used
        self._hidden: list[tuple[bytes, bytes]] = []
        """What an answer's head must not say, and what it says instead."""

    def request_head(self, request: Request) -> bytes:
        # The answer to TRACE is the request.
        grants = [] if request.method == b"TRACE" else self._keyring().of(*self._to, tls=self._tls)
        target, headers = request.target.encode(), list(request.headers)
        added: Headers = []
        put: dict[str, list[tuple[bytes, bytes]]] = {}
        for grant in grants:
            changes = [(grant.placeholder, grant.value), (grant.placeholder, _quoted(grant.value))]
            used = False
            if grant.header is not None:
                headers = [field for field in headers if read_as(field[0]) != read_as(grant.header.name)]
                added.append((grant.header.name, grant.header.before + grant.value + grant.header.after))
                used = True
            else:
                for at, (name, value) in enumerate(headers):
                    change = None if name in HOP_BY_HOP else grant.change(name, value)
                    if change is not None:
                        headers[at] = name, value.replace(*change)
                        changes.append(change)
                        used = True
                if grant.in_url and grant.placeholder in target:
                    target = target.replace(grant.placeholder, _quoted(grant.value))
                    used = True
            if used:
                put[grant.name] = changes
        self._hidden = [(new, old) for changes in put.values() for old, new in changes if len(new) >= MIN_HIDDEN]
        if put:
            self._used(list(put))
        return self.head(request, target, headers, added)

    def answer_value(self, name: bytes, value: bytes) -> bytes:
        for new, old in self._hidden:
            value = value.replace(new, old)
        return value


def _quoted(value: bytes) -> bytes:
    return quote(value, safe="").encode()
