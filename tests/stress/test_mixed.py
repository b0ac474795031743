"""A day in seconds: clients of both kinds do everything at once, some are killed midway, and nothing is wrong or left.

`SANDCOVE_STRESS=1` runs 10,000 operations; without it 2,000 tell enough. A failure prints its seed: with
`SANDCOVE_SEED` set to it the clients choose the same operations again.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from bench import processes
from sandcove import get_sandbox, list_sandboxes
from tests.server.conftest import ask
from tests.stress.client import SHARED, WEIGHTS
from tests.stress.test_cycles import footprint, memory

FULL = os.environ.get("SANDCOVE_STRESS") == "1"
OPERATIONS = 10_000 if FULL else 2_000
LIMIT = 1_500.0 if FULL else 300.0
"""Seconds after which something hangs: several times what a busy machine takes."""
CLIENTS = 20
ONE_IN = 100
"""Operations for one kill."""
LONGEST_ANSWER = 2.0
ROOT = os.geteuid() == 0

pytestmark = [pytest.mark.alone, pytest.mark.timeout(LIMIT + 120)]


@dataclass
class Running:
    """A client's process."""

    number: int
    generation: int
    left: int
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    operation: str = "start"
    since: float = field(default_factory=time.monotonic)
    unread: bytes = b""
    victim: bool = False


class Crowd:
    """The clients: each has its share of the operations, and one that was killed is replaced for the rest of it."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed = seed
        self._folder = folder
        self._rng = random.Random(seed)
        self._selector = selectors.DefaultSelector()
        self._kills: list[tuple[float, Running]] = []
        self.done = self.killed = 0
        self._ripe = set(self._rng.sample(range(CLIENTS, OPERATIONS), OPERATIONS // ONE_IN))
        for number in range(CLIENTS):
            self._start(number, 0, OPERATIONS // CLIENTS)

    def _start(self, number: int, generation: int, count: int) -> None:
        kind = "async" if number % 2 else "sync"
        errors = (self._folder / f"{number}-{generation}.err").open("w+b")
        arguments = [str(number), kind, f"{self._seed}-{number}-{generation}", str(count), str(self._folder)]
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "tests.stress.client", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        self._selector.register(
            process.stdout, selectors.EVENT_READ, Running(number, generation, count, process, errors)
        )

    def run(self, deadline: float) -> None:
        """Until all have done their share.

        Raises:
            AssertionError: a client found a wrong result, or hangs.
        """
        while clients := self._clients():
            due = min([deadline, *(when for when, _ in self._kills)])
            for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
                self._hear(key.data)
            now = time.monotonic()
            for when, client in list(self._kills):
                if when <= now:
                    self._kills.remove((when, client))
                    client.victim = True
                    client.process.kill()
            assert now < deadline, f"hangs:\n{self._where(clients)}"

    def _clients(self) -> list[Running]:
        return [key.data for key in self._selector.get_map().values()]

    def _hear(self, client: Running) -> None:
        assert client.process.stdout is not None
        data = os.read(client.process.stdout.fileno(), 65536)
        if not data:
            self._ended(client)
            return
        *words, client.unread = (client.unread + data).split(b"\n")
        for word in words:
            if client.operation in WEIGHTS:
                self.done += 1
                client.left -= 1
                if self.done in self._ripe:
                    # It has just begun with something.
                    self._kills.append((time.monotonic() + self._rng.uniform(0, 0.03), client))
            client.operation, client.since = word.decode(), time.monotonic()

    def _ended(self, client: Running) -> None:
        assert client.process.stdout is not None
        self._selector.unregister(client.process.stdout)
        client.process.stdout.close()
        self._kills = [(when, victim) for when, victim in self._kills if victim is not client]
        code = client.process.wait()
        if code == 0:
            client.errors.close()
            return
        assert client.victim and code == -signal.SIGKILL, f"client {client.number}: {code}\n{self._told(client)}"
        client.errors.close()
        self.killed += 1
        self._start(client.number, client.generation + 1, client.left)

    def _told(self, client: Running) -> str:
        client.errors.seek(0)
        return f"in {client.operation}: {client.errors.read()[-6000:].decode(errors='replace')}"

    def _where(self, clients: list[Running]) -> str:
        for client in clients:
            client.process.send_signal(signal.SIGUSR1)
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.process.wait(0.2)
        now = time.monotonic()
        return "\n".join(f"{c.number} for {now - c.since:.0f} s {self._told(c)}" for c in clients)

    def close(self) -> None:
        for client in self._clients():
            client.process.kill()
            client.process.wait()
            assert client.process.stdout is not None
            client.process.stdout.close()
            client.errors.close()
        self._selector.close()


@pytest.fixture
def seed() -> int:
    chosen = int(os.environ.get("SANDCOVE_SEED") or secrets.randbits(32))
    print(f"SANDCOVE_SEED={chosen}")
    return chosen


def held(home: Path, sandbox_id: str) -> tuple[int, int]:
    """An agent's descriptors (0 for an ordinary user, who may not look), and the processes of its sandbox."""
    lived = processes.of_sandbox(home, sandbox_id)
    descriptors = os.listdir(f"/proc/{min(processes.agents(lived))}/fd") if ROOT else []
    return len(descriptors), len(lived)


def test_mixed_work_of_many_clients_is_right_and_leaves_nothing(served: Path, tmp_path: Path, seed: int) -> None:
    shared = get_sandbox(SHARED)
    shared.exec("true")
    shared.create_session("warm").exec("true")
    shared.delete_session("warm")
    before, used, agent = footprint(served), memory(served) if ROOT else 0.0, held(served, SHARED)
    crowd = Crowd(seed, tmp_path)
    began = time.monotonic()
    try:
        crowd.run(began + LIMIT)
    finally:
        crowd.close()
    print(f"{crowd.done} operations and {crowd.killed} kills took {time.monotonic() - began:.1f} s")
    assert crowd.done >= OPERATIONS - CLIENTS - crowd.killed
    # Those of clients that were killed are destroyed when the server sees their leases end.
    deadline = time.monotonic() + 30
    while any(info.id.startswith("sb-") for info in list_sandboxes()):
        assert time.monotonic() < deadline, list_sandboxes()
    names = {info.id for info in list_sandboxes()}
    assert {path.name for path in (served / "sandboxes").iterdir()} == names
    for name in sorted(names):
        box = get_sandbox(name)
        box.exec("true")
        asked = time.monotonic()
        box.ping()
        box.exec("true")
        assert time.monotonic() - asked < LONGEST_ANSWER
        box.kill_all_processes()
        box.cleanup_completed_processes()
        for session in box.list_sessions():
            if session != "default":
                box.delete_session(session)
    assert held(served, SHARED)[0] <= agent[0] + 6, (agent, held(served, SHARED))
    assert held(served, SHARED)[1] <= agent[1] + 1, (agent, held(served, SHARED))
    logs = {log: log.read_text() for log in [served / "server.log", *served.glob("sandboxes/*/agent.log")]}
    assert not [(log, text[-3000:]) for log, text in logs.items() if "Traceback" in text or "preloaded" in text]
    for name in sorted(names):
        get_sandbox(name).destroy()
    after = footprint(served)
    assert list((served / "sandboxes").iterdir()) == []
    assert after.descriptors <= before.descriptors + 12, (before, after)
    assert after.processes <= before.processes + 6, (before, after)
    assert after.mounts == before.mounts
    assert after.files <= before.files + 60, (before, after)
    if ROOT:
        assert memory(served) - used < 40
    assert ask(served / "server.sock", "GET", "/v1/sandboxes").json["count"] == 0
