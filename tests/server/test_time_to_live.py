"""A sandbox with a time to live: it ends with it, in use or not, also while its server is away."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench import processes
from sandcove import InvalidRequestError, Sandbox, SandboxNotFoundError, get_sandbox, list_sandboxes
from sandcove.server.lives import Lives
from sandcove.server.registry import Record
from tests.server.conftest import Serving, ask, wait_for_its_end
from tests.tenants import Tcp, serving

OVER = "its time to live was over at 2"


@pytest.fixture(scope="module")
def tcp(capable: None) -> Iterator[Tcp]:
    with serving() as server:
        yield server


def test_a_life_is_as_long_as_the_clock_said_when_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    lives = Lives(0)
    record = Record("a", "", "", anonymous=False, sleep_after=0, expires_at=lives.end_of(300))
    lives.begin(record)
    assert lives.changed.is_set()
    earlier = time.time() - 1e6
    monkeypatch.setattr(time, "time", lambda: earlier)
    assert 0 < (lives.left(record) or 0) <= 0.3


def test_what_is_in_use_ends_too_and_every_call_is_told(tcp: Tcp) -> None:
    here = get_sandbox("busy")
    there = get_sandbox("busy", url=tcp.url, api_key=tcp.key("local").key)
    other = there.create_session("other")
    here.exec("touch /workspace/old; mkfifo /tmp/first /tmp/second")
    stream = iter(here.exec_stream("echo up > /tmp/first; cat /tmp/second"))
    with ThreadPoolExecutor() as pool:
        relayed = pool.submit(other.exec, "cat /tmp/first; echo up; cat /tmp/first")
        process = there.start_process("echo one; sleep 1001")
        logs = pool.submit(lambda: list(process.stream()))
        relayed_stream = iter(there.create_session("third").exec_stream("echo up; cat /tmp/second"))
        assert next(e.data for e in relayed_stream if e.type == "stdout") == "up\n"
        ends_at = here.set_time_to_live(0.2).expires_at
        assert ends_at is not None
        for call in (lambda: list(stream), relayed.result, logs.result, lambda: list(relayed_stream)):
            with pytest.raises(SandboxNotFoundError, match="'busy' was destroyed: " + OVER):
                call()
    assert time.time() >= ends_at.timestamp()
    for box in (here, there):
        with pytest.raises(SandboxNotFoundError, match=OVER):
            box.exec("true")
    refused = ask(tcp.home / "server.sock", "GET", "/v1/sandboxes/busy")
    assert (refused.status, refused.json["code"]) == (404, "SANDBOX_NOT_FOUND")
    assert processes.of_sandbox(tcp.home, "busy") == set()
    assert not (tcp.home / "sandboxes" / "busy").exists()
    with get_sandbox("busy") as fresh:
        assert fresh.exec("ls /workspace").stdout == ""
        assert fresh.info().expires_at is None
        fresh.destroy()
    refused = ask(tcp.home / "server.sock", "GET", "/v1/sandboxes/busy")
    assert refused.status == 404 and "over" not in refused.json["error"]


def test_an_end_that_is_put_off(tcp: Tcp) -> None:
    before = time.time()
    kept = Sandbox("put-off", time_to_live=0.4)
    kept.ping()
    first = kept.info().expires_at
    # It is told in whole milliseconds.
    assert first is not None and before + 0.399 <= first.timestamp() <= time.time() + 0.4
    later = kept.set_time_to_live(1000).expires_at
    assert later is not None and later.timestamp() > first.timestamp() + 900
    ending = get_sandbox("not-put-off", time_to_live=1000)
    ending.ping()
    get_sandbox("not-put-off", time_to_live=0.6).ping()  # another object's first call sets it anew
    with Sandbox(time_to_live=0.5) as anonymous:
        anonymous.ping()
        for box in (ending, anonymous):
            wait_for_its_end(tcp.home, box.id)
            with pytest.raises(SandboxNotFoundError, match=OVER):
                box.exec("true")
    assert kept.exec("echo on").stdout == "on\n"
    assert kept.set_time_to_live(0).expires_at is None
    asleep = get_sandbox("asleep-at-its-end")
    asleep.sleep()
    asleep.set_time_to_live(0.001)
    with pytest.raises(SandboxNotFoundError):
        while True:
            asleep.info()
    kept.destroy()


@pytest.mark.parametrize("value", [-1, 10**12 + 1, "1", None, 1.5, True])
def test_what_is_no_time(tcp: Tcp, value: object) -> None:
    server = tcp.home / "server.sock"
    with Sandbox() as box:
        box.ping()
        for target in (f"/v1/sandboxes/{box.id}/time-to-live", "/v1/sandboxes"):
            if value is not None or target != "/v1/sandboxes":
                refused = ask(server, "POST", target, {"timeToLive": value})
                assert (refused.status, refused.json["code"]) == (400, "INVALID_REQUEST"), target
        assert box.info().expires_at is None
    assert ask(server, "POST", "/v1/sandboxes/nobody/time-to-live", {"timeToLive": 1}).status == 404


def test_it_outlasts_the_server_which_may_have_a_longest(serve: Callable[..., Serving], fresh_home: Path) -> None:
    serving = serve("--longest-life=1000")
    serving.wait_until_it_serves()
    box = get_sandbox("long")
    ends_at = box.wake().expires_at
    assert ends_at is not None and 990 < ends_at.timestamp() - time.time() <= 1000
    for wrong in (0, 1000.001):
        with pytest.raises(InvalidRequestError, match=r"at most 1000000 ms \(longest_life\)"):
            box.set_time_to_live(wrong)
        with pytest.raises(InvalidRequestError, match="longest_life"):
            get_sandbox("another", time_to_live=wrong).ping()
    over = get_sandbox("over", keep_alive=True)
    over.write_file("/workspace/f", "x")
    serving.process.send_signal(signal.SIGKILL)
    serving.process.wait()
    assert processes.all_gone(fresh_home, within=10) == {}
    with sqlite3.connect(fresh_home / "registry.db") as registry:
        registry.execute("update sandboxes set expires_at = 1000000000 where id = 'over'")
    registry.close()
    assert [(info.id, info.expires_at) for info in list_sandboxes()] == [("long", ends_at)]
    assert not (fresh_home / "sandboxes" / "over").exists()
    with pytest.raises(SandboxNotFoundError, match="its time to live was over at 2001-09-09"):
        over.exec("true")
    assert box.set_time_to_live(0).expires_at is None  # this server has no longest
