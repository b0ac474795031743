"""An agent that an attacker has: the server keeps its memory, its descriptors and its answers to others."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import pytest

from sandcove import SandboxError
from sandcove.server.questions import activity
from tests.answers import Answer
from tests.conftest import sandcove_home
from tests.faults.hostile import CHANNEL, ENDLESS, MALFORMED, SILENT, WRONG, serving_hostile
from tests.faults.server import Watched
from tests.lingering import LINGER
from tests.server.conftest import OnSocket, ask

pytestmark = pytest.mark.local("the server's agents are the test's, and its process is looked at")

BOUND = 24
"""MiB by which a server may grow, whatever an agent sends."""


@pytest.fixture(scope="module")
def server(capable: None) -> Iterator[Watched]:
    """A server whose sandboxes' agents are all hostile, with the sandboxes `bad` and `other`."""
    with sandcove_home() as home, serving_hostile(home, "--sleep-after=0") as pid:
        for name in ("bad", "other"):
            assert ask(home / "server.sock", "POST", "/v1/sandboxes", {"id": name}).status == 201
        ask(home / "server.sock", "GET", "/v1/sandboxes/bad/api/ping")
        yield Watched(home, pid)


def call(server: Watched, path: str, method: str = "GET", body: object = None) -> Answer | None:
    """The answer; None when it broke off."""
    try:
        return ask(server.home / "server.sock", method, path, body)
    except (HTTPException, ConnectionError):
        return None


def instead(server: Watched, target: str, name: str) -> None:
    """From now on `bad` answers requests of the server's to `target` so."""
    assert ask(server.home / "server.sock", "GET", f"/v1/sandboxes/bad/api/set?{target}={name}").status == 200


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_answer_is_an_error_or_breaks_off(server: Watched, name: str) -> None:
    with server.unharmed(BOUND):
        answer = call(server, f"/v1/sandboxes/bad/api/do/{name}")
    expected = {"half-body": None, "body-of-204": 204, "body-of-304": 304}.get(name, 503)
    if answer is None:
        # Where the head is right it may have been passed on before the rest came.
        assert name in {"half-body", "endless-extension", "endless-trailer", "huge-chunk", "bad-chunk"}
    else:
        assert answer.status == expected
    if answer is not None and answer.status == 503:
        assert answer.json["code"] == "CONTAINER_NOT_READY"
        assert "the sandbox ended during the call" in answer.json["error"]


def test_an_endless_answer_waits_for_its_reader(server: Watched) -> None:
    with server.unharmed(BOUND):
        reading = []
        for name in ENDLESS:
            connection = OnSocket(server.home / "server.sock")
            connection.request("GET", f"/v1/sandboxes/bad/api/do/{name}")
            assert connection.getresponse().read(100_000) is not None
            reading.append(connection)
        # Each has had the time to fill what buffers there are: this one has got through.
        assert call(server, "/v1/sandboxes/other/api/ping") is not None
        for connection in reading:
            connection.close()


def test_a_second_answer_is_nobody_elses(server: Watched) -> None:
    with server.unharmed(BOUND):
        for _ in range(5):
            first = call(server, "/v1/sandboxes/bad/api/smuggle")
            assert first is not None and first.body == b'"first"'
            for sandbox in ("bad", "other"):
                after = call(server, f"/v1/sandboxes/{sandbox}/api/ping")
                assert after is not None and b"smuggled" not in after.body


@pytest.mark.parametrize("name", [*WRONG, *MALFORMED, *ENDLESS])
def test_what_the_server_asks_for_itself_is_no_more_believed(server: Watched, name: str) -> None:
    instead(server, "/api/env", name)
    try:
        with server.unharmed(BOUND):
            answer = call(server, "/v1/sandboxes", "POST", {"id": "bad", "env": {"A": "b"}})
        # Answers whose status is good are not looked into: the agent knows best what variables it has.
        assert answer is not None and "internal error" not in answer.json.get("error", "")
    finally:
        instead(server, "/api/env", "none")


