"""Cells by the wire, which is the same for ours and for the reference server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.harness import timed
from bench.plain_http import Connection, on_unix
from bench.rooms import own_home
from bench.seed import seed

__all__ = ["SEED", "create", "delete", "first", "in_home", "ours", "run", "with_seed"]

SEED = "reference server"


def create(connection: Connection, language: str = "python") -> str:
    """Makes a context; gives its id."""
    return str(json.loads(connection.call("POST", "/api/contexts", {"language": language}))["id"])


def run(connection: Connection, context: str, code: str) -> bytes:
    """Runs a cell to its end; gives all lines of the answer.

    Raises:
        RuntimeError: the cell raised.
    """
    lines = connection.call("POST", "/api/execute/code", {"context_id": context, "code": code})
    if b'"ename"' in lines:
        raise RuntimeError(lines[-2000:].decode(errors="replace"))
    return lines


def delete(connection: Connection, context: str) -> None:
    connection.call("DELETE", f"/api/contexts/{context}")


def first(connection: Connection, language: str, code: str) -> Callable[[], float]:
    """Milliseconds of a new context and its first cell; the context is deleted afterwards, unmeasured."""

    def measure() -> float:
        made: list[str] = []

        def action() -> None:
            made.append(create(connection, language))
            run(connection, made[0], code)

        took = timed(action)()
        delete(connection, made[0])
        return took

    return measure


@contextmanager
def in_home(folder: Path) -> Iterator[tuple[Connection, str]]:
    """A connection to the agent of a new sandbox in a Sandcove folder that the SDK uses, and the sandbox's id."""
    from sandcove import Sandbox
    from sandcove.home import Home

    with Sandbox() as sandbox:
        name = sandbox.info().id
        with on_unix(str(Home(folder).agent_socket(name))) as connection:
            yield connection, name


@contextmanager
def ours() -> Iterator[Connection]:
    """The same in a folder of its own."""
    with own_home() as folder, in_home(folder) as (connection, _):
        yield connection


@contextmanager
def with_seed() -> Iterator[tuple[Connection, Connection | None]]:
    """The same, and a connection to the reference server, if that can be had here."""
    with ours() as own, seed() as peer:
        if peer is None:
            yield own, None
            return
        with peer.connect() as theirs:
            yield own, theirs
