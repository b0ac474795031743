"""Which limits a sandbox has: what its creator asked for, else the server's defaults; never above the ceilings."""

from __future__ import annotations

from dataclasses import dataclass

from sandcove.errors import InvalidRequestError, QuotaExceededError
from sandcove.wire.keys import Limits
from sandcove.wire.limits import NO_LIMITS, ResourceLimits, check_limits, combined, read_limits

__all__ = ["DEFAULTS", "Bounds", "parse"]

DEFAULTS = "memory=50%,cpus=0,processes=1024,open_files=65536,disk=16g,inodes=1000000,logs=1g"
"""What keeps one sandbox from taking a machine, and is in nobody's way."""


def parse(text: str) -> ResourceLimits:
    """``NAME=VALUE,...``; ``memory`` also as a share of the machine's, such as ``50%``.

    Raises:
        ValueError: that is none; says what it should be.
    """
    pairs: dict[str, object] = {}
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not name and not equals:
            continue
        percent = value.removesuffix("%")
        if name == "memory" and percent != value and percent.isascii() and percent.isdigit() and 0 < int(percent) < 101:
            # Settings are read before the first zygote is spawned, which shall not wait for this import.
            from sandcove.runtimes.local.cgroups import memory_here

            pairs[name] = memory_here() * int(percent) // 100
        else:
            pairs[name] = value
    try:
        return read_limits(pairs)
    except InvalidRequestError as error:
        raise ValueError(f"limits such as {DEFAULTS} ({error.message})") from None


@dataclass(frozen=True)
class Bounds:
    """The server's defaults and ceilings. 0 in a ceiling is none."""

    defaults: ResourceLimits = NO_LIMITS
    most: ResourceLimits = NO_LIMITS

    @classmethod
    def of(cls, defaults: str, most: str) -> Bounds:
        """From the settings `limits` and `max_limits`."""
        return cls(combined(parse(defaults), parse(DEFAULTS)), parse(most))

    def admit(self, wanted: ResourceLimits | None, key: Limits) -> ResourceLimits:
        """What to write down for a sandbox whose creator asks for `wanted`, and has a key of these limits.

        Raises:
            InvalidRequestError: it is above a ceiling of the server's, or no limit.
            QuotaExceededError: it is above one of the key's.
        """
        wanted = wanted or NO_LIMITS
        check_limits(wanted)
        admitted = wanted.given()
        for name, value in wanted.given().items():
            most = getattr(self.most, name) or 0
            if most and not 0 < value <= most:
                raise InvalidRequestError(f"limit {name}={value:g} is above {most:g}, the most that this server gives")
        for name in ("memory", "cpus", "processes", "disk"):
            most = getattr(key, name)
            if most is None:
                continue
            value = admitted.setdefault(name, min(getattr(self.defaults, name) or most, most))
            if not 0 < value <= most:
                raise QuotaExceededError(f"limit {name}={value:g} is above {most:g}, the most that the key allows")
        return ResourceLimits(**admitted)  # type: ignore[arg-type]

    def changed(self, recorded: ResourceLimits, wanted: ResourceLimits, key: Limits) -> ResourceLimits:
        """What to write down where `recorded` was; raises as `admit` does."""
        # What the key leaves open is not made explicit here: the sandbox may be another key's.
        admitted = self.admit(wanted, key).given()
        asked = ResourceLimits(**{name: admitted[name] for name in wanted.given()})  # type: ignore[arg-type]
        return combined(asked, recorded)

    def of_sandbox(self, recorded: ResourceLimits) -> ResourceLimits:
        """What is in force for a sandbox: the ceilings bind also what was admitted before they were set."""
        values = combined(recorded, self.defaults).given()
        for name, most in self.most.given().items():
            value = values.get(name, 0)
            if most and not 0 < value <= most:
                values[name] = most
        return ResourceLimits(**values)  # type: ignore[arg-type]