def test_whoever_says_nothing_is_not_waited_for_without_end(server: Watched) -> None:
    instead(server, "/api/env", "never")
    try:
        with server.unharmed(BOUND):
            start = time.monotonic()
            answer = call(server, "/v1/sandboxes", "POST", {"id": "bad", "env": {"A": "b"}})
            assert answer is not None and answer.json["code"] == "CONTAINER_NOT_READY"
            assert "did not answer within 5 s" in answer.json["error"] and time.monotonic() - start < 30
    finally:
        instead(server, "/api/env", "none")


@pytest.mark.parametrize("kind", [kind for kind in CHANNEL if kind != "none"])
def test_what_is_passed_instead_of_a_connection(server: Watched, kind: str) -> None:
    instead(server, "dial", kind)
    with server.unharmed(BOUND):
        start = time.monotonic()
        answer = call(server, "/v1/sandboxes/bad/proxy/8000/")
        assert answer is not None and answer.status == 502 and answer.json["code"] == "PORT_NOT_LISTENING"
        assert time.monotonic() - start < 20
    instead(server, "dial", "none")


def test_answers_that_nobody_asked_for_are_not_kept(server: Watched) -> None:
    with server.unharmed(BOUND), ThreadPoolExecutor(32) as side_by_side:
        calls = [side_by_side.submit(call, server, "/v1/sandboxes/bad/api/do/unasked") for _ in range(32)]
        answers = [each.result() for each in calls]
    assert [None if answer is None else answer.status for answer in answers] == [200] * 32


def test_messages_that_nobody_asked_for(server: Watched) -> None:
    with server.unharmed(BOUND):
        flood = call(server, "/v1/sandboxes/bad/api/do/flood")
        if flood is not None and flood.status == 503:
            # What the test before had sent unasked came on this connection.
            flood = call(server, "/v1/sandboxes/bad/api/do/flood")
        assert flood is not None and int(flood.body) > 300
        other = call(server, "/v1/sandboxes/other/api/ping")
        assert other is not None and other.status == 200
    assert server.descendants() < 80


@pytest.mark.parametrize("name", ["linger", "passing"])
def test_sockets_whose_close_waits_hold_nobody_up(server: Watched, name: str) -> None:
    with server.unharmed(BOUND):
        start = time.monotonic()
        passed = call(server, f"/v1/sandboxes/bad/api/do/{name}")
        other = call(server, "/v1/sandboxes/other/api/ping")
        assert passed is not None and passed.status == 200 and other is not None and other.status == 200
        assert time.monotonic() - start < LINGER / 2


def test_nothing_of_the_server_is_within_its_reach(server: Watched) -> None:
    seen = call(server, "/v1/sandboxes/bad/api/environ")
    assert seen is not None
    found = seen.json
    assert found["environ"] == {} and found["cwd"] == "/"
    for path in found["fds"].values():
        assert re.fullmatch(
            r"socket:\[\d+\]|pipe:\[\d+\]|/dev/null|.*/sandboxes/bad/(agent\.log|memory)|/proc/\d+/fd|/sys/fs/cgroup/.+|"
            r"/memfd:python \(deleted\)",
            path,
        )


def test_it_is_destroyed_and_the_others_go_on(server: Watched) -> None:
    for name in SILENT:
        made = call(server, "/v1/sandboxes", "POST", {"id": name})
        assert made is not None and made.status == 201
    with server.unharmed(BOUND):
        waiting = []
        for name in SILENT:
            connection = OnSocket(server.home / "server.sock")
            connection.request("GET", f"/v1/sandboxes/{name}/api/do/{name}")
            waiting.append(connection)
        for name in SILENT:
            start = time.monotonic()
            gone = call(server, f"/v1/sandboxes/{name}", "DELETE")
            assert gone is not None and gone.status == 200 and time.monotonic() - start < 20
        for connection in waiting:
            connection.close()


