"""The same request to the agent's own socket, through the server's relay, and to the reference server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from bench.harness import Row, Samples, timed
from bench.plain_http import Connection, on_unix
from bench.rooms import own_home
from bench.seed import SESSION, seed

__all__ = ["Sides", "sides"]

PEER = "reference server, its TCP loopback"
IN_A_ROW = 25
DROPPED = 5


class Sides:
    """One kept connection to each. On all sides the session `SESSION` is in the folder ``/workspace``."""

    def __init__(self, connections: Mapping[str, Connection]) -> None:
        self._connections = connections

    def each(self, action: Callable[[Connection], object]) -> None:
        """Does it on every side, unmeasured. Ours both lead to one sandbox."""
        for name, connection in self._connections.items():
            if name != "relay":
                action(connection)

    def compare(
        self, question: str, action: Callable[[Connection], object], times: int, most_ratio: float | None = None
    ) -> Iterator[Row]:
        """Measures it on each side `times` times: a row for the agent's socket, and one for the relay.

        They take turns by `IN_A_ROW` calls, of which the first are dropped: when it has answered, the reference server
        still has to clear up, and whoever came next would pay for it.
        """
        values: dict[str, list[float]] = {name: [] for name in self._connections}
        # One turn more than is kept warms everything up.
        while len(values["seed"]) < times + IN_A_ROW - DROPPED:
            for name, connection in self._connections.items():
                row = [timed(lambda to=connection: action(to))() for _ in range(IN_A_ROW)]  # type: ignore[misc]
                values[name] += row[DROPPED:]
        found = {name: Samples(each[len(each) - times :]) for name, each in values.items()}
        for way, name in (("agent", "the agent's socket"), ("relay", "the relay")):
            yield Row(f"{question}, {name}", "ms", found[way], PEER, found["seed"], most_ratio=most_ratio)


@contextmanager
def sides() -> Iterator[Sides | None]:
    """All sides, started; None when the reference server can't be had."""
    from sandcove import Sandbox
    from sandcove.home import Home

    with seed() as peer:
        if peer is None:
            yield None
            return
        with own_home() as folder, Sandbox() as sandbox:
            home = Home(folder)
            name = sandbox.info().id
            sandbox.create_session(SESSION)
            with (
                on_unix(str(home.agent_socket(name))) as agent,
                on_unix(str(home.server_socket), f"/v1/sandboxes/{name}") as relay,
                peer.connect() as theirs,
            ):
                yield Sides({"agent": agent, "seed": theirs, "relay": relay})
