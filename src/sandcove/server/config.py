"""Every setting of the server, in one table: a flag, an environment variable, a default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from sandcove.errors import InvalidRequestError

__all__ = ["SETTINGS", "Setting", "Settings", "load"]


@dataclass(frozen=True)
class Setting:
    """One setting: seconds, by environment variable ``SANDCOVE_<NAME>`` or flag ``--<name>``."""

    name: str
    default: float
    help: str

    @property
    def variable(self) -> str:
        return f"SANDCOVE_{self.name.upper()}"

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


SETTINGS = (
    Setting("sleep_after", 1200.0, "seconds of idleness after which a sandbox sleeps, if it has no value of its own"),
    Setting(
        "idle_stop",
        300.0,
        "seconds without live sandboxes and clients after which a server that started by itself stops; 0: never",
    ),
)


@dataclass(frozen=True)
class Settings:
    """The values in force, in seconds."""

    sleep_after: float = SETTINGS[0].default
    idle_stop: float = SETTINGS[1].default


def load(flags: Mapping[str, float | None], environ: Mapping[str, str] = os.environ) -> Settings:
    """A flag beats an environment variable beats the default.

    Raises:
        InvalidRequestError: a value is no number of seconds.
    """
    values = {}
    for setting in SETTINGS:
        flag = flags.get(setting.name)
        text = environ.get(setting.variable)
        value = setting.default
        if flag is not None:
            value = flag
        elif text is not None:
            try:
                value = float(text)
            except ValueError:
                raise InvalidRequestError(f"{setting.variable}={text!r} is no number of seconds") from None
        if not 0 <= value < 1e9:
            raise InvalidRequestError(f"{setting.name} is {value:g}; give seconds, 0 or more")
        values[setting.name] = value
    return Settings(**values)
