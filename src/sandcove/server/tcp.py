"""Listening sockets on TCP, and the server's side of TLS."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from sandcove.errors import InvalidRequestError
from sandcove.linux import BACKLOG

if TYPE_CHECKING:
    from ssl import SSLContext, SSLObject

__all__ = ["listen", "read_again", "tls_context", "url"]

# A peer that has vanished is noticed within a minute, whether something was to be sent to it or not.
_VANISHED = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
)


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on every address of `host`, all on the same port; with port 0 on one that is free.

    ``::`` is all addresses of both kinds. What is accepted has the options of its listening socket.

    Raises:
        InvalidRequestError: there is no such host, or it can't be listened on.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InvalidRequestError(f"host {host!r} is no address of this machine: {error}") from None
    listening: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            listening.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
            for level, option, value in _VANISHED:
                sock.setsockopt(level, option, value)
            sock.bind((address[0], port, *address[2:]))
            port = sock.getsockname()[1]
            sock.listen(BACKLOG)
    except OSError as error:
        for sock in listening:
            sock.close()
        raise InvalidRequestError(f"can't listen on host {host!r}, port {port}: {error.strerror}") from None
    return listening


def url(sock: socket.socket, *, tls: bool) -> str:
    """The URL of a listening socket."""
    host, port = sock.getsockname()[:2]
    return f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"


def tls_context(cert: Path, key: Path | None) -> SSLContext:
    """TLS 1.2 or newer with this certificate, the chain in PEM; without `key` its key is in the same file.

    Raises:
        InvalidRequestError: a file is missing, can't be read, is no such file, or the key is another certificate's.
    """
    import ssl

    for name, path in (("tls_cert", cert), ("tls_key", key)):
        if path is not None:
            try:
                path.open("rb").close()
            except OSError as error:
                raise InvalidRequestError(f"{name} {path} can't be read: {error.strerror}") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])

    def no_password() -> str:
        raise InvalidRequestError(f"tls_key {key or cert} is encrypted; give a key without a password")

    try:
        context.load_cert_chain(cert, key, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            message = f"tls_key {key or cert} is not the key of the certificate tls_cert {cert}"
        else:
            message = f"tls_cert {cert} with tls_key {key or cert} can't be used: no certificate and key in PEM"
        raise InvalidRequestError(f"{message} ({error.reason or error})") from None
    return context


def read_again(context: SSLContext, cert: Path, key: Path | None) -> None:
    """Has new connections to a listener with this context get what is in these files now.

    A context that were to load another certificate would keep the one before too, if that one's key is of another kind,
    and give it to who prefers that. So the new one has a context of its own.

    Raises:
        InvalidRequestError: as `tls_context`; what was read before stays in force.
    """
    fresh = tls_context(cert, key)

    def change(connection: SSLObject, _name: str | None, _context: SSLContext) -> None:
        connection.context = fresh

    context.sni_callback = change  # called whether the peer names a server or not
