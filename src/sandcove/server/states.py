"""The states of a sandbox, and which may follow which."""

from __future__ import annotations

from enum import StrEnum

from sandcove.errors import ConflictError

__all__ = ["State", "move"]


class State(StrEnum):
    """A sandbox is asleep when only its files are there, and running when it has a room."""

    ASLEEP = "asleep"
    STARTING = "starting"
    RUNNING = "running"
    SLEEPING = "sleeping"
    DESTROYING = "destroying"


_MOVES: dict[State, frozenset[State]] = {
    State.ASLEEP: frozenset({State.STARTING, State.DESTROYING}),
    State.STARTING: frozenset({State.RUNNING, State.ASLEEP}),
    # Straight to asleep: its room ended by itself.
    State.RUNNING: frozenset({State.SLEEPING, State.DESTROYING, State.ASLEEP}),
    State.SLEEPING: frozenset({State.ASLEEP}),
    State.DESTROYING: frozenset(),
}


def move(old: State, new: State) -> State:
    """`new`, if it may follow `old`.

    Raises:
        ConflictError: it may not.
    """
    if new not in _MOVES[old]:
        raise ConflictError(f"a sandbox that is {old.value} can't become {new.value}")
    return new
