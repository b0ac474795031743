"""The options by which a sandbox gets secrets. Their values are never in arguments, which every user can see."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from sandcove.cli.options import secret
from sandcove.errors import InvalidRequestError
from sandcove.wire.secrets import Secret

__all__ = ["add_options", "given"]


def add_options(made: ArgumentParser) -> None:
    """The options of a command that makes a sandbox."""
    made.add_argument(
        "--secret",
        metavar="NAME=HOST[,HOST]",
        type=secret,
        action="append",
        default=[],
        help="requests to HOST carry what this command's own variable NAME has, and it has not; may be repeated",
    )
    made.add_argument("--intercept-tls", action="store_true", help="end TLS to these hosts at the proxy: for https")
    made.add_argument("--secrets", metavar="FILE", help="JSON of secrets by name, as the wire has them; - is stdin")


def given(options: Namespace) -> dict[str, Secret] | None:
    """The secrets that they give.

    Raises:
        InvalidRequestError: a variable is not set, or the file has something else.
        OSError: the file can't be read.
    """
    found: dict[str, Secret] = {}
    if options.secrets is not None:
        found |= _read(options.secrets)
    if options.intercept_tls and not options.secret:
        raise InvalidRequestError("--intercept-tls says how a --secret is sent; give one")
    for name, hosts in options.secret:
        if name not in os.environ:
            raise InvalidRequestError(f"--secret {name}: the variable {name} is not set; its value is the secret's")
        if name in found:
            raise InvalidRequestError(f"--secret {name}: there is one of this name already")
        found[name] = Secret(os.environ[name], hosts, intercept_tls=options.intercept_tls)
    return found or None


def _read(file: str) -> dict[str, Secret]:
    import msgspec

    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        return msgspec.json.decode(data, type=dict[str, Secret])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"{file} is no JSON object of secrets by name: {error}") from None
