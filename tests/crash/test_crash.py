"""The server killed at each step of each transition, and started again at once: nothing is lost, and nothing is left.

A step is a system call of the server's that changes something, and the signal comes as it enters that. Without
`SANDCOVE_STRESS=1` a few steps are tried, those after which most is half done.
"""

from __future__ import annotations

import itertools
import os
import signal
from typing import Any

import pytest

from tests.crash.tracer import CAN_TRACE, At
from tests.crash.transitions import TRANSITIONS, Transition
from tests.crash.world import CutError, Seen, World

FULL = os.environ.get("SANDCOVE_STRESS") == "1"
STRIDE = int(os.environ.get("SANDCOVE_STRIDE", "1"))
MOST_FAILURES = 8
FEW = [
    ("create", "rename spare/"),
    ("create in a room of its own", "mkdir sandboxes/few-1/root.new/var/log"),
    ("create in a room of its own", "lchown sandboxes/few-2/layers"),
    ("create in a room of its own", "rename sandboxes/few-3/root.new"),
    ("wake", "write */gid_map"),
    ("wake of an older version's", "fchownat sandboxes/few-5/root/root"),
    ("sleep", "rename run/"),
    ("destroy", "rename sandboxes/"),
    ("upload, the agent killed", "write /workspace/.sandcove-"),
    ("stop", "unlink server.sock"),
    ("start after a kill", "unlink run/"),
    ("start after a change of the host", "openat templates/new/group"),
    ("start after a change of the host", "rename token.secret.new"),
    ("start with an older registry", "fdatasync registry.db-wal"),
]
FEW_STOPS = [
    ("start", "mkdir spare/"),
    ("create in a room of its own", "sendmsg"),
    ("sleep", "rename run/"),
]
ENDINGS = ["killed", "told-to-stop"]

pytestmark = [
    pytest.mark.skipif(not CAN_TRACE, reason="tracer.py does not know the numbers of this machine's system calls"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may look which process the agent is, and trace it"),
]


@pytest.fixture
def world(world: World) -> World:
    """With a sandbox that nothing happens to."""
    world.create("kept", env={"VALUE": "kept"}, labels={"a": "b"}, keepAlive=True)
    world.run("kept", "echo kept > /workspace/kept")
    world.box("kept", "POST", "/ports", {"port": 9000, "token": "keptkeptkeptkept"})
    return world


@pytest.fixture
def kept(world: World) -> Seen:
    """What is seen of the sandbox that nothing happens to."""
    return seen(world, "kept")


def seen(world: World, name: str) -> Seen:
    """What there is of a sandbox and of the key of its name, in words that do not depend on that."""
    found = world.look(name) | {"key": world.keys().get(name)}
    return {aspect: _without(name, value) for aspect, value in found.items()}


def _without(name: str, value: Any) -> Any:
    return [each.replace(name, "NAME") for each in value] if isinstance(value, list) else value


def crash(world: World, transition: Transition, name: str, at: At, number: int = signal.SIGKILL) -> tuple[bool, bool]:
    """Does it, and sends a signal at that step, or kills when all is done; then a server runs again, or still.

    Returns:
        Whether it was acknowledged, and whether it was stopped at that step.
    """
    transition.prepare(world, name)
    if transition.starts:
        world.launch(at, number, traced=True)
    else:
        world.settle()
        world.trace(at, number, name if transition.agent else None)
    tracer = world.tracer
    assert tracer is not None
    try:
        transition.act(world, name)
        acknowledged = True
        tracer.wait_for_silence(0.2 if transition.tail else 0.01)
    except CutError:
        acknowledged = False
    if transition.agent:
        world.kill_agent(name)
    else:
        if number != signal.SIGKILL and tracer.killed:
            world.kill(number)
            # Before it heeds the signal it is ended by it, with all that the one before has left.
            if not (transition.starts and tracer.signalled):
                world.check_stopped()
        else:
            world.kill()
        world.start()
    world.settle()
    return acknowledged, tracer.killed


def references(world: World, transition: Transition) -> tuple[Seen, Seen]:
    """What is seen of a sandbox before and after the transition."""
    transition.prepare(world, "before")
    if transition.starts:
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


def check(world: World, name: str, kept: Seen) -> Seen:
    """What holds after each crash; gives what is seen of the sandbox."""
    assert world.names() <= {"kept", name, f"{name}-other"}
    world.check()
    found = seen(world, name)
    assert "bad " not in found.get("shell", "") and "owner " not in found.get("shell", ""), found
    assert ".sandcove-" not in found.get("shell", ""), found
    assert seen(world, "kept") == kept
    world.check()
    clear(world)
    world.check()
    return found


def compare(transition: Transition, acknowledged: bool, found: Seen, before: Seen, after: Seen) -> None:
    """All of it is done if it was acknowledged; else each thing is as it was before or as it should become."""
    if acknowledged and not transition.forgets:
        assert found == after
    elif found.keys() == {"key"}:
        assert not before.get("shell") or not after.get("shell")
        assert found["key"] in (before["key"], after["key"])
    else:
        # A create that was not acknowledged may lack what comes after the sandbox itself.
        empty = [] if before.get("shell") else [after.get("shell", "").replace("env new", "env")]
        for aspect, value in found.items():
            assert value in [before.get(aspect), after.get(aspect), *empty], aspect


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("number", "few"), [(signal.SIGKILL, FEW), (signal.SIGTERM, FEW_STOPS)], ids=ENDINGS)
def test_at_a_few_steps(world: World, kept: Seen, number: int, few: list[tuple[str, str]]) -> None:
    known = {transition.name: transition for transition in TRANSITIONS}
    for at, (name, step) in enumerate(few):
        _, killed = crash(world, known[name], f"few-{at}", step, number)
        assert killed, f"{name} has no step {step!r}"
        check(world, f"few-{at}", kept)


def whole() -> list[Any]:
    """Every transition with both signals; but only the server is told to stop, and once."""
    return [
        pytest.param(number, transition, id=f"{transition.name}-{ending}")
        for transition in TRANSITIONS
        for number, ending in zip((signal.SIGKILL, signal.SIGTERM), ENDINGS, strict=True)
        if number == signal.SIGKILL or not (transition.agent or transition.name == "stop")
    ]


if FULL:

    @pytest.mark.slow
    @pytest.mark.timeout(3600)
    @pytest.mark.parametrize(("number", "transition"), whole())
    def test_at_each_step(world: World, kept: Seen, transition: Transition, number: int) -> None:
        before, after = references(world, transition)
        failures: list[str] = []
        for at in itertools.count(1, STRIDE):
            name = f"at-{at}"
            try:
                acknowledged, killed = crash(world, transition, name, at, number)
                compare(transition, acknowledged, check(world, name, kept), before, after)
            except (AssertionError, CutError, OSError) as error:
                failures.append(f"step {at}: {error!r}")
                if len(failures) == MOST_FAILURES:
                    break
                clear(world)
                continue
            print(at, end=" ", flush=True)
            if not killed:
                break
        assert not failures, "\n\n".join(failures)
