"""SIGSTOP to what a sandbox is made of: it is destroyed all the same, others go on, and what is let go on does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from bench import processes
from sandcove import Sandbox, get_sandbox
from tests.server.conftest import ask, server_pid
from tests.server.test_kills import zygote_pid

pytestmark = pytest.mark.local("signals to processes of the server's")

T = TypeVar("T")
WHO = ("the first process", "bwrap", "the agent", "the first process of user code", "all")


@contextmanager
def stopped(pids: Iterable[int]) -> Iterator[None]:
    """Meanwhile none of them does anything."""
    chosen = list(pids)
    assert chosen
    try:
        for pid in chosen:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in chosen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def parts(home: Path, sandbox_id: str) -> dict[str, list[int]]:
    """The processes of an idle sandbox, by what they are."""
    all_of_it = processes.of_sandbox(home, sandbox_id)
    agent, init = sorted(processes.agents(all_of_it))
    programs = {pid: os.readlink(f"/proc/{pid}/exe") for pid in all_of_it}
    return {
        "the first process": [pid for pid, program in programs.items() if "sandcove-room" in program],
        "bwrap": [pid for pid, program in programs.items() if "bwrap" in program],
        "the agent": [agent],
        "the first process of user code": [init],
        "all": list(all_of_it),
    }


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """What it gives, and the seconds that it took."""
    start = time.monotonic()
    return call(), time.monotonic() - start


def test_a_room_that_is_stopped_is_ended(served: Path) -> None:
    boxes = {who: get_sandbox(f"stopped-{number}") for number, who in enumerate(WHO)}
    for box in boxes.values():
        box.exec("kept=1")
    chosen = [pid for who, box in boxes.items() for pid in parts(served, str(box.id))[who]]
    sock = served / "server.sock"
    with Sandbox() as other, ThreadPoolExecutor(len(boxes) * 2) as side_by_side:
        other.exec("true")
        with stopped(chosen):
            sleep = side_by_side.submit(timed, lambda: ask(sock, "POST", f"/v1/sandboxes/{boxes['all'].id}/sleep"))
            ends = [side_by_side.submit(timed, box.destroy) for who, box in boxes.items() if who != "all"]
            for _ in range(20):
                assert timed(lambda: other.exec("echo on").stdout)[1] < 5
            assert max(end.result(20)[1] for end in ends) < 15
            answer, seconds = sleep.result(30)
            # 5 s for the agent to get ready, 2 s for the room to end by itself.
            assert answer.json["state"] == "asleep" and seconds < 20
        assert boxes["all"].exec("echo on").stdout == "on\n"
        boxes["all"].destroy()
        assert os.listdir(served / "sandboxes") == [other.id]


def test_a_call_waits_for_an_agent_that_is_stopped_and_ends_when_that_goes_on(served: Path) -> None:
    with get_sandbox("waits") as box, ThreadPoolExecutor(2) as side_by_side:
        box.exec("kept=1")
        with stopped(parts(served, "waits")["the agent"]):
            waiting = side_by_side.submit(lambda: box.exec("echo $kept").stdout)
            assert ask(served / "server.sock", "GET", "/v1/sandboxes/waits").json["state"] == "running"
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
        assert waiting.result(30) == "1\n"
        box.destroy()


def test_a_server_stops_though_rooms_are_stopped(served: Path) -> None:
    box = get_sandbox("stays")
    box.exec("echo kept > /workspace/f; sync /workspace/f")
    with stopped(parts(served, "stays")["bwrap"]):
        assert ask(served / "server.sock", "POST", "/v1/server/stop").status == 200
        assert processes.all_gone(served, within=20) == {}
    assert box.exec("cat /workspace/f").stdout == "kept\n"
    box.destroy()


def test_zygotes_that_are_stopped_are_replaced(served: Path) -> None:
    with Sandbox() as box, ThreadPoolExecutor(2) as side_by_side:
        assert box.run_code("6 * 7").text == "42"
        first = zygote_pid(served)
        zygotes = [pid for pid in processes.of_home(served) if processes._parent(pid) == server_pid(served)]
        zygotes = [pid for pid in zygotes if processes._program(pid).startswith(("python", "memfd:python"))]
        assert first in zygotes and len(zygotes) == 2
        with stopped(zygotes):
            create = side_by_side.submit(lambda: [Sandbox() for _ in range(2)][-1].exec("echo new").stdout)
            context = side_by_side.submit(lambda: box.create_code_context(language="python"))
            for _ in range(20):
                assert timed(lambda: box.exec("echo on").stdout)[1] < 5
            assert create.result(30) == "new\n"
            assert box.run_code("6 * 7", context=context.result(30)).text == "42"
        assert zygote_pid(served) != first
