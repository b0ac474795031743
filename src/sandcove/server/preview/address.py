"""Where a preview is: the label ``{port}-{sandbox}-{token}`` in a path, and how it is made. No I/O."""

from __future__ import annotations

import re
import secrets
from typing import NamedTuple

from sandcove.errors import InvalidRequestError
from sandcove.wire.preview import LONGEST_LABEL, RELAYED, Label

__all__ = ["Place", "in_path", "make_label", "new_token"]

_PREVIEW = re.compile(r"(/preview/([a-z0-9-]{1,200}))([/?].*)?", re.ASCII)
_PROXY = re.compile(
    r"(/v1/(?:sandboxes/([a-z0-9-]{1,63})|with/[A-Za-z0-9._-]{1,1100})/proxy/([0-9]{1,5}))([/?].*)?", re.ASCII
)
_RELAYED = re.compile(rf"({RELAYED}([a-z0-9-]{{1,200}}))([/?].*)?", re.ASCII)
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


class Place(NamedTuple):
    """What a request's path says of where it goes.

    Attributes:
        prefix: what stands before the service's own path; without a slash at its end.
        path: the service's own path and query; empty when there is not even a slash.
        label: of a preview.
        relayed: it comes from a proxy with a key.
        proxy: sandbox id and port of a call with a key; the id is None where a token in the path says it.
    """

    prefix: str
    path: str
    label: Label | None = None
    relayed: bool = False
    proxy: tuple[str | None, int] | None = None


def in_path(target: str) -> Place | None:
    """What a target in origin form says, if it is a preview's or a proxy's."""
    for pattern in (_PREVIEW, _RELAYED):
        if match := pattern.fullmatch(target):
            label = Label.parse(match[2])
            return Place(match[1], match[3] or "", label=label, relayed=pattern is _RELAYED) if label else None
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
