"""Limits of a key: sandboxes, those awake, commands at once, requests a second."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandcove.errors import RateLimitedError
from sandcove.server.database import Database
from sandcove.server.keys import Keys
from sandcove.server.quotas import Quotas
from sandcove.wire.keys import CreateKey, Limits
from tests.answers import Answer, visit
from tests.tenants import Tcp, serving


@pytest.fixture(scope="module")
def tcp(capable: None) -> Iterator[Tcp]:
    with serving() as server:
        yield server


def refused(answer: Answer) -> bool:
    return (answer.status, answer.json.get("code")) == (403, "QUOTA_EXCEEDED")


def test_sandboxes(tcp: Tcp) -> None:
    key = tcp.key("count", limits=Limits(sandboxes=2)).key
    assert [tcp.ask("POST", "/v1/sandboxes", key, {"id": name}).status for name in "ab"] == [201, 201]
    assert refused(tcp.ask("POST", "/v1/sandboxes", key, {"id": "c"}))
    assert refused(tcp.ask("POST", "/v1/sandboxes", key, {}))
    assert tcp.ask("POST", "/v1/sandboxes", key, {"id": "a"}).status == 200
    assert tcp.ask("DELETE", "/v1/sandboxes/a", key).status == 200
    assert tcp.ask("POST", "/v1/sandboxes", key, {"id": "c"}).status == 201
    free = tcp.key("count").key  # of the same tenant, without a limit
    assert tcp.ask("POST", "/v1/sandboxes", free, {"id": "d"}).status == 201


def test_alive_ones_also_when_they_come_at_once(tcp: Tcp) -> None:
    key = tcp.key("alive", limits=Limits(alive=2)).key
    answers: list[Answer] = []

    def create(name: str) -> None:
        answers.append(tcp.ask("POST", "/v1/sandboxes", key, {"id": name}))

    threads = [threading.Thread(target=create, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answer.status for answer in answers) == [201, 201, 403, 403, 403, 403]
    alive = [box["id"] for box in tcp.ask("GET", "/v1/sandboxes", key).json["sandboxes"]]
    assert len(alive) == 2  # nothing is left of those that were refused
    tcp.ask("POST", f"/v1/sandboxes/{alive[0]}/sleep", key)
    assert tcp.ask("POST", "/v1/sandboxes", key, {"id": "other"}).status == 201
    for method, rest in (("POST", "/wake"), ("GET", "/api/ping")):
        assert refused(tcp.ask(method, f"/v1/sandboxes/{alive[0]}{rest}", key))
    token = tcp.ask("POST", f"/v1/sandboxes/{alive[0]}/tokens", key, {}).json["token"]
    assert refused(tcp.ask("GET", f"/v1/with/{token}/api/ping"))


def test_a_visit_to_a_preview_wakes_no_more_than_a_key_may_have(tcp: Tcp) -> None:
    key = tcp.key("visited", limits=Limits(alive=1)).key
    tcp.key("visited", limits=Limits(alive=0))
    ended = tcp.key("visited")
    tcp.local().revoke_key(ended.id)  # it had no limit
    tcp.ask("POST", "/v1/sandboxes", key, {"id": "visited"})
    url = tcp.ask("POST", "/v1/sandboxes/visited/ports", key, {"port": 8000}).json["url"]
    tcp.ask("POST", "/v1/sandboxes/visited/sleep", key)
    assert tcp.ask("POST", "/v1/sandboxes", key, {"id": "other"}).status == 201
    for answer in (visit(url), tcp.ask("GET", "/v1/sandboxes/visited/proxy/8000/", key)):
        assert (answer.status, answer.json["code"]) == (503, "QUOTA_EXCEEDED")
    assert tcp.ask("GET", "/v1/sandboxes/visited", key).json["state"] == "asleep"
    tcp.ask("POST", "/v1/sandboxes/other/sleep", key)
    assert visit(url).json["code"] == "PORT_NOT_LISTENING"
    assert tcp.ask("GET", "/v1/sandboxes/visited", key).json["state"] == "running"


def test_commands_at_once(tcp: Tcp) -> None:
    key = tcp.key("execs", limits=Limits(execs=1)).key
    tcp.ask("POST", "/v1/sandboxes", key, {"id": "x"})
    target = "/v1/sandboxes/x/api/execute"
    for _ in range(3):
        assert tcp.ask("POST", target, key, {"command": "true"}).status == 200
    answers: list[Answer] = []

    def run() -> None:
        answers.append(tcp.ask("POST", target, key, {"command": "touch up; until [ -e go ]; do sleep 0.05; done"}))

    thread = threading.Thread(target=run)
    thread.start()
    other = tcp.key("execs").key
    tcp.ask("POST", "/v1/sandboxes/x/api/session/create", other, {"id": "second"})
    waiting = {"command": "until [ -e /workspace/up ]; do sleep 0.05; done", "id": "second", "timeout": 20000}
    assert tcp.ask("POST", target, other, waiting).json["exitCode"] == 0
    for rest in ("execute", "execute/stream", "execute/code"):
        body = {"code": "1"} if rest.endswith("code") else {"command": "true"}
        assert refused(tcp.ask("POST", f"/v1/sandboxes/x/api/{rest}", key, body)), rest
    assert tcp.ask("GET", "/v1/sandboxes/x/api/ping", key).status == 200
    assert tcp.ask("POST", target, other, {"command": "touch /workspace/go", "id": "second"}).json["exitCode"] == 0
    thread.join(30)
    assert answers[0].json["exitCode"] == 0
    assert tcp.ask("POST", target, key, {"command": "true"}).status == 200


def test_background_processes(tcp: Tcp) -> None:
    key = tcp.key("processes", limits=Limits(execs=2)).key
    for name in "ab":
        tcp.ask("POST", "/v1/sandboxes", key, {"id": name})
    answers: list[Answer] = []

    def start(number: int) -> None:
        body = {"command": "sleep 1001"}
        answers.append(tcp.ask("POST", f"/v1/sandboxes/{'ab'[number % 2]}/api/process/start", key, body))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answer.status for answer in answers) == [200, 200, 403, 403, 403, 403]
    assert all(refused(answer) for answer in answers if answer.status == 403)
    for name in "ab":
        assert tcp.ask("DELETE", f"/v1/sandboxes/{name}/api/process/kill-all", key).status == 200
    start(7)
    assert answers[-1].status == 200
    # Nobody else's count.
    free = tcp.key("processes").key
    for _ in range(2):
        body = {"command": "sleep 1001"}
        assert tcp.ask("POST", "/v1/sandboxes/a/api/process/start", free, body).status == 200


def test_requests_a_second(tcp: Tcp) -> None:
    key = tcp.key(limits=Limits(rate=0.01, burst=3)).key
    answers = [tcp.ask("GET", "/v1/sandboxes", key) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    told = answers[3]
    assert (told.json["code"], told.json["begun"]) == ("RATE_LIMITED", False)
    assert 90 < told.json["retryAfter"] <= 100.001
    assert told.json["retryAfter"] <= int(told.headers["retry-after"]) <= 101
    assert tcp.ask("GET", "/v1/sandboxes", tcp.key().key).status == 200


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("rate", "burst", "size"), [(2.0, None, 2), (0.5, None, 1), (2.0, 5, 5), (50.0, 1, 1)])
def test_the_bucket(tmp_path: Path, rate: float, burst: int | None, size: int) -> None:
    keys = Keys(Database(tmp_path / "db"))
    clock = Clock()
    quotas = Quotas(keys, clock)
    key, _ = keys.create(CreateKey(limits=Limits(rate=rate, burst=burst)))

    def taken() -> int:
        count = 0
        with pytest.raises(RateLimitedError) as caught:
            while count < 100:
                quotas.take(key.id)
                count += 1
        assert 0 < (caught.value.retry_after or 0) <= 1 / rate + 0.001
        return count

    assert taken() == size
    clock.now += 0.9 / rate
    assert taken() == 0
    clock.now += 0.2 / rate
    assert taken() == 1
    clock.now += 3600
    assert taken() == size
