"""How much of the machine a sandbox may use, and what it uses."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from sandcove.errors import InvalidRequestError

__all__ = [
    "NO_LIMITS",
    "ResourceLimits",
    "ResourceUsage",
    "check_limits",
    "combined",
    "read_limits",
    "read_size",
    "shown_limits",
]

KIB, MIB = 1024, 1024 * 1024
LEAST: Mapping[str, float] = {
    "memory": 32 * MIB,
    "cpus": 0.05,
    "processes": 16,
    "open_files": 300,
    "disk": 16 * MIB,
    "inodes": 1000,
    "logs": MIB,
}
"""Below this a sandbox could not even run its shell, which has descriptors up to 255."""
MOST = 2**52
_SIZES = ("memory", "disk", "logs", "size")
_UNITS = {"": 1, "k": KIB, "m": MIB, "g": KIB * MIB, "t": MIB * MIB}
_NUMBER = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,9})?)([kmgt]?)(?:i?b)?", re.ASCII | re.IGNORECASE)


class ResourceLimits(
    msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """What a sandbox may use at most. 0: as much as it wants. Left out: the server's default, or no change.

    Attributes:
        memory: bytes of all its processes together, with what they keep in `/dev/shm` and `/run`.
        cpus: processors' worth of time, such as 0.5; each second of it may be spent on any of them.
        processes: processes and threads at once.
        open_files: descriptors of each process.
        disk: bytes of its files.
        inodes: how many files, folders and links it may have.
        logs: bytes of all that its background processes' logs keep together.
    """

    memory: int | None = None
    cpus: float | None = None
    processes: int | None = None
    open_files: int | None = None
    disk: int | None = None
    inodes: int | None = None
    logs: int | None = None

    def given(self) -> dict[str, float]:
        """Those that are not left out."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}


NO_LIMITS = ResourceLimits()


class ResourceUsage(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """``GET /v1/sandboxes/{id}/usage``: what a sandbox uses now; None where nothing on the machine counts it.

    Attributes:
        memory, memory_peak: bytes, now and at most since it last woke.
        cpu_seconds: of all its programs since it last woke.
        processes: processes and threads.
        out_of_memory: how many of its processes the kernel has killed for want of memory since it last woke.
        disk, inodes: bytes and files at the last measurement.
    """

    memory: int | None = None
    memory_peak: int | None = None
    cpu_seconds: float | None = None
    processes: int | None = None
    out_of_memory: int | None = None
    disk: int | None = None
    inodes: int | None = None


def check_limits(limits: ResourceLimits) -> None:
    """Raises `InvalidRequestError` for a value that is too small to live with, or no number."""
    for name, value in limits.given().items():
        if not (value == 0 or LEAST[name] <= value <= MOST):
            raise InvalidRequestError(f"limit {name}={value:g} is not 0 (no limit) or from {LEAST[name]:g} to {MOST}")


def read_limits(pairs: Mapping[str, object]) -> ResourceLimits:
    """Limits by name: numbers, or texts such as ``2g`` (1024 bytes are a ``k``).

    Raises:
        InvalidRequestError: there is no such limit, or the value is none.
    """
    read: dict[str, float] = {}
    for name, value in pairs.items():
        if name not in LEAST:
            raise InvalidRequestError(f"there is no limit {str(name)[:40]!r}; there are {', '.join(LEAST)}")
        read[name] = _number(name, value)
    limits = ResourceLimits(**read)  # type: ignore[arg-type]
    check_limits(limits)
    return limits


def read_size(value: object) -> int:
    """Bytes: a number, or a text such as ``2g``; raises `InvalidRequestError`."""
    return int(_number("size", value))


def _number(name: str, value: object) -> float:
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value.strip())
        if match and (name in _SIZES or not match[2]):
            number = float(match[1]) * _UNITS[match[2].lower()]
            return number if name == "cpus" else round(number)
    elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST:
        if name == "cpus":
            return value
        if int(value) == value:
            return int(value)
    wanted = "a number of bytes, such as 512m or 2g" if name in _SIZES else "a number"
    raise InvalidRequestError(f"limit {name}={str(value)[:40]!r} is not understood; give {wanted}")


def shown_limits(limits: ResourceLimits) -> str:
    """As `read_limits` reads each: ``memory=2g,cpus=1.5``."""
    return ",".join(f"{name}={_shown(name, value)}" for name, value in limits.given().items())


def _shown(name: str, value: float) -> str:
    if name in _SIZES and value:
        for unit in ("t", "g", "m", "k"):
            if value % _UNITS[unit] == 0:
                return f"{int(value) // _UNITS[unit]}{unit}"
    return f"{value:.6f}".rstrip("0").rstrip(".") if name == "cpus" else str(int(value))


def combined(first: ResourceLimits, then: ResourceLimits) -> ResourceLimits:
    """`first`, and where that leaves a limit out, `then`."""
    return ResourceLimits(**{**then.given(), **first.given()})  # type: ignore[arg-type]
