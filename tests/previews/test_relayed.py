"""Previews that a proxy asks for: what it says of its visitor, and which key it needs."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sandcove import Sandbox
from tests.answers import Answer, exchange
from tests.previews.conftest import Wire, start_service
from tests.tenants import Tcp, serving

VISITOR = {"X-Forwarded-Host": "own.example.com:81", "X-Forwarded-Proto": "https", "X-Forwarded-For": "2001:db8::1"}


@dataclass
class Relayed:
    """A preview of a sandbox of tenant ``ours``, and a server that is asked for it."""

    server: Tcp
    label: str
    key: str

    def ask(self, target: str, method: str = "GET", key: str | None = None, **headers: str) -> Answer:
        sent = VISITOR | {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["X-Sandcove-Key"] = key
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        return exchange(connection, method, target, None, sent)


@pytest.fixture(scope="module")
def relayed(capable: None) -> Iterator[Relayed]:
    with serving() as server:
        owner = server.key("ours").key
        with Sandbox(url=server.url, api_key=owner) as sandbox:
            start_service(sandbox, 3000)
            label = sandbox.expose_port(3000).url.split("//")[1].partition(".")[0]
            yield Relayed(server, label, server.key("ours", scopes=["read"]).key)


def test_the_service_is_told_what_the_proxy_says_of_its_visitor(relayed: Relayed) -> None:
    target = f"/v1/previews/{relayed.label}/echo/../a%2Fb?c=%20"
    told = relayed.ask(target, key=relayed.key, Authorization="Basic eDp5", X_Forwarded_Extra="1").json
    assert told["target"] == "/echo/../a%2Fb?c=%20"
    headers = dict(told["headers"])
    assert headers["host"] == "localhost:3000" and headers["x-original-url"].endswith(":81/echo/../a%2Fb?c=%20")
    assert {name: headers[name.lower()] for name in VISITOR} == VISITOR
    assert headers["authorization"] == "Basic eDp5"
    assert not {"x-sandcove-key", "x-forwarded-prefix", "x-forwarded-extra"} & headers.keys()


def test_a_redirect_and_a_cookie_are_those_of_a_host(relayed: Relayed) -> None:
    raw = (
        b"HTTP/1.1 302 Found\r\nLocation: http://localhost:3000/next\r\n"
        b"Set-Cookie: a=b; Path=/x; Domain=example.com\r\nContent-Length: 0\r\n\r\n"
    )
    answer = relayed.ask(f"/v1/previews/{relayed.label}/raw?{raw.hex()}", key=relayed.key)
    assert (answer.headers["location"], answer.headers["set-cookie"]) == ("/next", "a=b; Path=/x")
    bare = relayed.ask(f"/v1/previews/{relayed.label}", key=relayed.key)
    assert bare.status == 200 and bare.json["target"] == "/"


@pytest.mark.parametrize("target", ["/v1/sandboxes", "/v1/server"])
def test_the_header_for_the_key_opens_nothing_else(relayed: Relayed, target: str) -> None:
    assert relayed.ask(target, key=relayed.key).status == 401


def test_over_tcp_it_needs_a_key_of_the_tenant(relayed: Relayed) -> None:
    target = f"/v1/previews/{relayed.label}/echo"
    assert relayed.ask(target).status == 401
    assert relayed.ask(target, Authorization=f"Bearer {relayed.key}").status == 401
    assert relayed.ask(target, key="sck_wrong").status == 401
    # Its own previews alone: what others expose shall not appear at this proxy's hosts.
    others = relayed.ask(target, key=relayed.server.key("theirs").key)
    assert (others.status, others.json["code"]) == (404, "NOT_FOUND")


def test_the_pace_of_visitors_is_not_that_of_the_key(relayed: Relayed) -> None:
    slow = relayed.server.key("ours", limits={"rate": 0.01, "burst": 1}).key
    answers = [relayed.ask(f"/v1/previews/{relayed.label}/echo", key=slow).status for _ in range(3)]
    assert answers == [200] * 3


def test_with_its_key_ends_what_a_proxy_asked_for(relayed: Relayed) -> None:
    made = relayed.server.key("ours")
    with Wire(relayed.server.port, "x") as ending, Wire(relayed.server.port, "x") as staying:
        for wire, key in ((ending, made.key), (staying, relayed.key)):
            wire.send(f"GET /v1/previews/{relayed.label}/upgrade HTTP/1.1\r\nHost: x\r\nX-Sandcove-Key: {key}\r\n")
            wire.send("Connection: Upgrade\r\nUpgrade: raw\r\n\r\n")
            assert wire.head()[0] == 101 and wire.read(6) == b"hello "
        relayed.server.local().revoke_key(made.id)
        assert ending.ended()
        staying.send("echo")
        assert staying.read(4) == b"echo"


@pytest.mark.parametrize(
    ("name", "value"), [("X-Forwarded-Host", "a/b"), ("X-Forwarded-Proto", "gopher"), ("X-Forwarded-Host", "a b")]
)
def test_what_is_no_host_or_scheme_is_refused(relayed: Relayed, name: str, value: str) -> None:
    answer = relayed.ask(f"/v1/previews/{relayed.label}/echo", key=relayed.key, **{name: value})
    assert (answer.status, answer.json["code"]) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("label", ["3000-nothing", "3000", "0-x", "99999-x", "3000-x-aaaaaaaaaaaaaaaaaaaaaaaaaa"])
def test_what_is_no_preview_is_not_found(relayed: Relayed, label: str) -> None:
    assert relayed.ask(f"/v1/previews/{label}/echo", key=relayed.key).status in (401, 404)


def test_over_the_unix_socket_it_gets_those_of_the_local_tenant(relayed: Relayed) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(relayed.server.home / "server.sock"))
        sock.sendall(f"GET /v1/previews/{relayed.label}/echo HTTP/1.1\r\nHost: sandcove\r\n\r\n".encode())
        assert sock.recv(1000).startswith(b"HTTP/1.1 404 ")


def test_a_path_that_only_begins_as_a_preview_s_is_the_api_s(relayed: Relayed) -> None:
    for path in ("/preview/0-x/", "/preview/UPPER", "/v1/sandboxes/x/proxy/no-port/"):
        assert relayed.server.ask("GET", path, relayed.key).status in (403, 404)
