"""An authority that programs of the room trust, beside those of the machine."""

from __future__ import annotations

import re

from sandcove.agent.files import NewFile, exists, open_file
from sandcove.agent.memory import Memory
from sandcove.agent.way_out import BUNDLES, bundle, trusting
from sandcove.errors import FileSystemError, InvalidRequestError

__all__ = ["trust"]

MOST = 16 * 1024 * 1024
"""Bytes of the certificates that are read."""
AGAIN = "/usr/local/share/ca-certificates/sandcove.crt"
"""From here Debian's `update-ca-certificates` takes it, when it makes the bundle anew."""

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]{1,8192}\n-----END CERTIFICATE-----\n")


def trust(certificate: str, memory: Memory) -> dict[str, str]:
    """Puts it into the room's bundle of certificates; gives variables that programs need, if it had none.

    Raises:
        InvalidRequestError: it is no certificate as PEM.
        FileSystemError: the bundle can't be written.
    """
    if not _PEM.fullmatch(certificate):
        raise InvalidRequestError("certificate is one certificate as PEM")
    there = bundle()
    path = there or BUNDLES[0]
    if exists(path):
        file, size = open_file(path)
        with open(file, "rb") as opened:
            if size > MOST:
                raise FileSystemError(f"{path} has {size:,} bytes, too many for certificates")
            held = opened.read(MOST)
    else:
        held = b""
    wanted = certificate.encode()
    if wanted not in held:
        if held and not held.endswith(b"\n"):
            held += b"\n"
        _write(path, held + wanted, memory)
        _write(AGAIN, wanted, memory)
    return {} if there else trusting(path)


def _write(path: str, content: bytes, memory: Memory) -> None:
    file = NewFile(path, None, memory)
    try:
        file.write(content)
        file.commit()
    finally:
        file.discard()
