"""One ``run`` request: from its code to ``done``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import NoReturn

from sandcove.kernels.python.failure import failure, message, print_plainly
from sandcove.kernels.python.host import Host, Kit

__all__ = ["run"]


def run(kit: Kit, host: Host, code: str, env: Mapping[str, str] | None) -> None:
    """Never raises for what the cell does."""
    interrupts, streams = kit.interrupts, kit.streams
    interrupts.begin()
    streams.restore()
    streams.in_order = True
    kit.loop.begin()
    error: BaseException | None = None
    told: bytes | None = None
    before = {name: os.environ.get(name) for name in env or ()}
    try:
        if env:
            os.environ.update(env)
        interrupts.boundary(host.execute, code)
    except BaseException as raised:  # noqa: BLE001 - whatever a cell raises is its own
        error = raised
    if not kit.channel.is_ours():
        _end_child(kit, error)
    if error is not None:
        told = _told(kit, host, error)
        error = None
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    kit.loop.report()
    streams.flush()
    interrupts.end()
    streams.in_order = False
    if told is not None:
        kit.channel.tell(told)
    kit.channel.tell(b'{"type":"done","executionCount":%d}\n' % host.execution_count)


def _told(kit: Kit, host: Host, error: BaseException) -> bytes:
    """The message; making it runs the exception's code, which may take for ever and be interrupted too."""
    try:
        told: bytes = kit.interrupts.boundary(failure, error, host.cell, host.is_cell, host.format_error)
    except BaseException:  # noqa: BLE001 - there must be a message
        name = type(error).__name__
        return message(name, "", [name], None)
    return told


def _end_child(kit: Kit, error: BaseException | None) -> NoReturn:
    """A process that the cell has forked, and that came to the cell's end: it is none of the kernel's business."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        print_plainly(error, sys.stderr)
        code = 1
    kit.streams.flush()
    os._exit(code & 0xFF)
