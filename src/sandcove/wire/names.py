"""What a name may be. Pure functions; each returns the value or raises with what is wrong and how to mend it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sandcove.errors import InvalidRequestError, SecurityError

__all__ = [
    "check_command",
    "check_context_id",
    "check_env",
    "check_labels",
    "check_mode",
    "check_path",
    "check_port",
    "check_port_name",
    "check_port_token",
    "check_process_id",
    "check_sandbox_id",
    "check_session_id",
    "check_timeout",
]

RESERVED_IDS = frozenset({"www", "api", "admin", "root", "system", "cloudflare", "workers", "sandcove"})
MAX_COMMAND_BYTES = 1024 * 1024
"""Longest command text, in bytes of UTF-8: 1 MiB."""
MAX_TIMEOUT = 10**12
"""Longest time limit, in ms: over thirty years."""
MAX_PATH_BYTES = 4095
"""Longest path: the kernel's PATH_MAX without its NUL."""
MAX_ENVIRONMENT = 1024 * 1024
"""Of all variables together: about half of what programs can be started with."""
MAX_ENV_BYTES = 128 * 1024 - 1
"""Longest ``NAME=value``: the kernel's MAX_ARG_STRLEN without its NUL."""

_SANDBOX_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_SESSION_ID = re.compile(r"[A-Za-z0-9_.@:-]{1,128}", re.ASCII)
_CONTEXT_ID = re.compile(r"[A-Za-z0-9_.@:-]{1,256}", re.ASCII)
PORT_TOKEN = re.compile(r"[a-z0-9]{16,40}", re.ASCII)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,1023}", re.ASCII)
_PROCESS_WORDS = {"start", "list", "kill-all", "cleanup"}
_LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_./-]{0,61}[A-Za-z0-9])?", re.ASCII)


def check_sandbox_id(value: str) -> str:
    """1 to 63 characters of ``a-z 0-9 -``, no hyphen at either end, not a reserved word: it becomes a DNS label."""
    if not _SANDBOX_ID.fullmatch(value):
        raise SecurityError(
            f"sandbox id {_short(value)} is not 1 to 63 characters of a-z, 0-9 and '-' "
            "that begin and end with a letter or digit"
        )
    if value in RESERVED_IDS:
        raise SecurityError(f"sandbox id {value!r} is reserved; choose another")
    return value


def check_session_id(value: str) -> str:
    """1 to 128 characters of ``A-Z a-z 0-9 _ . @ : -``; not ``.`` or ``..``."""
    if not _SESSION_ID.fullmatch(value) or value in (".", ".."):
        raise InvalidRequestError(
            f"session name {_short(value)} is not 1 to 128 characters of A-Z, a-z, 0-9 and '_.@:-'"
        )
    return value


def check_process_id(value: str) -> str:
    """1 to 128 characters of ``A-Z a-z 0-9 _ . @ : -``; not ``.`` or ``..``, nor a word of the routes."""
    if not _SESSION_ID.fullmatch(value) or value in {".", ".."} | _PROCESS_WORDS:
        raise InvalidRequestError(
            f"process id {_short(value)} is not 1 to 128 characters of A-Z, a-z, 0-9 and '_.@:-', or is a reserved word"
        )
    return value


def check_context_id(value: str) -> str:
    """1 to 256 characters of ``A-Z a-z 0-9 _ . @ : -``; not ``.`` or ``..``."""
    if not _CONTEXT_ID.fullmatch(value) or value in (".", ".."):
        raise InvalidRequestError(
            f"context id {_short(value)} is not 1 to 256 characters of A-Z, a-z, 0-9 and '_.@:-'; "
            "list_code_contexts() has those there are"
        )
    return value


def check_port(value: int) -> int:
    """1 to 65535."""
    if not 1 <= value <= 65535:
        raise InvalidRequestError(f"port {value} is not between 1 and 65535")
    return value


def check_port_name(value: str) -> str:
    """1 to 128 characters that can be printed."""
    if not 1 <= len(value) <= 128 or not value.isprintable():
        raise InvalidRequestError(f"a port's name is 1 to 128 printable characters, not {_short(value)}")
    return value


