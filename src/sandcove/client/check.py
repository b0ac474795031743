"""What arguments may be, checked at the SDK's edge: each function returns the value as the wire has it, or raises
`InvalidRequestError` that names the argument, what it was, and what it should be."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from sandcove.errors import InvalidRequestError
from sandcove.wire import names
from sandcove.wire.code import LANGUAGES, Language
from sandcove.wire.limits import ResourceLimits, read_limits
from sandcove.wire.preview import Base, read_hostname
from sandcove.wire.secrets import Secret, check_secrets

__all__ = [
    "AnyLimits",
    "StrPath",
    "check_bytes",
    "check_callback",
    "check_command",
    "check_context_id",
    "check_count",
    "check_cursor",
    "check_egress",
    "check_encoding",
    "check_env",
    "check_env_changes",
    "check_flag",
    "check_given_secrets",
    "check_hostname",
    "check_labels",
    "check_language",
    "check_limits",
    "check_mode",
    "check_path",
    "check_pattern",
    "check_port",
    "check_port_name",
    "check_port_token",
    "check_process_id",
    "check_sandbox_id",
    "check_seconds",
    "check_session_id",
    "check_signal",
    "check_text",
    "wrong",
]

AnyLimits = ResourceLimits | Mapping[str, float | str]
"""What a sandbox may use."""
StrPath = str | os.PathLike[str]


def check_command(value: object) -> str | list[str]:
    """A text for the shell, or a list of texts that no shell sees."""
    if isinstance(value, str):
        names.check_command(value)
        return value
    if not isinstance(value, list | tuple):
        raise wrong("command", "a str for the shell or a list of str", value)
    for i, part in enumerate(value):
        if not isinstance(part, str):
            raise wrong(f"command[{i}]", "a str", part)
    command = list(value)
    names.check_command(command)
    return command


def check_env(value: object, name: str = "env") -> dict[str, str] | None:
    """A mapping of texts, or None."""
    if value is None:
        return None
    env = _texts(name, value)
    names.check_env(env)
    return env


def check_env_changes(value: object) -> dict[str, str | None]:
    """A mapping of names to texts, or to None for what is to be removed."""
    if not isinstance(value, Mapping):
        raise wrong("env", "a mapping of str to str or None", value)
    given = {name: text for name, text in value.items() if text is not None}
    changes: dict[str, str | None] = {**_texts("env", given)}
    for name, text in value.items():
        if text is None:
            if not isinstance(name, str):
                raise wrong("a name in env", "a str", name)
            changes[name] = None
    names.check_env(changes)
    return changes


def check_egress(value: object) -> str | list[str] | None:
    """What a sandbox may reach, or None."""
    if value is None:
        return None
    from sandcove.wire import egress

    return egress.check_egress(value)


def check_given_secrets(value: object) -> dict[str, Secret] | None:
    """A mapping of names to `Secret`, or None."""
    if value is None:
        return None
    return {name: secret for name, secret in check_secrets(value).items() if secret is not None}


def check_labels(value: object) -> dict[str, str] | None:
    """A mapping of texts, or None."""
    if value is None:
        return None
    labels = _texts("labels", value)
    names.check_labels(labels)
    return labels


def check_limits(value: object) -> ResourceLimits | None:
    """`ResourceLimits`, a mapping of their names to numbers or texts such as ``2g``, or None."""
    if isinstance(value, Mapping):
        return read_limits(value)
    if value is not None and not isinstance(value, ResourceLimits):
        raise InvalidRequestError(f"limits must be ResourceLimits or a mapping, not {type(value).__name__}")
    if value is not None:
        read_limits(value.given())
    return value


def check_sandbox_id(value: object) -> str:
    """The id of a sandbox."""
    return names.check_sandbox_id(check_text("id", value))


def check_session_id(value: object) -> str:
    """The name of a session."""
    return names.check_session_id(check_text("session name", value))


def check_process_id(value: object) -> str:
    """The id of a process."""
    return names.check_process_id(check_text("process id", value))


def check_context_id(value: object) -> str:
    """The id of a code context."""
    return names.check_context_id(check_text("context id", value))


def check_language(value: object) -> Language:
    """A language that code contexts have."""
    for language in LANGUAGES:
        if value == language:
            return language
    known = ", ".join(map(repr, LANGUAGES[:-1]))
    raise InvalidRequestError(f"language is {known} or {LANGUAGES[-1]!r}, not {_shown(value)}")


def check_cursor(value: object) -> int:
    """An offset in a log."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**12:
        raise wrong("cursor", "the cursor of an event, or 0 for the beginning", value)
    return value


