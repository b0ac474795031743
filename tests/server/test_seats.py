"""At most so many sandboxes are awake: the least recently used one sleeps for another, and none that must not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sandcove import Sandbox, get_sandbox, list_sandboxes
from tests.conftest import sandcove_home
from tests.server.conftest import ask
from tests.tenants import serving_in

MOST = 3
HOLDS = """
import socket
listener = socket.create_server(("", 8000))
while True:
    visitor, _ = listener.accept()
    if visitor.recv(1):
        print("visited", flush=True)
        visitor.recv(1 << 16), visitor.recv(1)
"""


@pytest.fixture(scope="module")
def crowded(capable: None) -> Iterator[Path]:
    with sandcove_home() as home, serving_in(home, f"--most-alive={MOST}"):
        yield home


@pytest.fixture
def server(crowded: Path) -> Iterator[Path]:
    yield crowded / "server.sock"
    for info in list_sandboxes():
        get_sandbox(info.id).destroy()


def states() -> dict[str, str]:
    return {info.id: info.state for info in list_sandboxes()}


def test_the_least_recently_used_sleeps(server: Path) -> None:
    boxes = {name: get_sandbox(name) for name in "abc"}
    for box in boxes.values():
        box.exec("n=kept")
    # The server does not see these calls.
    for name in "cab":
        boxes[name].exec("true")
        # Agents are asked one after the other: what they say is as exact as the machine is quick.
        time.sleep(0.4)
    # It takes until that one has been idle for a second.
    get_sandbox("d").ping()
    assert states() == {"a": "running", "b": "running", "c": "asleep", "d": "running"}
    # To wake one takes a seat too.
    assert boxes["c"].exec("echo $n").stdout == "kept\n"
    assert states() == {"a": "asleep", "b": "running", "c": "running", "d": "running"}


def test_what_is_in_use_or_anonymous_or_kept_alive_does_not_sleep(server: Path) -> None:
    kept = get_sandbox("kept", keep_alive=True)
    kept.ping()
    busy = get_sandbox("busy")
    stream = iter(busy.exec_stream("echo up; sleep 1001"))
    assert next(stream).type == "start"
    with Sandbox() as anonymous:
        anonymous.ping()
        for body in ({"id": "more"}, {}):
            refused = ask(server, "POST", "/v1/sandboxes", body)
            assert (refused.status, refused.json["code"], refused.json["begun"]) == (503, "SERVICE_UNAVAILABLE", False)
            assert "most_alive" in refused.json["error"] and refused.json["retryAfter"] == 1.0
        assert states() == {"kept": "running", "busy": "running", anonymous.id: "running"}
    # One that is destroyed leaves its seat, and one that is in use by a visitor keeps it.
    page = get_sandbox("page")
    url = page.expose_port(8000).url
    page.write_file("server.py", HOLDS)
    service = page.start_process("python3 server.py")
    service.wait_for_port(8000, timeout=30)
    host = urlsplit(url).netloc
    with socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2]))) as visitor:
        visitor.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        service.wait_for_log("visited", timeout=30)
        assert ask(server, "POST", "/v1/sandboxes", {"id": "more"}).status == 503
        stream.close()
        get_sandbox("more").ping()
        assert states() == {"kept": "running", "busy": "asleep", "page": "running", "more": "running"}


def test_many_at_once_get_as_many_seats_as_there_are(server: Path) -> None:
    answers: list[int] = []

    def create(number: int) -> None:
        answers.append(ask(server, "POST", "/v1/sandboxes", {"id": f"n{number}"}).status)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == [201] * MOST + [503] * (8 - MOST)
    assert list(states().values()) == ["running"] * MOST


def test_throw_away_ones_take_turns(server: Path) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            for _ in range(3):
                with Sandbox() as box:
                    assert box.exec("echo $((6 * 7))").stdout == "42\n"
        except BaseException as error:  # noqa: BLE001 - looked at below
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(MOST)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
