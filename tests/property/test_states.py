"""The states of a sandbox: from each the way leads on, and only as it may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandcove.errors import ConflictError
from sandcove.server.states import State, move

states = st.sampled_from(State)


@given(states, states)
def test_a_move_gives_the_new_state_or_says_why_not(old: State, new: State) -> None:
    try:
        assert move(old, new) is new
    except ConflictError as error:
        assert old.value in str(error) and new.value in str(error)  # noqa: PT017 - either outcome is right


@given(states)
def test_nothing_becomes_what_it_is(state: State) -> None:
    with pytest.raises(ConflictError):
        move(state, state)


def test_every_state_is_reached_and_destruction_is_final() -> None:
    reached = {State.ASLEEP}
    for _ in State:
        for old in set(reached):
            for new in State:
                try:
                    reached.add(move(old, new))
                except ConflictError:
                    continue
    assert reached == set(State)
    for state in State:
        with pytest.raises(ConflictError):
            move(State.DESTROYING, state)


@given(st.lists(states, max_size=30))
def test_a_sandbox_runs_only_after_it_was_starting(wanted: list[State]) -> None:
    state = State.ASLEEP
    before = state
    for new in wanted:
        try:
            before, state = state, move(state, new)
        except ConflictError:
            continue
        if state is State.RUNNING:
            assert before is State.STARTING
