"""Where a server or an agent listens, and the header lines that every request to it has."""

from __future__ import annotations

import os
import re
import struct
import time
from typing import TYPE_CHECKING

from sandcove._version import __version__
from sandcove.errors import InvalidRequestError
from sandcove.home import Home
from sandcove.wire.http import request_head

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = [
    "ANSWER",
    "LONG",
    "SILENCE",
    "START",
    "TLS_PART",
    "WAKE",
    "Broken",
    "Due",
    "Endpoint",
    "Silent",
    "Unreachable",
    "answer_within",
    "timeval",
]

_URL = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9_.-]+))(?::(?P<port>[0-9]{1,5}))?/?",
    re.ASCII,
)


SILENCE = 60.0
"""Seconds in which an agent says at least something, once it has begun to answer, and takes at least something of what
it is sent. Streams send heartbeats every 15 s."""
ANSWER = 60.0
"""Seconds in which an answer begins to what is short by nature."""
START = 150.0
"""Seconds in which one begins to what may start a code context's process, for which the agent waits for 60 s."""
LONG = 900.0
"""Seconds in which one begins to what may be long: a folder of a million files is listed, moved, deleted or packed; a
command waits for others of its session, a copy of a context for the cell that runs."""
WAKE = 60.0
"""Seconds more for all of that where the server relays the call: it may have to wake the sandbox first."""
TLS_PART = 64 * 1024
"""Bytes that TLS is given at once: it tells of no progress before it has sent them all."""
_GRACE = 20.0
"""Seconds in which one comes after the timeout that the agent was given: it ends what runs, and gathers its output."""


def answer_within(timeout: int | None, *, turn: bool = False) -> float | None:
    """Seconds in which there is an answer to a call with this timeout in milliseconds; None: any number.

    Args:
        turn: the timeout begins when it is the call's turn, for which it may wait long.
    """
    return None if timeout is None else timeout / 1000 + (LONG if turn else _GRACE)


class Unreachable(Exception):  # noqa: N818 - it says what the other end is; no user sees it
    """The connection could not be made, or was gone before a byte of the request was sent: trying again is safe."""


class Broken(Exception):  # noqa: N818 - as above
    """The connection ended after some of the request was sent and before the answer was whole."""


class Silent(Broken):
    """The other end has said nothing, or taken nothing, for longer than it may: the connection was given up."""


class Due:
    """When a stream that the agent ends after a timeout must have said something but heartbeats: `answer_within`."""

    def __init__(self, timeout: int | None, *, turn: bool = False) -> None:
        self._within = answer_within(timeout, turn=turn)
        self.heard()

    def heard(self) -> None:
        """It has, and its reader is there for more."""
        self._at = time.monotonic()

    def check(self) -> None:
        """Raises `Silent`: it has not in time."""
        if self._within is not None and time.monotonic() - self._at > self._within:
            raise Silent("nothing but heartbeats has come")


def timeval(seconds: float | None) -> bytes:
    """As the kernel takes the time limit of a socket; None: there is none."""
    return struct.pack("@ll", *divmod(round((seconds or 0) * 1e6), 1_000_000))


class Endpoint:
    """A Unix socket or a TCP address.

    Attributes:
        unix: the socket's path, or None.
        host, port: the address when `unix` is None.
        tls: it speaks TLS.
        token: what it is sent is no key but a token of one sandbox.
        api_key: that it is sent, or None.
        name: the Host of requests to it.
        fixed: the header lines of every request, each with its line end.
        key: endpoints with the same key can use each other's connections.
        home: where the local server that listens here keeps things; None for any other endpoint.
    """

    __slots__ = (
        "_ca_file",
        "_context",
        "api_key",
        "fixed",
        "home",
        "host",
        "key",
        "name",
        "port",
        "tls",
        "token",
        "unix",
    )

    def __init__(
        self,
        *,
        unix: str | None = None,
        host: str = "",
        port: int = 0,
        tls: bool = False,
        api_key: str | None = None,
        home: Home | None = None,
    ) -> None:
        self.unix = unix
        self.home = home
        self.host = host
        self.port = port
        self.tls = tls
        self.api_key = api_key
        self.token = api_key is not None and api_key.startswith("scs_")
        self._ca_file = (os.environ.get("SANDCOVE_CA_FILE") or None) if tls else None
        self._context: SSLContext | None = None
        self.name = "sandcove" if unix else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        headers = [("Host", self.name), ("User-Agent", f"sandcove/{__version__}")]
        if api_key is not None:
            headers.append(("Authorization", f"Bearer {api_key}"))
        head = request_head("GET", "/", headers)
        self.fixed = head[head.index(b"\r\n") + 2 : -2].decode("latin-1")
        self.key: object = unix or (host, port, tls, self._ca_file, self.fixed)

    @classmethod
    def server(cls, url: str | None, api_key: str | None) -> Endpoint:
        """Of the server at `url`, else at ``$SANDCOVE_URL``, else of the local server of this user.

        Raises:
            InvalidRequestError: the URL is none.
        """
        if url := url or os.environ.get("SANDCOVE_URL"):
            return cls.parse(url, api_key or os.environ.get("SANDCOVE_API_KEY") or None)
        home = Home.default()
        return cls(unix=str(home.server_socket), home=home)

    @classmethod
    def parse(cls, url: str, api_key: str | None) -> Endpoint:
        """The endpoint of ``http://host:port`` or ``https://host:port``.

        Raises:
            InvalidRequestError: it is no such URL.
        """
        match = _URL.fullmatch(url)
        tls = match is not None and match["scheme"] == "https"
        port = int(match["port"] or (443 if tls else 80)) if match else 0
        if match is None or not 0 < port < 65536:
            # It may have a password in it, where others expect one.
            shown = url if "@" not in url else "(one with an @ in it, which is not repeated here)"
            raise InvalidRequestError(
                f"server URL {shown!r} is not of the form http://host:port or https://host:port; see SANDCOVE_URL"
            )
        return cls(host=match["v6"] or match["host"], port=port, tls=tls, api_key=api_key)

    def context(self) -> SSLContext:
        """What its certificate is checked by: ``$SANDCOVE_CA_FILE``, else the system's authorities.

        Raises:
            InvalidRequestError: that file can't be read.
        """
        if self._context is None:
            import ssl

            try:
                self._context = ssl.create_default_context(cafile=self._ca_file)
            except OSError as error:
                raise InvalidRequestError(
                    f"SANDCOVE_CA_FILE={self._ca_file!r} has no certificates to read: {error.strerror or error}"
                ) from None
        return self._context

    def __str__(self) -> str:
        return self.unix or f"{self.host}:{self.port}"
