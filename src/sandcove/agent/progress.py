"""What git says on standard error while it works: progress, and the rest, which is for people.

Part of it is the remote's words, so nothing in it is believed to be well formed or short.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sandcove.wire.git import Phase

__all__ = ["GitWords", "Progress"]

MAX_LINE = 4096
"""Bytes of a line that are looked at."""
KEEP = 16 * 1024
"""Bytes of what is no progress that are kept: the last ones."""

_PHASES: dict[str, Phase] = {
    "Counting objects": "counting",
    "Compressing objects": "compressing",
    "Receiving objects": "receiving",
    "Unpacking objects": "receiving",
    "Resolving deltas": "resolving",
    "Updating files": "updating",
    "Checking out files": "updating",
    "Filtering content": "updating",
}
_PROGRESS = re.compile(
    rf"(?:remote: )?({'|'.join(_PHASES)}): +([0-9]{{1,3}})% \(([0-9]{{1,15}})/([0-9]{{1,15}})\)", re.ASCII
)
_CHATTER = re.compile(r"(?:remote: )?(?:Enumerating|Counting|Compressing|Receiving|Unpacking|Resolving|Updating) \w+:")
_LINE_END = re.compile(rb"[\r\n]")


class Progress(NamedTuple):
    """`done` of `total` objects (files when `phase` is ``updating``)."""

    phase: Phase
    percent: int
    done: int
    total: int


class GitWords:
    """Takes standard error in pieces, cut anywhere. `text` gives what was no progress."""

    def __init__(self) -> None:
        self._line = b""
        self._text = b""
        self._last: Progress | None = None

    def feed(self, piece: bytes) -> list[Progress]:
        """The progress that `piece` tells, if it is new: of each phase in it the last word."""
        *whole, rest = _LINE_END.split(self._line + piece)
        self._line = rest[:MAX_LINE]
        found: dict[Phase, Progress] = {}
        others: list[bytes] = []
        for line in whole:
            words = line[:MAX_LINE].decode("utf-8", "replace").rstrip()
            if match := _PROGRESS.match(words):
                progress = Progress(_PHASES[match[1]], min(100, int(match[2])), int(match[3]), int(match[4]))
                if progress != self._last:
                    found[progress.phase] = self._last = progress
            elif words and not _CHATTER.match(words):
                others.append(words.encode() + b"\n")
        self._text = (self._text + b"".join(others))[-KEEP:]
        return list(found.values())

    def text(self) -> str:
        """What was no progress, at most its last 16 KiB, as lines without white space at their ends."""
        self.feed(b"\n")
        return self._text.decode("utf-8", "replace")
