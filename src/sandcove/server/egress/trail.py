"""What sandboxes asked for, and the verdicts: the newest of each in memory, all in a file of JSON lines."""

from __future__ import annotations

import time
from collections import Counter, deque

from sandcove.server.audit import Audit
from sandcove.wire.egress_log import EgressEntry

__all__ = ["Trail"]

KEPT = 500
"""Entries of a sandbox that are kept in memory."""
LINES = 200.0
"""Lines of a sandbox that go into the file at once; what is beyond is counted, and told with the next."""
RATE = 20.0
"""Lines a second that it may write on and on: one sandbox must not push the others' out."""


class Trail:
    """That of one sandbox.

    Args:
        file: where lines go.
        who: what each line says of the sandbox.
        counts: of all sandboxes: verdicts, and bytes as ``sent`` and ``received``.

    Attributes:
        sent, received: bytes of this one.
    """

    def __init__(self, file: Audit | None, who: dict[str, str], counts: Counter[str]) -> None:
        self.entries: deque[EgressEntry] = deque(maxlen=KEPT)
        self.counts = counts
        self.sent = self.received = 0
        self._file = file
        self._who = who
        self._lines = LINES
        self._at = time.monotonic()
        self._unwritten = 0

    def count(self, *, sent: int = 0, received: int = 0) -> None:
        """Bytes have gone through."""
        self.sent += sent
        self.received += received
        self.counts["sent"] += sent
        self.counts["received"] += received

    def begin(self, entry: EgressEntry) -> None:
        """A verdict is there."""
        self.entries.append(entry)
        self.counts[entry.verdict] += 1
        self._write(entry)

    def end(self, entry: EgressEntry) -> None:
        """A connection that was allowed is over; it may have been cut by another verdict since."""
        entry.ended = True
        if entry.verdict != "allowed":
            self.counts[entry.verdict] += 1
        self._write(entry)

    def _write(self, entry: EgressEntry) -> None:
        if self._file is None:
            return
        now = time.monotonic()
        self._lines = min(LINES, self._lines + (now - self._at) * RATE)
        self._at = now
        if self._lines < 1:
            self._unwritten += 1
            return
        self._lines -= 1
        content: dict[str, object] = {**self._who, **_fields(entry)}
        if self._unwritten:
            content["unwritten"], self._unwritten = self._unwritten, 0
        self._file.write(content)


def _fields(entry: EgressEntry) -> dict[str, object]:
    fields: dict[str, object] = {
        "time": entry.time,
        "host": entry.host,
        "port": entry.port,
        "via": entry.via,
        "verdict": entry.verdict,
    }
    if entry.reason:
        fields["reason"] = entry.reason
    if entry.address:
        fields["address"] = entry.address
    if entry.secrets:
        fields["secrets"] = entry.secrets
    if entry.ended:
        fields |= {"sent": entry.sent, "received": entry.received, "ended": True}
    return fields
