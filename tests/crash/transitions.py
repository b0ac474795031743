"""What can happen to a sandbox, a key or the server: each is something to prepare, and to do until the server ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from tests.crash.world import CutError, World, wait_for

__all__ = ["TRANSITIONS", "Transition"]


@dataclass(frozen=True)
class Transition:
    """One of them.

    Attributes:
        prepare: done before, undisturbed; is given the world and the name of the sandbox.
        act: what the server is killed in; when it returns, the change is acknowledged.
        starts: `act` begins without a server.
        tail: what the server does afterwards is looked at too.
        agent: not the server is killed but the sandbox's agent.
        forgets: the sandbox may be as if nothing had been, acknowledged or not: it belongs to its caller's connection.
    """

    name: str
    prepare: Callable[[World, str], object]
    act: Callable[[World, str], object]
    starts: bool = False
    forgets: bool = False
    tail: bool = False
    agent: bool = False


def nothing(world: World, name: str) -> None:
    """There is nothing to prepare."""


def awake(world: World, name: str) -> None:
    """A sandbox with a bit of everything."""
    world.create(name, labels={"a": "b"}, env={"VALUE": "old"}, egress="pypi.org")
    world.run(name, "echo old > /workspace/old")
    world.box(name, "POST", "/ports", {"port": 9000, "token": "firstfirstfirst0"})


def asleep(world: World, name: str) -> None:
    awake(world, name)
    world.box(name, "POST", "/sleep")


def from_an_older_version(world: World, name: str) -> None:
    """Its files belong to the server's user."""
    asleep(world, name)
    folder = world.home / "sandboxes" / name
    first = (folder / "root").lstat().st_uid
    for place, folders, files in os.walk(folder):
        for each in (place, *(os.path.join(place, entry) for entry in (*folders, *files))):
            status = os.lstat(each)
            if status.st_uid >= first:
                os.lchown(each, status.st_uid - first, status.st_gid - first)


def exposed_twice(world: World, name: str) -> None:
    awake(world, name)
    world.box(name, "POST", "/ports", {"port": 9001, "token": "secondsecondsec0"})


def key(world: World, name: str) -> None:
    world.ask("POST", "/v1/keys", {"name": name, "tenant": "somebody"})


def stopped(world: World, name: str) -> None:
    """No server, and nothing that one would have left."""
    awake(world, name)
    world.kill(signal.SIGTERM)


def killed(world: World, name: str) -> None:
    """No server, and all that one leaves that is killed while rooms stand and one is being made."""
    awake(world, name)
    world.create(f"{name}-other")
    world.kill()


def without_templates(world: World, name: str) -> None:
    """The host's files have changed since: the layer that rooms share is to be made anew."""
    stopped(world, name)
    (layer,) = (world.home / "templates").iterdir()
    layer.rename(layer.with_name("0" * 16))
    (world.home / "token.secret").unlink()


def of_schema_4(world: World, name: str) -> None:
    """The registry is one of an older version."""
    stopped(world, name)
    with contextlib.closing(sqlite3.connect(world.home / "registry.db", isolation_level=None)) as database:
        database.execute("alter table sandboxes drop column egress")
        database.execute("alter table sandboxes drop column limits")
        database.execute("drop table secrets")
        database.execute("pragma user_version = 4")


def start(world: World, name: str) -> None:
    if not world.wait_until_ready():
        raise CutError


def stop(world: World, name: str) -> None:
    assert world.tracer is not None
    os.kill(world.pid, signal.SIGTERM)
    world.tracer.join()


def over(world: World, name: str) -> None:
    world.box(name, "POST", "/time-to-live", {"timeToLive": 1})
    assert world.tracer is not None
    world.tracer.wait_until(lambda: not (world.home / "sandboxes" / name).exists())


def idle(world: World, name: str) -> None:
    """The server puts it to sleep by itself."""
    world.create(name, sleepAfter=1)
    assert world.tracer is not None
    world.tracer.wait_until(lambda: not (world.home / "run" / f"{name}.sock").exists())


def anonymous(world: World, name: str) -> None:
    made = world.ask("POST", "/v1/sandboxes", {})
    world.run(made["id"], "echo x > /workspace/x")
    world.box(made["id"], "DELETE", "")


