"""Functions that a sandbox calls around each of its commands, for debugging."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from sandcove.client.check import check_callback
from sandcove.client.results import ExecResult
from sandcove.errors import SandboxError

__all__ = ["Hooks", "OnCommandComplete", "OnCommandStart", "OnOutput", "shown"]

OnCommandStart = Callable[[str], object]
"""Called with a command before it is sent; a list is shown as a shell would need it."""
OnOutput = Callable[[Literal["stdout", "stderr"], str], object]
"""Called with each piece of a command's output as text."""
OnCommandComplete = Callable[[ExecResult[Any] | SandboxError], object]
"""Called with a command's result, or with the error that it ended in."""


class Hooks(NamedTuple):
    """Those that there are."""

    start: OnCommandStart | None
    output: OnOutput | None
    complete: OnCommandComplete | None

    @classmethod
    def of(
        cls, start: OnCommandStart | None, output: OnOutput | None, complete: OnCommandComplete | None
    ) -> Hooks | None:
        """Checks them; None when there is none."""
        check_callback("on_command_start", start)
        check_callback("on_output", output)
        check_callback("on_command_complete", complete)
        return cls(start, output, complete) if start or output or complete else None


def shown(command: str | list[str]) -> str:
    """A command as text; a list as a shell would need it."""
    if isinstance(command, str):
        return command
    from shlex import join

    return join(command)