def check_port(value: object) -> int:
    """A TCP port."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong("port", "a number from 1 to 65535", value)
    return names.check_port(value)


def check_hostname(value: object) -> Base:
    """A host whose names below are previews'."""
    if not isinstance(value, str):
        raise wrong("hostname", "a str such as 'previews.example.com'", value)
    return read_hostname(value)


def check_port_name(value: object) -> str:
    """What an exposed port is called."""
    if not isinstance(value, str):
        raise wrong("name", "a str", value)
    return names.check_port_name(value)


def check_port_token(value: object) -> str:
    """The token of a preview's URL."""
    if not isinstance(value, str):
        raise wrong("token", "a str of 16 to 40 characters of a-z and 0-9", value)
    return names.check_port_token(value)


def check_signal(value: object) -> str:
    """A signal's number or name, as the wire has it."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise wrong("signal", "a number, or a name such as 'SIGTERM'", value)
    text = str(int(value)) if isinstance(value, int) else value
    if not re.fullmatch("[0-9]{1,2}|[A-Za-z][A-Za-z0-9+-]{1,15}", text, re.ASCII):
        raise InvalidRequestError(f"signal {_shown(value)} is none; give a number, or a name such as 'SIGTERM'")
    return text.replace("+", "%2B")


def check_pattern(value: object) -> re.Pattern[str]:
    """A regular expression for text."""
    if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
        return value
    if not isinstance(value, str):
        raise wrong("pattern", "a regular expression as a str or a compiled one for text", value)
    try:
        return re.compile(value)
    except re.error as error:
        raise InvalidRequestError(f"pattern {value!r} is no regular expression: {error}") from None


def check_bytes(name: str, value: object) -> bytes:
    """Text, as UTF-8, or bytes."""
    if isinstance(value, str):
        return check_text(name, value).encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise wrong(name, "a str or bytes", value)


def check_path(value: object, name: str = "path") -> str:
    """A path inside the sandbox, as a str or a pure path."""
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        raise wrong(name, "a str or a path of text", value)
    names.check_path(path)
    # A lone surrogate stands for a byte that is no UTF-8 (os.fsdecode makes them); JSON can't carry it.
    if not _is_utf8(path):
        raise InvalidRequestError(f"{name} {path!r} has a character that UTF-8 can't encode")
    return path


def check_text(name: str, value: object) -> str:
    """A text that UTF-8 can encode."""
    if not isinstance(value, str):
        raise wrong(name, "a str", value)
    if not _is_utf8(value):
        raise InvalidRequestError(f"{name} has a character that UTF-8 can't encode")
    return value


def check_flag(name: str, value: object) -> bool:
    """A bool, not merely something true."""
    if not isinstance(value, bool):
        raise wrong(name, "True or False", value)
    return value


def check_seconds(name: str, value: object, *, zero: str | None = None) -> int | None:
    """Seconds as an int or float, or None; gives milliseconds. With `zero`, 0 is allowed and means that."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(name, "a number of seconds", value)
    if not math.isfinite(value) or value < 0 or (value == 0 and zero is None) or value > 10**9:
        allowed = "a number of seconds over 0" + (f", or 0 for {zero}" if zero else "")
        raise InvalidRequestError(f"{name} is {allowed}, not {value!r}")
    return math.ceil(value * 1000)


def check_count(name: str, value: object) -> int | None:
    """A whole number over 0, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(name, "a whole number", value)
    if not 0 < value < 2**31:
        raise InvalidRequestError(f"{name} is a number from 1 to 2,147,483,647, not {value!r}")
    return value


def check_mode(value: object) -> int | None:
    """Permission bits, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong("mode", "permission bits as an int", value)
    if not 0 <= value <= 0o7777:
        raise InvalidRequestError(f"mode is permission bits such as 0o644, not {value!r}")
    return value


def check_encoding(value: object) -> bool:
    """``"utf-8"`` for text (True), or None for bytes (False)."""
    if value is None:
        return False
    if isinstance(value, str) and value.lower().replace("_", "-") in ("utf-8", "utf8"):
        return True
    raise InvalidRequestError(
        f"encoding is 'utf-8' for text or None for bytes, not {value!r}; decode the bytes yourself"
    )


def check_callback(name: str, value: Callable[..., Any] | None) -> None:
    """A callable, or None."""
    if value is not None and not callable(value):
        raise wrong(name, "a function", value)


def _texts(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise wrong(name, "a mapping of str to str", value)
    texts: dict[str, str] = {}
    for key, text in value.items():
        if not isinstance(key, str):
            raise wrong(f"a name in {name}", "a str", key)
        texts[key] = check_text(f"{name}[{key!r}]", text)
    return texts


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def wrong(name: str, wanted: str, value: object) -> InvalidRequestError:
    """The error for an argument of another type than `wanted`."""
    return InvalidRequestError(f"{name} is {wanted}, not {type(value).__name__} ({_shown(value)})")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
