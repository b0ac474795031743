"""`usage`: what a sandbox uses of what it may, and what holds it to that."""

from __future__ import annotations

from argparse import Namespace

from sandcove.cli.draw import size, table
from sandcove.cli.sandboxes import client, known
from sandcove.client.check import check_limits
from sandcove.wire.codec import encode
from sandcove.wire.limits import LEAST, ResourceLimits, ResourceUsage

__all__ = ["usage"]

_BYTES = ("memory", "memory_peak", "disk", "logs")
_UNKNOWN = "-"


def usage(options: Namespace) -> int:
    """`sandcove usage`: wakes nothing, also when it changes limits."""
    info = known(options.name)
    if limits := check_limits(dict(options.set)):
        info = client().set_limits(info.id, limits)
    used = client().usage(info.id)
    if options.json:
        told = {"id": info.id, "state": info.state, "usage": used, "limits": info.limits, "limitedBy": info.limited_by}
        print(encode(told).decode())
        return 0
    table(["what", "used", "limit", "held by"], _rows(used, info.limits, info.limited_by))
    if used.out_of_memory:
        were = "was" if used.out_of_memory == 1 else "were"
        print(f"Since it last woke, {used.out_of_memory} of its programs {were} killed for want of memory.")
    if info.state == "asleep":
        print(f"{info.id} is asleep: what it uses, and what holds each limit, is known while it runs.")
    return 0


def _rows(used: ResourceUsage, limits: ResourceLimits, held_by: dict[str, str]) -> list[list[str]]:
    given = limits.given()
    rows = []
    for name in LEAST:
        limit = "no limit" if given.get(name) == 0 else _shown(name, given.get(name))
        rows.append([name, _used(name, used), limit, held_by.get(name, _UNKNOWN)])
        if name == "memory":
            rows.append(["memory peak", _shown("memory_peak", used.memory_peak), "", ""])
    return rows


def _used(name: str, used: ResourceUsage) -> str:
    if name == "cpus":
        return _UNKNOWN if used.cpu_seconds is None else f"{used.cpu_seconds:,.2f} s"
    return _shown(name, getattr(used, name, None))


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    return size(int(value)) if name in _BYTES else f"{value:,.6g}" if name == "cpus" else f"{value:,.0f}"
