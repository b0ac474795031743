"""SOCKS5 as RFC 1928 has it: a connection to a host, without a name and password. No I/O."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from sandcove.wire.egress import canonical_host

__all__ = ["DONE", "FAILED", "NOT_ALLOWED", "SocksRefused", "greeting", "reply", "wanted"]

DONE, FAILED, NOT_ALLOWED = 0, 4, 2
_NO_COMMAND, _NO_ADDRESS = 7, 8


class SocksRefused(Exception):  # noqa: N818 - it says what becomes of a connection; no user sees it
    """What is asked is not done; `answer` is what the program gets."""

    def __init__(self, answer: bytes, reason: str) -> None:
        super().__init__(reason)
        self.answer = answer


def greeting(data: bytes | bytearray) -> int:
    """How many bytes the greeting takes; 0 while it is not whole.

    Raises:
        SocksRefused: it is wrong, or offers no way without a password.
    """
    if data[0] != 5:
        raise SocksRefused(b"", "it is no SOCKS5")
    if len(data) < 2 or len(data) < 2 + data[1]:
        return 0
    if 0 not in data[2 : 2 + data[1]]:
        raise SocksRefused(b"\x05\xff", "there are no passwords here")
    return 2 + data[1]


def wanted(data: bytes | bytearray) -> tuple[int, str, int] | None:
    """Bytes that the request takes, host and port; None while it is not whole.

    Raises:
        SocksRefused: it is wrong, or asks for what there is not.
    """
    if len(data) < 5:
        return None
    version, command, zero, kind, first = data[:5]
    if version != 5 or zero != 0:
        raise SocksRefused(reply(1), "it is no SOCKS5 request")
    if command != 1:
        raise SocksRefused(reply(_NO_COMMAND), "only CONNECT is done here: there is no UDP and no BIND")
    if kind not in (1, 3, 4):
        raise SocksRefused(reply(_NO_ADDRESS), "it has no known kind of address")
    start, length = (5, first) if kind == 3 else (4, 4 if kind == 1 else 16)
    end = start + length
    if len(data) < end + 2:
        return None
    text, port = bytes(data[start:end]), int.from_bytes(data[end : end + 2], "big")
    if port == 0:
        raise SocksRefused(reply(NOT_ALLOWED), "port 0 is none")
    if kind == 1:
        return end + 2, str(IPv4Address(text)), port
    if kind == 4:
        return end + 2, str(IPv6Address(text)), port
    try:
        # The length says where a name ends; what reads it up to a NUL must not see another one.
        return end + 2, canonical_host(text.decode("ascii")), port
    except ValueError as error:
        reason = "it is no ASCII" if isinstance(error, UnicodeDecodeError) else str(error)
        raise SocksRefused(reply(NOT_ALLOWED), f"the host is refused: {reason}") from None


def reply(code: int) -> bytes:
    """The answer to a request. The address in it is none: programs don't use it."""
    return b"\x05%c\x00\x01\x00\x00\x00\x00\x00\x00" % code
