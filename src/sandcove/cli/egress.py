"""`egress`: what a sandbox may reach, and what it has asked for."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from itertools import chain
from typing import get_args

from sandcove.cli.draw import size, table
from sandcove.cli.sandboxes import client, known
from sandcove.client.check import check_egress
from sandcove.wire.codec import encode
from sandcove.wire.egress_log import EgressEntry, SetEgress, Verdict

__all__ = ["egress"]

_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


def egress(options: Namespace) -> int:
    """`sandcove egress`: wakes nothing, also when it changes what the sandbox may reach."""
    wanted = check_egress(None if options.set is None else list(chain.from_iterable(options.set)))
    info = known(options.name)
    if wanted is not None:
        info = client().set_egress(info.id, SetEgress(egress=wanted))
    log = client().egress_log(info.id).entries
    verdicts = Counter(entry.verdict for entry in log)
    sent, received = sum(entry.sent for entry in log), sum(entry.received for entry in log)
    shown = [entry for entry in log if entry.verdict == "refused"] if options.refused else log
    if options.json:
        counts: dict[str, int] = {verdict: verdicts[verdict] for verdict in _VERDICTS}
        counts |= {"sent": sent, "received": received}
        told = {"id": info.id, "egress": info.egress, "counts": counts, "entries": shown, "count": len(shown)}
        print(encode(told).decode())
        return 0
    if shown:
        columns = ["time", "verdict", "host", "sent", "received", "address, or why not"]
        table(columns, [_row(entry) for entry in shown])
    may = info.egress if isinstance(info.egress, str) else " ".join(info.egress)
    counted = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in _VERDICTS)
    moved = f"{size(sent)} sent, {size(received)} received"
    print(f"{info.id} may reach: {may}. Its last connections: {counted}; {moved}.")
    return 0


def _row(entry: EgressEntry) -> list[str]:
    return [
        entry.time,
        "open" if entry.verdict == "allowed" and not entry.ended else entry.verdict,
        f"{entry.host}:{entry.port}" if entry.port else entry.host,
        size(entry.sent),
        size(entry.received),
        entry.reason or entry.address,
    ]
