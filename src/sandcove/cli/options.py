"""What the words of a command line may be; argparse shows the errors, and exits with 2."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from typing import NamedTuple

from sandcove.errors import InvalidRequestError
from sandcove.wire.limits import read_limits

__all__ = [
    "Place",
    "command_of",
    "count",
    "duration",
    "hosts",
    "limit",
    "pair",
    "place",
    "resource",
    "seconds",
    "secret",
    "upload",
]


class Place(NamedTuple):
    """One side of a copy: a path in a sandbox, or on this machine when `sandbox` is None."""

    sandbox: str | None
    path: str


def pair(text: str) -> tuple[str, str]:
    """``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def seconds(text: str) -> float:
    """A number of seconds, with or without an ``s``, ``m`` or ``h`` after it."""
    factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    try:
        value = float(text[:-1] if factor else text) * (factor or 1)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ArgumentTypeError(f"{text!r} is no time; give seconds, or a number with s, m or h")
    return value


def duration(text: str) -> float:
    """As `seconds`, of days (``d``) too, and over 0."""
    value = seconds(text[:-1]) * 86400 if text.endswith("d") else seconds(text)
    if value < 0.001:
        raise ArgumentTypeError(f"{text!r} is no time; give seconds, or a number with s, m, h or d, over 0")
    return value


def resource(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` of a sandbox's limits."""
    name, value = pair(text)
    try:
        read_limits({name: value})
    except InvalidRequestError as error:
        raise ArgumentTypeError(error.message) from None
    return name, value


def hosts(text: str) -> list[str]:
    """``HOST[,HOST...]``, or a word that stands for hosts."""
    return text.split(",")


def secret(text: str) -> tuple[str, list[str]]:
    """``NAME=HOST[,HOST...]``; the value is in the caller's own variable of this name."""
    name, hosts = pair(text)
    return name, hosts.split(",")


def limit(text: str) -> tuple[str, int | float]:
    """``WHAT=NUMBER`` of a key; only ``rate`` need not be a whole number, and what a sandbox has is as `resource`."""
    name, number = pair(text)
    if name in ("memory", "cpus", "processes", "disk"):
        return name, read_limits(dict([resource(text)])).given()[name]
    if name not in ("sandboxes", "alive", "execs", "rate", "burst"):
        raise ArgumentTypeError(
            f"{name!r} can't be limited; sandboxes, alive, execs, rate, burst, memory, cpus, processes and disk can"
        )
    try:
        value = float(number) if name == "rate" else int(number)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ArgumentTypeError(f"{number!r} is no number that {name} can be limited to")
    return name, value


def count(text: str) -> int:
    """A number of lines."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ArgumentTypeError(f"{text!r} is no number of lines")
    return int(text)


def place(text: str) -> Place:
    """``SANDBOX:PATH``, or a path of this machine: one with a colon in it is written with ``./`` or ``/`` first."""
    sandbox, colon, path = text.partition(":")
    if not text:
        raise ArgumentTypeError("the path is empty")
    if not colon or "/" in sandbox or sandbox in ("", ".", ".."):
        return Place(None, text)
    return Place(sandbox, path or ".")


def upload(text: str) -> tuple[str, str]:
    """``LOCAL:REMOTE``; the last colon counts."""
    local, colon, remote = text.rpartition(":")
    if not colon or not local or not remote:
        raise ArgumentTypeError(f"{text!r} is not of the form LOCAL:REMOTE")
    return local, remote


def command_of(words: list[str]) -> str | list[str]:
    """One word is a command for the shell; several are a program and its arguments, which no shell sees."""
    words = words[1:] if words[:1] == ["--"] else words
    return words[0] if len(words) == 1 else words
