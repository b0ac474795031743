"""Exposing ports: what becomes of them, and of what goes through them."""

from __future__ import annotations

import http.client
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandcove import (
    InvalidRequestError,
    PortAlreadyExposedError,
    PortNotExposedError,
    Sandbox,
)
from tests.conftest import COMMAND, MakeSandbox, making
from tests.previews.conftest import Wire, preview_of, start_service
from tests.server.conftest import OnSocket, ask, server_pid


def test_a_port_is_exposed_and_taken_back(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox()
    start_service(box, 3000)
    assert box.get_exposed_ports() == []
    exposed = box.expose_port(3000, name="web")
    assert (exposed.port, exposed.name, exposed.public) == (3000, "web", False)
    preview = preview_of(box, exposed)
    assert re.fullmatch(rf"3000-{box.id}-[a-z2-7]{{26}}", preview.label)
    assert preview.get("/echo").status == 200
    assert box.get_exposed_ports() == [exposed]
    with pytest.raises(PortAlreadyExposedError, match="port 3000 is exposed already") as caught:
        box.expose_port(3000)
    assert caught.value.status == 409
    other = box.expose_port(65535, public=True)
    assert other.url == f"http://65535-{box.id}.localhost:{preview.tcp}/" and other.public
    assert [port.port for port in box.get_exposed_ports()] == [3000, 65535]
    box.unexpose_port(3000)
    assert box.get_exposed_ports() == [other]
    with pytest.raises(PortNotExposedError, match="port 3000 is not exposed"):
        box.unexpose_port(3000)
    again = box.expose_port(3000)
    assert again.url != exposed.url
    # The old address is as wrong as any other.
    assert preview.get("/echo").status == 404
    assert preview_of(box, again).get("/echo").status == 200


def test_a_session_exposes_ports_of_its_sandbox(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox()
    exposed = box.create_session("other").expose_port(1)
    assert box.get_exposed_ports() == [exposed]


def test_what_can_t_be_exposed(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox("a-name-of-thirty-three-characters")
    for port in (0, -1, 65536, "3000", None, True):
        with pytest.raises(InvalidRequestError, match="port"):
            box.expose_port(port)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="may have 30 characters, not 33"):
        box.expose_port(10000)
    for token in ("short", "x" * 41, "Upper-case-and-hyphens", ""):
        with pytest.raises(InvalidRequestError, match="token is 16 to 40 characters"):
            box.expose_port(3000, token=token)
    with pytest.raises(InvalidRequestError, match="give public or token"):
        box.expose_port(3000, token="a" * 16, public=True)
    for name in ("", "x" * 129, "two\nlines"):
        with pytest.raises(InvalidRequestError, match="name is 1 to 128"):
            box.expose_port(3000, name=name)
    assert box.get_exposed_ports() == []
    assert "3000-a-name-of-thirty-three-characters-aaaaaaaaaaaaaaaa." in box.expose_port(3000, token="a" * 16).url


def test_unexpose_ends_what_is_open(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox()
    start_service(box, 3000)
    preview = preview_of(box, box.expose_port(3000))
    with preview.wire() as events, preview.wire() as tunnel, preview.wire() as idle:
        events.send("GET /slow HTTP/1.1\r\nHost: HOST\r\n\r\n")
        assert events.head()[0] == 200
        tunnel.send("GET /upgrade HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert tunnel.head()[0] == 101 and tunnel.read(6) == b"hello "
        assert idle.get("/echo").status == 200
        box.unexpose_port(3000)
        tunnel.sock.settimeout(5)
        assert tunnel.ended()
        assert events.read(14) == b"9\r\ndata: 1\n\n\r\n" and events.ended()
        # An idle connection stays; what is asked over it finds nothing.
        assert idle.get("/echo").status == 410


def test_ports_outlast_sleep_and_a_preview_wakes(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox("sleeper")
    start_service(box, 3000)
    preview = preview_of(box, box.expose_port(3000))
    assert box.sleep().state == "asleep"
    assert box.get_exposed_ports() == [preview.exposed]
    # Files stay, processes end: awake it is, and nothing listens.
    answer = preview.get("/echo")
    assert (answer.status, answer.json["code"]) == (502, "PORT_NOT_LISTENING")
    assert box.info().state == "running"
    start_service(box, 3000)
    assert preview.get("/echo").status == 200


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_ports_outlast_the_server(fresh_home: Path, how: signal.Signals) -> None:
    box = Sandbox("keeper")
    start_service(box, 3000)
    preview = preview_of(box, box.expose_port(3000, name="web"))
    pidfd = os.pidfd_open(server_pid(fresh_home))
    signal.pidfd_send_signal(pidfd, how)
    assert select.select([pidfd], [], [], 20)[0]
    os.close(pidfd)
    with making("sync", keep=True) as make:
        box = make("keeper")
        assert box.get_exposed_ports() == [preview.exposed]
        start_service(box, 3000)
        assert preview.get("/echo").status == 200
    subprocess.run([COMMAND, "stop"], check=True, capture_output=True)
    # A server that starts again has its previews at once, before anybody asks for their URLs.
    Sandbox("other").ping()
    answer = preview.get("/echo", Accept="text/html")
    assert answer.status == 502 and b"<title>Waiting for the service</title>" in answer.body


def test_another_sandbox_of_the_same_name_has_none_of_them(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox("reborn")
    preview = preview_of(box, box.expose_port(3000, token="a" * 20))
    box.destroy()
    assert preview.get("/").status == 404
    box = make_sandbox("reborn")
    start_service(box, 3000)
    assert box.get_exposed_ports() == []
    assert preview.get("/echo").status == 404
    # One who gave the token himself has the same address again.
    assert box.expose_port(3000, token="a" * 20).url == preview.exposed.url
    assert preview.get("/echo").status == 200


def test_a_page_says_what_is_wrong_and_nothing_more(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox("pages")
    preview = preview_of(box, box.expose_port(3000))
    port, name, token = preview.label.split("-")
    unknown = [
        f"{port}-{name}-{token[:-1]}{'a' if token[-1] == 'z' else 'z'}",
        f"{port}-{name}",
        f"{port}-{name}-",
        f"{port}-none-{token}",
        f"3001-{name}-{token}",
        f"0-{name}-{token}",
        f"65536-{name}-{token}",
        f"{port}-{name}-{token}-{token}",
        f"{port}-{'x' * 60}",
    ]
    bodies = set()
    for label in unknown:
        with preview.wire(f"{label}.localhost:{preview.tcp}") as wire:
            answer = wire.get("/", Accept="text/html,*/*")
            assert answer.status in (404, 421), label
            bodies |= {answer.body} if answer.status == 404 else set()
    assert len(bodies) == 1 and name.encode() not in bodies.pop()
    answer = preview.get("/")
    assert (answer.status, answer.headers["content-type"]) == (502, "application/json")
    answer = preview.get("/", Accept="text/html")
    assert b"port 3000" in answer.body and answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-store"
    box.unexpose_port(3000)
    assert preview.get("/").status == 410
    assert b"has ended" in preview.get("/", Accept="text/html").body


def test_the_path_mode(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox()
    start_service(box, 3000)
    preview = preview_of(box, box.expose_port(3000))
    host = f"127.0.0.1:{preview.tcp}"
    with Wire(preview.tcp, host) as wire:
        told = wire.get(f"/preview/{preview.label}/echo?x=1").json
        headers = dict(told["headers"])
        assert told["target"] == "/echo?x=1" and headers["x-forwarded-prefix"] == f"/preview/{preview.label}"
        answer = wire.get(f"/preview/{preview.label}?x=1")
        assert (answer.status, answer.headers["location"]) == (308, f"/preview/{preview.label}/?x=1")
        cookies = b"Set-Cookie: a=b; Path=/x; Domain=localhost\r\nSet-Cookie: c=d\r\n"
        raw = b"HTTP/1.1 302 Found\r\nLocation: /next\r\n" + cookies + b"\r\n"
        answer = wire.get(f"/preview/{preview.label}/raw?{raw.hex()}")
        assert answer.headers["location"] == f"/preview/{preview.label}/next"
        assert [value for name, value in answer.pairs if name == "set-cookie"] == [
            f"a=b; Path=/preview/{preview.label}/x",
            "c=d",
        ]
        assert wire.get("/preview/3000-none/").status == 404
    # All else is not to be had there.
    for target in ("/", "/v1/server", "/preview/", "/preview/x/", f"/v1/sandboxes/{box.id}/proxy/3000/"):
        with Wire(preview.tcp, host) as wire:
            assert wire.get(target).status in (404, 421), target


def test_the_wire_of_the_published_client(home: Path, make_sandbox: MakeSandbox) -> None:
    box = make_sandbox()
    box.ping()
    base, path = f"/v1/sandboxes/{box.id}", home / "server.sock"
    exposed = ask(path, "POST", f"{base}/api/expose-port", {"port": 3000, "name": "web"})
    assert exposed.status == 200
    assert exposed.json.keys() == {"success", "port", "url", "exposedAt", "name", "timestamp"}
    assert ask(path, "POST", f"{base}/api/expose-port", {"port": 3000}).status == 409
    listed = ask(path, "GET", f"{base}/api/exposed-ports").json
    assert listed["count"] == 1 and listed["ports"][0]["url"] == exposed.json["url"]
    assert ask(path, "DELETE", f"{base}/api/unexpose-port", {"port": 3000}).json["port"] == 3000
    assert ask(path, "DELETE", f"{base}/api/unexpose-port", {"port": 3000}).json["code"] == "PORT_NOT_EXPOSED"
    for wrong in ({}, {"port": "x"}, {"port": 0}, {"port": 70000}, {"port": 1, "more": 1}, [1], {"port": 1.5}):
        assert ask(path, "POST", f"{base}/api/expose-port", wrong).status == 400, wrong
    for wrong_port in ("x", "0", "65536", "-1", "99999999999", "%00"):
        assert ask(path, "DELETE", f"{base}/ports/{wrong_port}").status == 400, wrong_port
    assert ask(path, "POST", "/v1/sandboxes/no-such/ports", {"port": 1}).status == 404


def test_a_service_is_reached_by_a_key_s_way_over_one_connection(home: Path, make_sandbox: MakeSandbox) -> None:
    """Calls of the API and of a service may follow each other on a connection."""
    box = make_sandbox()
    start_service(box, 8787)
    connection: http.client.HTTPConnection = OnSocket(home / "server.sock")

    def call(method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection.request(method, target, body, {"X-Forwarded-For": "9.9.9.9"})
        answer = connection.getresponse()
        return answer.status, answer.read()

    proxy = f"/v1/sandboxes/{box.id}/proxy/8787"
    for _ in range(3):
        assert call("GET", "/v1/server")[0] == 200
        sock = connection.sock
        status, body = call("POST", f"{proxy}/echo?a", b"hello")
        assert status == 200 and b'"size": 5' in body and b"9.9.9.9" in body
        assert call("GET", f"{proxy}/echo")[0] == 200
        assert call("GET", f"/v1/sandboxes/{box.id}")[0] == 200
        assert connection.sock is sock
    assert call("GET", f"/v1/sandboxes/{box.id}/proxy/9/x")[0] == 502
    assert call("GET", f"/v1/sandboxes/{box.id}/proxy/99999/x")[0] == 400
    assert call("GET", "/v1/sandboxes/none/proxy/8787/x")[0] == 404
    connection.close()


def test_a_preview_s_host_never_reaches_the_api(home: Path, make_sandbox: MakeSandbox) -> None:
    box = make_sandbox()
    preview = preview_of(box, box.expose_port(3000))
    wrong = {"Host": preview.host}
    assert ask(home / "server.sock", "GET", "/v1/server", headers=wrong).status == 502
    connection: http.client.HTTPConnection = OnSocket(home / "server.sock")
    for headers, status in (({}, 200), (wrong, 421)):
        connection.request("GET", "/v1/server", headers=headers)
        answer = connection.getresponse()
        assert answer.status == status
        answer.read()
    connection.close()
    with preview.wire() as wire:
        assert wire.get("/").status == 502
        wire.send("GET /v1/server HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert wire.answer().status == 421 and wire.ended()


def test_a_sandbox_in_use_by_a_preview_does_not_fall_asleep(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox("in-use", sleep_after=0.4)
    start_service(box, 3000)
    preview = preview_of(box, box.expose_port(3000))
    with preview.wire() as tunnel:
        tunnel.send("GET /upgrade HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert tunnel.head()[0] == 101 and tunnel.read(6) == b"hello "
        tunnel.sock.settimeout(1.5)
        with pytest.raises(TimeoutError):
            tunnel.read(1)
        assert box.info().state == "running"
    _until(lambda: box.info().state == "asleep")


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 15
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
