"""`run` and `exec`: a command in a sandbox as if it ran here: its output, its exit code, our signals."""

from __future__ import annotations

import os
import stat
import sys
from argparse import Namespace
from typing import BinaryIO

from sandcove.cli.options import command_of
from sandcove.cli.sandboxes import existing
from sandcove.cli.secrets import given
from sandcove.client._sync.sandbox import Sandbox
from sandcove.client._sync.session import Session
from sandcove.errors import InvalidRequestError

__all__ = ["exec", "run", "write"]


def run(options: Namespace) -> int:
    """`sandcove run`: in a sandbox that is destroyed afterwards, whatever happens."""
    stdin = _check_command_and_open_stdin(options)
    if options.secrets == "-":
        stdin = None
    made = Sandbox(
        labels=dict(options.label) or None,
        egress=options.egress,
        limits=dict(options.limit) or None,
        secrets=given(options),
    )
    with made as sandbox:
        for local, remote in options.upload:
            sandbox.upload(local, remote)
        return _follow(sandbox, options, stdin)


def exec(options: Namespace) -> int:  # noqa: A001 - it is the command's name
    """`sandcove exec`: in a sandbox that exists."""
    stdin = _check_command_and_open_stdin(options)
    sandbox = existing(options.name)
    if options.session is None:
        return _follow(sandbox, options, stdin)
    return _follow(sandbox.get_session(options.session), options, stdin)


def _check_command_and_open_stdin(options: Namespace) -> BinaryIO | None:
    if not options.words or options.words == ["--"]:
        raise InvalidRequestError(f"there is no command; sandcove {options.command_name} --help shows how to give one")
    return _piped_stdin()


def _piped_stdin() -> BinaryIO | None:
    """Standard input when it is a pipe, a socket or a file; nothing when it is a terminal or /dev/null."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return None  # it is closed
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
        return None
    return sys.stdin.buffer


def _follow(where: Sandbox | Session, options: Namespace, stdin: BinaryIO | None) -> int:
    """Runs the command, copies its output byte by byte as it comes, and gives its exit code."""
    events = where.exec_stream(
        command_of(options.words),
        cwd=options.cwd,
        env=dict(options.env) or None,
        timeout=options.timeout,
        stdin=stdin,
    )
    code = 0
    try:
        for event in events:
            if event.type == "stdout":
                write(1, event.bytes)
            elif event.type == "stderr":
                write(2, event.bytes)
            elif event.exit_code is not None:
                code = event.exit_code
    finally:
        events.close()  # left early, this cancels the command
    return code


def write(descriptor: int, data: bytes) -> None:
    """Writes past Python's buffers: what the command wrote is to be seen now."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