def revoke(world: World, name: str) -> None:
    (found,) = [key["id"] for key in world.ask("GET", "/v1/keys")["keys"] if key["name"] == name]
    world.ask("DELETE", f"/v1/keys/{found}")


def cell(world: World, name: str) -> None:
    """The server starts the zygote of kernels, and has one forked."""
    made = world.box(name, "POST", "/api/contexts", {"language": "python"})
    world.box(name, "DELETE", f"/api/contexts/{made['id']}")


def then_wait(world: World, name: str) -> None:
    """A room is made ahead after the one before was taken."""
    world.create(name)
    wait_for(lambda: not _answers(world) or any((world.home / "spare").glob("*/agent.log")))


def _answers(world: World) -> bool:
    return os.path.exists(f"/proc/{world.pid}/fd/0")


def write(world: World, name: str) -> None:
    world.box(name, "POST", "/api/write", {"path": "/workspace/old", "content": "new"})


def upload(world: World, name: str) -> None:
    """More than one piece of it."""
    world.box(name, "PUT", "/api/file?path=/workspace/old", bytes(3_000_000))


def command(world: World, name: str) -> None:
    """Takes its effect at once: a shell's own writes are not the server's."""
    world.run(name, "echo new > /workspace/new && mv /workspace/new /workspace/old")


def variables(world: World, name: str) -> None:
    world.box(name, "POST", "/api/env", {"env": {"VALUE": "new"}})


NEW = {"labels": {"a": "b"}, "env": {"VALUE": "new"}, "timeToLive": 10**9, "egress": "pypi.org"}
OTHERS = {"openFiles": 100_000, "processes": 100}

TRANSITIONS = [
    Transition("create", nothing, lambda w, n: w.create(n, **NEW), tail=True),
    Transition("create in a room of its own", nothing, lambda w, n: w.create(n, limits=OTHERS, **NEW)),
    Transition("anonymous", nothing, anonymous, forgets=True),
    Transition("wake", asleep, lambda w, n: w.box(n, "POST", "/wake")),
    Transition("wake by a command", asleep, lambda w, n: w.run(n, "echo new > /workspace/new")),
    Transition("wake of an older version's", from_an_older_version, lambda w, n: w.box(n, "POST", "/wake")),
    Transition("change", awake, lambda w, n: w.create(n, labels={"c": "d"}, keepAlive=True)),
    Transition("write", awake, write),
    Transition("upload", awake, upload),
    Transition("command", awake, command),
    Transition("variables", awake, variables),
    Transition("write, the agent killed", awake, write, agent=True),
    Transition("upload, the agent killed", awake, upload, agent=True),
    Transition("command, the agent killed", awake, command, agent=True),
    Transition("variables, the agent killed", awake, variables, agent=True),
    Transition("sleep", awake, lambda w, n: w.box(n, "POST", "/sleep")),
    Transition("idle", asleep, idle),
    Transition("destroy", awake, lambda w, n: w.box(n, "DELETE", "")),
    Transition("destroy asleep", asleep, lambda w, n: w.box(n, "DELETE", "")),
    Transition("time to live", awake, over),
    Transition("limits", awake, lambda w, n: w.box(n, "PUT", "/limits", {"processes": 77, "memory": 10**9})),
    Transition("egress", awake, lambda w, n: w.box(n, "PUT", "/egress", {"egress": "example.com"})),
    Transition("expose", awake, lambda w, n: w.box(n, "POST", "/ports", {"port": 9001, "token": "secondsecondsec0"})),
    Transition("unexpose", exposed_twice, lambda w, n: w.box(n, "DELETE", "/ports/9001")),
    Transition("key", nothing, key),
    Transition("revoke", key, revoke),
    Transition("cell", awake, cell),
    Transition("stop", awake, stop),
    Transition("start", stopped, start, starts=True, tail=True),
    Transition("start after a kill", killed, start, starts=True),
    Transition("start after a change of the host", without_templates, start, starts=True),
    Transition("start with an older registry", of_schema_4, start, starts=True),
]