def test_fewer_processes_than_none_make_no_room_for_more(server: Watched) -> None:
    instead(server, "/api/activity", "negative-integers")
    try:
        with pytest.raises(SandboxError, match="answer that is none"):
            asyncio.run(activity(server.home / "run" / "bad.sock"))
    finally:
        instead(server, "/api/activity", "none")


def test_one_that_says_that_it_is_in_use_sleeps_when_it_is_told_to(server: Watched) -> None:
    instead(server, "/api/rest", "conflict")
    slept = call(server, "/v1/sandboxes/bad/sleep", "POST")
    assert slept is not None and slept.json["state"] == "asleep"
    woken = call(server, "/v1/sandboxes/bad/wake", "POST")
    assert woken is not None and woken.json["state"] == "running"


def test_the_time_to_sleep_survives_every_answer(capable: None) -> None:
    with sandcove_home() as home, serving_hostile(home, "--sleep-after=0.2") as pid:
        server = Watched(home, pid)
        sock = home / "server.sock"
        names = [*WRONG, "nothing", "garbage", "endless-body", "never"]
        for name in names:
            assert ask(sock, "POST", "/v1/sandboxes", {"id": name}).status == 201
            assert ask(sock, "GET", f"/v1/sandboxes/{name}/api/set?/api/activity={name}").status == 200
        with server.unharmed(BOUND):
            # It is looked at after those whose agents say something wrong, and sleeps all the same.
            assert ask(sock, "POST", "/v1/sandboxes", {"id": "good"}).status == 201
            ask(sock, "GET", "/v1/sandboxes/good/api/set?/api/activity=idle")
            until = time.monotonic() + 20
            while ask(sock, "GET", "/v1/sandboxes/good").json["state"] != "asleep":
                assert time.monotonic() < until
                os.sched_yield()


@pytest.mark.parametrize(
    ("target", "name", "most"),
    [
        ("/api/activity", "in-use", 4),
        ("/api/activity", "list", 4),
        ("/api/activity", "just-used", 24),
        ("/api/rest", "conflict", 4),
    ],
)
def test_it_is_not_looked_at_without_a_pause(capable: None, target: str, name: str, most: int) -> None:
    with sandcove_home() as home, serving_hostile(home) as pid:
        sock = home / "server.sock"
        assert ask(sock, "POST", "/v1/sandboxes", {"id": "bad"}).status == 201
        ask(sock, "GET", f"/v1/sandboxes/bad/api/set?{target}={name}")
        assert ask(sock, "POST", "/v1/sandboxes", {"id": "bad", "sleepAfter": 1}).status == 200
        before = int(ask(sock, "GET", "/v1/sandboxes/bad/api/looks").body)
        logged = len(Watched(home, pid).log().splitlines())
        time.sleep(2)  # how often something is done in a time is told by that time
        assert 1 <= int(ask(sock, "GET", "/v1/sandboxes/bad/api/looks").body) - before <= most
        assert len(Watched(home, pid).log().splitlines()) - logged <= most


@pytest.mark.alone
def test_seats_are_free_though_an_agent_says_nothing(capable: None) -> None:
    with sandcove_home() as home, serving_hostile(home, "--sleep-after=0", "--most-alive=4") as pid:
        sock = home / "server.sock"
        for name in ("a", "b", "c", "idle"):
            assert ask(sock, "POST", "/v1/sandboxes", {"id": name}).status == 201
            ask(sock, "GET", f"/v1/sandboxes/{name}/api/set?/api/activity={'idle' if name == 'idle' else 'never'}")
        with Watched(home, pid).unharmed(BOUND):
            start = time.monotonic()
            while ask(sock, "POST", "/v1/sandboxes", {"id": "new"}).status != 201:
                pass  # an agent that has said nothing for 1 s is not asked again before the others
            assert time.monotonic() - start < 12
            assert ask(sock, "GET", "/v1/sandboxes/idle").json["state"] == "asleep"
