"""What a session's shell knows (variables, functions, aliases, options, folder), in the files that outlast it.

Bash writes a state after each command, by turns into two files in memory, and one on `exit`; the newest of them is kept
on the disk. What is to be changed of the variables lies beside that until a shell has heard of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from math import inf
from pathlib import Path

from sandcove.agent import bash, scratch
from sandcove.agent.exported import exported

__all__ = ["ShellState", "records"]

_log = logging.getLogger("sandcove.agent")

_QUICK = 64 * 1024
"""Bytes of a state that is read on the loop."""


class ShellState:
    """The state of one shell.

    Args:
        run: the shell's folder, in memory.
        lasting: a folder that outlasts the room.
    """

    def __init__(self, run: Path, lasting: Path) -> None:
        self._run = run
        self._lasting = lasting
        self._heard = b""
        self._heard_by = -1

    def written(self) -> bytes:
        """The newest state that bash has written to its end; empty if there is none."""
        # By the numbers of their commands: two that are written in one tick of the clock have the same time.
        states = [scratch.read(self._run / f"state.{name}")[0] for name in ("0", "1", "exit")]
        newest = max(states, key=bash.state_number)
        return newest if bash.state_number(newest) >= 0 else b""

    def newest(self) -> bytes:
        """The state that a new shell has to take up."""
        kept = scratch.read(self._lasting / "saved")[0]
        return self.written() or (kept if bash.state_number(kept) >= 0 else b"")

    def hand_over(self, number: int) -> Path | None:
        """A file with that state, for a new shell whose last command was `number`; None when there is none."""
        self._lasting.mkdir(parents=True, exist_ok=True)
        newest = self.newest()
        if bash.state_number(newest) < self._heard_by:
            # The shell that had heard of changes ended before it wrote them down.
            self._heard = b""
        if not newest:
            return None
        scratch.replace(self._run / "saved", newest)
        if bash.state_number(newest) == inf:
            # It is the last word of the shell before, not of this one: from here on it is that of its command.
            scratch.replace(self._run / f"state.{number % 2}", bash.numbered(newest, number))
            (self._run / "state.exit").unlink(missing_ok=True)
        return self._run / "saved"

    def keep(self) -> None:
        """Writes what bash wrote to where it outlasts the room."""
        if newest := self.written():
            try:
                scratch.replace(self._lasting / "saved", newest)
                if self._heard and bash.state_number(newest) >= self._heard_by:
                    # Not before: a change that was acknowledged is in one of the two files, whatever is killed.
                    scratch.replace(self._lasting / "env", self._waiting().removeprefix(self._heard))
                    self._heard = b""
            except OSError as error:
                _log.warning("the state of a session could not be kept: %s", error)

    async def exported(self, otherwise: Mapping[str, str]) -> dict[str, str]:
        """The variables that it exports (`otherwise`, if it says nothing yet), with the changes that wait."""
        state = self.newest()
        if not state:
            env = dict(otherwise)
        else:
            env = exported(state) if len(state) <= _QUICK else await asyncio.to_thread(exported, state)
        for record in self.changes().split(b"\0")[:-1]:
            name, equals, value = os.fsdecode(record).partition("=")
            if not name:
                continue  # it is none of ours
            if equals:
                env[name] = value
            else:
                env.pop(name, None)
        return env

    def changes(self) -> bytes:
        """Changes of variables that no shell has heard of: records of ``NAME=value``, or ``NAME`` to remove it."""
        return self._waiting().removeprefix(self._heard)

    def _waiting(self) -> bytes:
        """The same, and those that a shell has heard of, but whose state is not kept yet."""
        return scratch.read(self._lasting / "env")[0]

    def change(self, env: Mapping[str, str | None]) -> None:
        """Adds to the changes."""
        new = records([name if value is None else f"{name}={value}" for name, value in env.items()])
        scratch.replace(self._lasting / "env", self._waiting() + new)

    def heard(self, changes: bytes, number: int) -> bytes:
        """A shell knows of these since its command `number`: gives those that are left."""
        self._heard += changes
        self._heard_by = number
        return self.changes()


def records(words: list[str]) -> bytes:
    """Texts with a NUL after each, as bash reads them."""
    return b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words)
