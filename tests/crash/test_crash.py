"""The server killed at each step of each transition, and started again at once: nothing is lost, and nothing is left.

A step is a system call of the server's that changes something, and the kill comes as it enters that. Without
`SANDCOVE_STRESS=1` a few steps of all are tried.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.tracer import CAN_TRACE
from tests.crash.transitions import TRANSITIONS, Transition
from tests.crash.world import Cut, Seen, World

FULL = os.environ.get("SANDCOVE_STRESS") == "1"

pytestmark = pytest.mark.skipif(not CAN_TRACE, reason="the system calls' numbers of this machine are not in tracer.py")


@pytest.fixture
def world(fresh_home: Path) -> Iterator[World]:
    world = World(fresh_home)
    try:
        world.launch()
        assert world.wait_until_ready()
        world.create("kept", env={"VALUE": "kept"}, egress="pypi.org", limits={"processes": 99})
        world.run("kept", "echo kept > /workspace/kept")
        world.box("kept", "POST", "/ports", {"port": 9000, "token": "keptkeptkeptkept"})
        yield world
    finally:
        world.kill()


def seen(world: World, name: str) -> Seen:
    """What there is of a sandbox and of the key of its name, in words that do not depend on that."""
    found = world.look(name) | {"key": world.keys().get(name)}
    return {aspect: _without(name, value) for aspect, value in found.items()}


def _without(name: str, value: Any) -> Any:
    return [each.replace(name, "NAME") for each in value] if isinstance(value, list) else value


def crash(world: World, transition: Transition, name: str, at: int | None) -> tuple[bool, bool, str]:
    """Does it, and kills the server at step number `at`, or when all is done; starts another.

    Returns:
        Whether it was acknowledged, whether it was killed at that step, and the step in words.
    """
    transition.prepare(world, name)
    if transition.starts:
        world.launch(at, traced=True)
    else:
        world.trace(at)
    tracer = world.tracer
    assert tracer is not None
    try:
        transition.act(world, name)
        acknowledged = True
        tracer.wait_for_silence(0.2 if transition.tail else 0.01)
    except Cut:
        acknowledged = False
    world.kill()
    world.start()
    world.settle()
    return acknowledged, tracer.killed, tracer.steps[-1] if tracer.steps else ""


def references(world: World, transition: Transition) -> tuple[Seen, Seen]:
    """What is seen of a sandbox before and after the transition."""
    transition.prepare(world, "before")
    if transition.starts or world.pid == 0:
        world.start()
    before = seen(world, "before")
    clear(world)
    crash(world, transition, "after", None)
    after = seen(world, "after")
    clear(world)
    return before, after


def clear(world: World) -> None:
    for name in world.names() - {"kept"}:
        world.box(name, "DELETE", "")


def crash_and_check(world: World, transition: Transition, at: int, before: Seen, after: Seen, kept: Seen) -> bool:
    """False: it was over before that step."""
    name = f"at-{at}"
    acknowledged, killed, step = crash(world, transition, name, at)
    try:
        assert world.names() <= {"kept", name, f"{name}-other"}
        world.check()
        found = seen(world, name)
        if acknowledged and not transition.forgets:
            assert found == after
        elif found.keys() != {"key"}:
            fresh = {"labels": {}, "limits": None, "keep alive": False, "ends": False, "ports": []}
            for aspect, value in found.items():
                # A create that was not acknowledged may lack what comes after the sandbox itself.
                made = [after.get("shell", "").replace("env new", "env")] if not before.get("shell") else []
                assert value in [before.get(aspect), after.get(aspect), *made, fresh.get(aspect)], aspect
        else:
            assert not before.get("shell") or not after.get("shell")
            assert found["key"] in (before["key"], after["key"])
        assert seen(world, "kept") == kept
        world.check()
        clear(world)
        world.check()
    except AssertionError as error:
        raise AssertionError(f"{transition.name}, killed at step {at}, {step!r}: {error}") from error
    return killed


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not FULL, reason="SANDCOVE_STRESS=1 kills at all steps")
@pytest.mark.parametrize("transition", TRANSITIONS, ids=lambda transition: transition.name)
def test_killed_at_each_step(
    world: World, transition: Transition, record_property: Callable[[str, object], None]
) -> None:
    kept = seen(world, "kept")
    before, after = references(world, transition)
    failures: list[str] = []
    for at in itertools.count(1, int(os.environ.get("STRIDE", "1"))):
        try:
            if not crash_and_check(world, transition, at, before, after, kept):
                break
        except AssertionError as error:
            failures.append(str(error))
            if len(failures) > 8:
                break
            clear(world)
        print(at, end=" ", flush=True)
    print(f"{transition.name}: {at - 1} steps")
    assert not failures, "\n\n".join(failures)