def check_port_token(value: str) -> str:
    """The token of a preview's URL: 16 to 40 characters of ``a-z 0-9``."""
    if not PORT_TOKEN.fullmatch(value):
        raise InvalidRequestError(
            "a port's token is 16 to 40 characters of a-z and 0-9; it keeps strangers out, so make it random"
        )
    return value


def check_env(env: Mapping[str, str | None]) -> None:
    """Names as a shell takes them, values without NUL; each pair at most 128 KiB (the kernel's limit), all 1 MiB."""
    total = 0
    for name, value in env.items():
        if not _ENV_NAME.fullmatch(name):
            raise InvalidRequestError(
                f"environment variable name {_short(name)} is not a letter or '_' followed by letters, digits and '_'"
            )
        if value is None:
            continue
        if "\0" in value:
            raise InvalidRequestError(f"environment variable {name} has a NUL character in its value; remove it")
        size = len(name) + 1 + len(value.encode("utf-8", "surrogatepass"))
        total += size
        if size > MAX_ENV_BYTES:
            raise _too_long(f"environment variable {name}", MAX_ENV_BYTES, "put it into a file instead")
    if total > MAX_ENVIRONMENT:
        raise _too_long("the environment", MAX_ENVIRONMENT, "put some of it into files")


def check_labels(labels: Mapping[str, str]) -> None:
    """At most 64 labels; names of 1 to 63 characters, values of at most 255."""
    if len(labels) > 64:
        raise InvalidRequestError(f"a sandbox has at most 64 labels, not {len(labels)}")
    for name, value in labels.items():
        if not _LABEL_NAME.fullmatch(name):
            raise InvalidRequestError(
                f"label name {_short(name)} is not 1 to 63 characters of A-Z, a-z, 0-9 and '_./-' "
                "that begin and end with a letter or digit"
            )
        if len(value) > 255:
            raise InvalidRequestError(f"the value of label {name} has {len(value)} characters; at most 255")


def check_path(path: str) -> str:
    """Not empty, no NUL, at most 4,095 bytes."""
    if not path:
        raise InvalidRequestError("the path is empty; give an absolute one, or one relative to the session's folder")
    if "\0" in path:
        raise InvalidRequestError(f"path {_short(path)} has a NUL character, which no file name can have")
    if len(path.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
        raise _too_long("the path", MAX_PATH_BYTES, "no Linux system call takes a longer one")
    return path


def check_timeout(value: int | None) -> None:
    """Milliseconds: over 0, and what a clock can count; None for no limit."""
    if value is not None and not 0 < value <= MAX_TIMEOUT:
        shown = value if abs(value) <= MAX_TIMEOUT else "a number too large"
        raise InvalidRequestError(
            f"timeout is {shown} ms; give more than 0 and at most {MAX_TIMEOUT}, or leave it out for no limit"
        )


def check_mode(mode: int) -> int:
    """Permission bits: 0 to 0o7777."""
    if not 0 <= mode <= 0o7777:
        raise InvalidRequestError(f"mode {mode:#o} is no file mode; give permission bits such as 0o644")
    return mode


def check_command(command: str | list[str]) -> None:
    """Not empty, no NUL, at most 1 MiB; a list's first item names the program."""
    parts = [command] if isinstance(command, str) else command
    if not parts or (isinstance(command, str) and not command.strip()) or not parts[0]:
        raise InvalidRequestError("the command is empty; give a shell command, or a list of program and arguments")
    total = 0
    for part in parts:
        if "\0" in part:
            raise InvalidRequestError("the command has a NUL character, which no program argument can have")
        total += len(part.encode("utf-8", "surrogatepass"))
    if total > MAX_COMMAND_BYTES:
        raise _too_long("the command", MAX_COMMAND_BYTES, "write it to a file with write_file and run that")


def _too_long(what: str, limit: int, remedy: str) -> InvalidRequestError:
    """The error for a text over its limit, in bytes."""
    return InvalidRequestError(f"{what} is longer than {limit:,} bytes; {remedy}")


def _short(value: str) -> str:
    return repr(value if len(value) <= 80 else value[:77] + "...")
