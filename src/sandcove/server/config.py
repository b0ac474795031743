"""Every setting of the server, in one table: the fields of `Settings`. Each has a flag, a variable, a key in a file."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from sandcove.errors import InvalidRequestError
from sandcove.server.egress.addresses import parse_exempt
from sandcove.server.limits import DEFAULTS, parse
from sandcove.wire.egress import parse_egress
from sandcove.wire.limits import MOST, read_size

__all__ = ["CONFIG", "SETTINGS", "Setting", "Settings", "load"]

_PREVIEW_URL = re.compile(
    r"https?://(?=[^:/]{1,190}(?:[:/]|\Z))[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::[0-9]{1,5})?/?", re.ASCII
)
CONFIG = "SANDCOVE_CONFIG"
"""The variable that names the file, if ``--config`` does not."""


@dataclass(frozen=True)
class Kind:
    """What a setting's value is.

    Attributes:
        metavar: what stands for it in the help of a flag.
        types: what it is in a TOML file.
        read: the value of a text, or of what a file has; raises `ValueError` with what it should be.
        options: all that it can be, if that is a choice.
    """

    metavar: str
    types: tuple[type, ...]
    read: Callable[[Any], Any]
    options: tuple[str, ...] = ()


def _seconds(value: Any) -> float:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = -1
    if not 0 <= number < 1e9:
        raise ValueError("seconds, 0 or more")
    return number


def _integer(least: int, most: int) -> Kind:
    def read(value: Any) -> int:
        try:
            number = int(value)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise ValueError(f"an integer from {least} to {most}")
        return number

    return Kind("N", (int,), read)


def _size(least: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        try:
            number = read_size(value)
        except InvalidRequestError:
            number = -1
        if number and not least <= number <= MOST:
            raise ValueError(f"bytes, such as 512k or 2g, at least {least}, or 0")
        return number

    return read


def _reserve(value: Any) -> int:
    return -1 if value in ("auto", -1) else _size(0)(value)


def _preview_url(value: Any) -> str:
    text = str(value)
    if not _PREVIEW_URL.fullmatch(text):
        raise ValueError("`http://` or `https://`, a domain in lower case, and a port if it is not the usual one")
    return text.removesuffix("/")


def _text(value: Any) -> str:
    if not str(value).isprintable():
        raise ValueError("printable text")
    return str(value)


def _path(value: Any) -> Path | None:
    if "\0" in value:
        raise ValueError("a path")
    return Path(value).absolute() if value else None


def _egress(value: Any) -> str:
    words = str(value).replace(",", " ").split()
    try:
        parse_egress(words)
    except InvalidRequestError as error:
        raise ValueError(f"none, public, or hosts and presets, with commas between them: {error}") from None
    return ", ".join(words) or "none"


def _addresses(value: Any) -> str:
    try:
        parse_exempt(str(value))
    except ValueError as error:
        raise ValueError(f"addresses or networks, with a port or without: 10.1.2.3:443, fd00::/8 ({error})") from None
    return str(value)


def _choice(*options: str) -> Kind:
    def read(value: Any) -> str:
        if value not in options:
            raise ValueError(" or ".join(options))
        return str(value)

    return Kind("|".join(options), (str,), read, options)


def _limits(value: Any) -> str:
    parse(str(value))
    return str(value)


EGRESS = Kind("HOSTS", (str,), _egress)
ADDRESSES = Kind("ADDRESSES", (str,), _addresses)
RATE = Kind("BYTES", (int, str), _size(16 * 1024))
SPACE = Kind("BYTES", (int, str), _reserve)
URL = Kind("URL", (str,), _preview_url)
SECONDS = Kind("SECONDS", (int, float), _seconds)
TEXT = Kind("TEXT", (str,), _text)
LIMITS = Kind("NAME=VALUE,...", (str,), _limits)
PATH = Kind("FILE", (str,), _path)


@dataclass(frozen=True)
class Settings:
    """The values in force. Paths are absolute."""

    sleep_after: Annotated[
        float, SECONDS, "seconds of idleness after which a sandbox sleeps that has no value of its own"
    ] = 1200.0
    most_alive: Annotated[
        int,
        _integer(0, 1_000_000),
        "sandboxes that may be awake at once; for one more the least recently used of them sleeps; 0: any number",
    ] = 0
    longest_life: Annotated[
        float,
        SECONDS,
        "seconds that a sandbox can have to live at most, and has if nothing is said; 0: it may live for good",
    ] = 0.0
    idle_stop: Annotated[
        float,
        SECONDS,
        "seconds without live sandboxes and clients after which a server that started by itself stops; 0: never",
    ] = 300.0
    host: Annotated[
        str,
        TEXT,
        "the address or name to listen on over TCP, besides the Unix socket; `::` is all of IPv6 and IPv4",
    ] = ""
    port: Annotated[int, _integer(0, 65535), "the port of `host`; 0: one that is free"] = 7420
    max_connections: Annotated[
        int,
        _integer(1, 1_000_000),
        "connections over TCP at once, at most a quarter of the files that the process may have open",
    ] = 4096
    tls_cert: Annotated[Path | None, PATH, "the certificate for TLS, with its chain, in PEM"] = None
    tls_key: Annotated[Path | None, PATH, "the key of `tls_cert`, if that file does not have it"] = None
    preview_url: Annotated[
        str,
        URL,
        "where previews are, such as `https://preview.example.com`, whose names below (`*.`) lead to `host`",
    ] = ""
    log_format: Annotated[str, _choice("text", "json"), "how the server logs to its standard error"] = "text"
    egress_ceiling: Annotated[
        str,
        EGRESS,
        "what sandboxes may reach at most, whatever they ask for: `none`, `public`, hosts and presets, or `unfiltered`",
    ] = "public"
    egress_private: Annotated[
        str,
        ADDRESSES,
        "addresses that sandboxes may reach although they are not public, such as those of a mirror: `10.1.2.3:443`",
    ] = ""
    egress_rate: Annotated[
        int, RATE, "bytes a second that a sandbox sends and receives together, such as `10m`; 0: as many as it can"
    ] = 0
    egress_connections: Annotated[
        int, _integer(1, 65536), "connections that a sandbox has to the outside at once; others wait"
    ] = 128
    limits: Annotated[
        str, LIMITS, "what a sandbox may use that was not given limits of its own; what is left out is as by default"
    ] = DEFAULTS
    max_limits: Annotated[str, LIMITS, "what a sandbox can't be given more than; what is left out has no ceiling"] = ""
    disk_reserve: Annotated[
        int,
        SPACE,
        "bytes that sandboxes leave free on the server's disk, such as `5g`; `auto`: 1 GiB or a twentieth of it, "
        "whichever is less; 0: none",
    ] = -1
    cgroups: Annotated[str, _choice("auto", "off"), "whether control groups hold limits where they can be had"] = "auto"
    stop_grace: Annotated[float, SECONDS, "seconds that running calls have to end when the server is told to stop"] = (
        5.0
    )


@dataclass(frozen=True)
class Setting:
    """A line of the table; its key in a file is its name."""

    name: str
    kind: Kind
    default: Any
    help: str

    @property
    def variable(self) -> str:
        return f"SANDCOVE_{self.name.upper()}"

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def shown(self) -> str:
        """The default, as a text that would be read as it; empty when there is none."""
        if self.kind is SPACE and self.default == -1:
            return "auto"
        return "" if self.default is None else f"{self.default:g}" if self.kind is SECONDS else str(self.default)


def _table() -> Iterator[Setting]:
    hints = get_type_hints(Settings, include_extras=True)
    for field in dataclasses.fields(Settings):
        _, kind, means = get_args(hints[field.name])
        yield Setting(field.name, kind, field.default, means)


SETTINGS = tuple(_table())


def load(flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """A flag beats a variable beats the file beats the default.

    Args:
        flags: texts by setting's name, and ``config``: the file's path; None where a flag is not given.

    Raises:
        InvalidRequestError: a value, a key or the file is wrong; it says where.
    """
    values = _from_file(flags, environ)
    for setting in SETTINGS:
        flag, variable = flags.get(setting.name), environ.get(setting.variable)
        if flag is not None:
            values[setting.name] = _read(setting, flag, f"{setting.flag} {flag!r}")
        elif variable is not None:
            values[setting.name] = _read(setting, variable, f"{setting.variable}={variable!r}")
    settings = Settings(**values)
    for name, needed in (("port", "host"), ("tls_cert", "host"), ("tls_key", "tls_cert"), ("preview_url", "host")):
        if values.get(name) is not None and not getattr(settings, needed):
            raise InvalidRequestError(f"{name} is {values[name]}, but there is no {needed}: give that too")
    return settings


def _from_file(flags: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    flag, variable = flags.get("config"), environ.get(CONFIG)
    named = flag if flag is not None else variable
    if not named:
        return {}
    import tomllib

    path = Path(named).absolute()
    where = f"--config {named}" if flag is not None else f"{CONFIG}={named}"
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidRequestError(f"{where}: the file can't be read: {error.strerror}") from None
    except ValueError as error:
        raise InvalidRequestError(f"{path} is no TOML file: {error}") from None
    known = {setting.name: setting for setting in SETTINGS}
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key not in known:
            raise InvalidRequestError(f"{path}: there is no setting {key!r}; there are {', '.join(sorted(known))}")
        place = f"{path}: {key} = {value!r}"
        setting = known[key]
        if isinstance(value, bool) or not isinstance(value, setting.kind.types):
            wanted = " or ".join(kind.__name__ for kind in setting.kind.types)
            raise InvalidRequestError(f"{place} is of the wrong type; give {wanted}")
        if setting.kind is PATH and value:
            value = str(path.parent / str(value))
        values[key] = _read(setting, value, place)
    return values


def _read(setting: Setting, value: Any, place: str) -> Any:
    try:
        return setting.kind.read(value)
    except ValueError as error:
        raise InvalidRequestError(f"{place} is not understood; give {error}") from None
