"""Many lives: nothing grows. `SANDCOVE_STRESS=1` runs a thousand; without it a hundred tell enough."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench import processes
from sandcove import Sandbox, get_sandbox
from tests.server.conftest import ask

CYCLES = 1000 if os.environ.get("SANDCOVE_STRESS") == "1" else 100
WARM = 20
AT_ONCE = 4

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Footprint:
    """What a server holds when no sandbox lives."""

    descriptors: int
    processes: int
    mounts: int
    files: int


def footprint(home: Path) -> Footprint:
    pid = ask(home / "server.sock", "GET", "/v1/server").json["pid"]
    return Footprint(
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),
        processes=len(processes.of_home(home)),
        # Those of other programs come and go in the same namespace.
        mounts=Path(f"/proc/{pid}/mountinfo").read_text().count(f" {home}/"),
        files=sum(len(files) + len(folders) for _, folders, files in os.walk(home)),
    )


def memory(home: Path) -> float:
    return processes.proportional_memory(processes.of_home(home))


def test_cycles_of_create_and_destroy_leave_no_trace(served: Path) -> None:
    def cycle(number: int) -> None:
        with Sandbox() as box:
            assert box.exec(f"echo {number} > /workspace/f; sleep 1001 & cat /workspace/f").stdout == f"{number}\n"

    for number in range(WARM):
        cycle(number)
    before, used = footprint(served), memory(served)

    def cycles(first: int) -> None:
        for number in range(first, CYCLES, AT_ONCE):
            cycle(number)

    threads = [threading.Thread(target=cycles, args=(first,)) for first in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = footprint(served)
    # A room is kept ready ahead, which may be at any stage of its making when it is looked at; connections of four
    # threads stay open.
    assert after.descriptors <= before.descriptors + AT_ONCE + 12, (before, after)
    assert after.processes <= before.processes + 6, (before, after)
    assert after.mounts == before.mounts
    assert after.files <= before.files + 60, (before, after)
    assert memory(served) - used < 20
    assert list((served / "sandboxes").iterdir()) == []
    assert ask(served / "server.sock", "GET", "/v1/sandboxes").json["count"] == 0


def test_cycles_of_sleep_and_wake_leave_no_trace(served: Path) -> None:
    box = get_sandbox("napper")

    def cycle() -> None:
        box.exec("n=$((n + 1)); sleep 1001 &")
        box.sleep()

    for _ in range(WARM // 2):
        cycle()
    before = footprint(served)
    for _ in range(CYCLES // 4):
        cycle()
    after = footprint(served)
    assert after.descriptors <= before.descriptors + 4, (before, after)
    assert after.processes <= before.processes + 2, (before, after)
    assert after.files <= before.files + 10, (before, after)
    assert box.exec("echo $n").stdout == f"{WARM // 2 + CYCLES // 4}\n"
    box.destroy()


def test_cycles_of_commands_and_sessions_leave_no_trace(served: Path) -> None:
    with Sandbox() as box:

        def cycle(number: int) -> None:
            box.exec(f"exit {number % 3}")
            box.exec(["true"], cwd="/tmp", env={"A": "b"}, stdin="x")
            list(box.exec_stream("echo out"))
            session = box.create_session("short", isolation=number % 2 == 0)
            session.exec("sleep 1001 & echo on")
            box.delete_session("short")
            box.write_file("/tmp/f", "x")
            box.read_file("/tmp/f")

        def held() -> tuple[int, int]:
            lived = processes.of_sandbox(served, box.id)
            agent = min(processes.agents(lived))
            return len(os.listdir(f"/proc/{agent}/fd")), len(lived)

        for number in range(WARM):
            cycle(number)
        before = held()
        for number in range(CYCLES):
            cycle(number)
        after = held()
        assert after[0] <= before[0] + 3 and after[1] <= before[1] + 1, (before, after)
        assert box.exec("ls -A /run/sandcove/* | wc -l").stdout.strip().isdigit()


def test_many_at_once(served: Path) -> None:
    count = 50
    boxes = [Sandbox() for _ in range(count)]
    answers: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda n=n: answers.__setitem__(n, boxes[n].exec(f"echo {n}").stdout))
        for n in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: f"{n}\n" for n in range(count)}
    closing = [threading.Thread(target=box.close) for box in boxes]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()
    assert ask(served / "server.sock", "GET", "/v1/sandboxes").json["count"] == 0
