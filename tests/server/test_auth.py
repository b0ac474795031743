"""Who may call over TCP: what is no key is refused before anything else, another tenant's sandbox does not exist."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandcove import Sandbox, SandboxNetworkError, get_sandbox
from sandcove.server.auth import needed_by_key, needed_by_token
from tests.previews.conftest import start_service
from tests.server.conftest import ask
from tests.tenants import Tcp, serving, serving_in


@pytest.fixture(scope="module")
def tcp(capable: None) -> Iterator[Tcp]:
    with serving() as server:
        yield server


def raw(target: str, *headers: bytes, method: str = "GET") -> bytes:
    head = [f"{method} {target} HTTP/1.1".encode(), b"Host: x", b"Connection: close", *headers]
    return b"\r\n".join(head) + b"\r\n\r\n"


def status_of(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:100]
    return int(answer[9:12])


def test_no_key_no_answer(tcp: Tcp) -> None:
    for target in (
        "/",
        "/v1/server",
        "/v1/sandboxes",
        "/v1/keys",
        "/v1/nothing",
        "/v1/sandboxes/x/api/ping",
        "/metrics",
    ):
        answer = tcp.ask("GET", target)
        assert (answer.status, answer.json["code"]) == (401, "UNAUTHORIZED"), target
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "SANDCOVE_API_KEY" in answer.json["error"]
    assert tcp.ask("POST", "/v1/server/stop").status == 401
    assert tcp.ask("GET", "/healthz").status == 200


def wrong_headers(key: str) -> dict[str, list[bytes]]:
    bearer = f"Authorization: Bearer {key}".encode()
    other = key[:-3] + ("aa" if key[-3:-1] != "aa" else "bb") + key[-1]
    return {
        "empty": [b"Authorization:"],
        "no scheme": [f"Authorization: {key}".encode()],
        "basic": [b"Authorization: Basic eDp5"],
        "scheme alone": [b"Authorization: Bearer"],
        "scheme and a space": [b"Authorization: Bearer "],
        "truncated": [bearer[:-1]],
        "half": [bearer[:60]],
        "longer": [bearer + b"a"],
        "upper case": [f"Authorization: Bearer {key.upper()}".encode()],
        "forged": [f"Authorization: Bearer {other}".encode()],
        "no such id": [f"Authorization: Bearer sck_k_aaaaaaaa_{key[15:]}".encode()],
        "two words": [bearer + b" x"],
        "two keys in one": [bearer + b", Bearer " + key.encode()],
        "doubled": [bearer, bearer],
        "doubled, one empty": [b"Authorization:", bearer],
        "doubled in another case": [bearer, bearer.replace(b"Authorization", b"AUTHORIZATION")],
        "tab": [bearer.replace(b"Bearer ", b"Bearer\t")],
        "bytes over 127": [b"Authorization: Bearer \xff\xfe"],
        "quoted": [f'Authorization: Bearer "{key}"'.encode()],
        "endless": [b"Authorization: Bearer " + b"a" * 20_000],
        "a token that is none": [b"Authorization: Bearer scs_x.y"],
        "other headers": [f"Proxy-Authorization: Bearer {key}".encode(), f"X-Api-Key: {key}".encode()],
        "cookie": [f"Cookie: Authorization=Bearer {key}".encode()],
        "a space before the colon": [bearer.replace(b"n:", b"n :")],
        "folded": [b"Authorization: Bearer\r\n " + key.encode()],
        "nul": [bearer + b"\0"],
    }


def test_a_wrong_header_is_refused_and_not_repeated(tcp: Tcp) -> None:
    made = tcp.key()
    for name, headers in wrong_headers(made.key).items():
        answer = tcp.send(raw("/v1/sandboxes", *headers))
        assert 400 <= status_of(answer) < 500, name
        assert made.key[20:40].encode() not in answer, name
    for good in (f"authorization: bearer  {made.key}", f"AUTHORIZATION:Bearer {made.key} "):
        assert status_of(tcp.send(raw("/v1/sandboxes", good.encode()))) == 200
    assert made.key[15:] not in (tcp.home / "server.log").read_text(errors="replace")


@pytest.mark.parametrize(
    "target",
    [
        "/v1/sandboxes?key={key}",
        "/v1/with/{key}/api/ping",
        "/v1/with//api/ping",
        "/v1/with/x/api/ping",
        "/v1/with/%2e%2e/sandboxes",
        "/v1/with/{key}",
        "/healthz/../v1/sandboxes",
        "/healthz/",
        "/healthz%2f..%2fv1/sandboxes",
        "//v1/sandboxes",
        "/V1/sandboxes",
        "/v1/../v1/sandboxes",
        "http://x/v1/sandboxes",
        "*",
    ],
)
def test_no_path_leads_around_it(tcp: Tcp, target: str) -> None:
    made = tcp.key()
    answer = tcp.send(raw(target.format(key=made.key)))
    assert 400 <= status_of(answer) < 500
    assert b'sandboxes":' not in answer


def test_a_second_request_of_a_connection_needs_its_key_too(tcp: Tcp) -> None:
    made = tcp.key()
    first = raw("/v1/sandboxes", f"Authorization: Bearer {made.key}".encode()).replace(b"Connection: close\r\n", b"")
    answer = tcp.send(first + raw("/v1/sandboxes"))
    assert answer.count(b"HTTP/1.1 ") == 2 and b"HTTP/1.1 401" in answer


def test_expired_and_revoked_keys(tcp: Tcp) -> None:
    soon = tcp.key(expires_in=50)
    answers = (tcp.ask("GET", "/v1/sandboxes", soon.key) for _ in range(10_000))
    assert "expired" in next(answer.json["error"] for answer in answers if answer.status == 401)
    made = tcp.key()
    assert tcp.ask("GET", "/v1/sandboxes", made.key).status == 200
    tcp.local().revoke_key(made.id)
    answer = tcp.ask("GET", "/v1/sandboxes", made.key)
    assert answer.status == 401 and "revoked" in answer.json["error"]


def test_revoking_ends_what_runs(tcp: Tcp) -> None:
    made = tcp.key("ends")
    assert tcp.ask("POST", "/v1/sandboxes", made.key, {"id": "x"}).status == 201
    answers: list[Any] = []

    def run() -> None:
        answers.append(tcp.ask("POST", "/v1/sandboxes/x/api/execute", made.key, {"command": "touch up; sleep 1000"}))

    thread = threading.Thread(target=run)
    thread.start()
    other = tcp.key("ends")
    tcp.ask("POST", "/v1/sandboxes/x/api/session/create", other.key, {"id": "second"})
    waiting = {"command": "until [ -e /workspace/up ]; do sleep 0.05; done", "id": "second", "timeout": 20000}
    assert tcp.ask("POST", "/v1/sandboxes/x/api/execute", other.key, waiting).json["exitCode"] == 0
    tcp.local().revoke_key(made.id)
    thread.join(20)
    assert (answers[0].status, answers[0].json["code"]) == (401, "UNAUTHORIZED")
    assert tcp.ask("DELETE", "/v1/sandboxes/x", other.key).status == 200


def test_revoking_cuts_what_is_passed_on_to_a_service(tcp: Tcp) -> None:
    made, other = tcp.key("cut"), tcp.key("cut")
    boxes = [get_sandbox("cut", url=tcp.url, api_key=each.key) for each in (made, other)]
    token = boxes[0].create_token()
    boxes.append(Sandbox("cut", url=tcp.url, api_key=token))
    start_service(boxes[1], 3000)
    answers = [box.fetch("/slow", 3000).stream() for box in boxes]
    for answer in answers:
        assert next(answer)
    tcp.local().revoke_key(made.id)
    for answer in (answers[0], answers[2]):
        with pytest.raises(SandboxNetworkError):
            list(answer)
    boxes[1].fetch("/go", 3000).close()
    assert list(answers[1])
    boxes[1].destroy()


def test_an_admin_that_revokes_its_own_key_is_answered(tcp: Tcp) -> None:
    made = tcp.key(scopes=["admin"])
    assert tcp.ask("DELETE", f"/v1/keys/{made.id}", made.key).json["revokedAt"]
    assert tcp.ask("GET", "/v1/keys", made.key).status == 401


CALLS = [
    ("GET", "/v1/server", "read"),
    ("GET", "/v1/sandboxes", "read"),
    ("HEAD", "/v1/sandboxes/x", "read"),
    ("GET", "/v1/sandboxes/x/ports", "read"),
    ("POST", "/v1/sandboxes", "sandboxes"),
    ("DELETE", "/v1/sandboxes/x", "sandboxes"),
    ("POST", "/v1/sandboxes/x/tokens", "sandboxes"),
    ("GET", "/v1/sandboxes/x/api/ping", "sandboxes"),
    ("GET", "/v1/sandboxes/x/proxy/80/", "sandboxes"),
    ("POST", "/v1/server/stop", "admin"),
    ("GET", "/v1/keys", "admin"),
    ("GET", "/metrics", "admin"),
    ("GET", "/v1/sandboxesx", "admin"),
    ("GET", "/anything", "admin"),
]


@pytest.mark.parametrize(("method", "path", "scope"), CALLS)
def test_what_a_call_needs(method: str, path: str, scope: str) -> None:
    assert needed_by_key(method, path) == scope


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/server", "api"),
        ("GET", "/v1/sandboxes/x", "api"),
        ("POST", "/v1/sandboxes/x/api/execute", "api"),
        ("GET", "/v1/sandboxes/x/proxy/80/", "api"),
        ("POST", "/v1/sandboxes/x/ports", "api"),
        ("DELETE", "/v1/sandboxes/x/ports/80", "api"),
        ("POST", "/v1/sandboxes/x/api/quiet", "life"),
        ("POST", "/v1/sandboxes/x/api/rest", "life"),
        ("DELETE", "/v1/sandboxes/x", "life"),
        ("POST", "/v1/sandboxes/x/wake", "life"),
        ("POST", "/v1/sandboxes/x/sleep", "life"),
        ("POST", "/v1/sandboxes/x/time-to-live", "life"),
        ("POST", "/v1/sandboxes/x/tokens", None),
        ("POST", "/v1/server/stop", None),
        ("POST", "/v1/server", None),
        ("GET", "/v1/sandboxes", None),
        ("POST", "/v1/sandboxes", None),
        ("GET", "/v1/sandboxes/xy", None),
        ("GET", "/v1/sandboxes/xy/api/ping", None),
        ("GET", "/v1/sandboxes/y/v1/sandboxes/x/api/ping", None),
        ("GET", "/v1/sandboxes//v1/sandboxes/x", None),
        ("GET", "/v1/keys", None),
    ],
)
def test_what_a_call_needs_of_a_token(method: str, path: str, scope: str | None) -> None:
    assert needed_by_token(method, path, "x") == scope


def test_scopes_over_the_wire(tcp: Tcp) -> None:
    keys = {scope: tcp.key("scopes", scopes=[scope]).key for scope in ("read", "sandboxes", "admin")}
    assert tcp.ask("POST", "/v1/sandboxes", keys["sandboxes"], {"id": "x"}).status == 201
    for method, path, scope in CALLS:
        if path in ("/v1/server/stop", "/v1/sandboxes/x", "/anything", "/metrics", "/v1/sandboxesx"):
            continue
        for has, key in keys.items():
            answer = tcp.ask(method, path, key, b"{" if method == "POST" else None)
            allowed = scope in ("read", has)
            assert (answer.status != 403) == allowed, (method, path, has, answer.status)
    refused = tcp.ask("DELETE", "/v1/sandboxes/x", keys["read"])
    assert (refused.status, refused.json["code"]) == (403, "FORBIDDEN")
    assert "has the scopes read; DELETE /v1/sandboxes/x needs sandboxes" in refused.json["error"]
    assert tcp.ask("POST", "/v1/server/stop", keys["sandboxes"]).status == 403
    told = tcp.ask("GET", "/v1/server", keys["read"]).json
    assert (told["pid"], told["home"], told["zygotePid"], told["running"]) == (0, "", None, 1)
    assert tcp.ask("GET", "/v1/server", keys["admin"]).json["home"] == str(tcp.home)


ROUTES: list[tuple[str, str, dict[str, object] | None]] = [
    ("GET", "", None),
    ("DELETE", "", None),
    ("POST", "/wake", {}),
    ("POST", "/sleep", {}),
    ("POST", "/time-to-live", {"timeToLive": 0}),
    ("POST", "/tokens", {}),
    ("GET", "/api/ping", None),
    ("POST", "/api/execute", {"command": "true"}),
]


def test_another_tenants_sandbox_is_as_none(tcp: Tcp) -> None:
    blue, again, red = tcp.key("blue").key, tcp.key("blue").key, tcp.key("red").key
    made = tcp.ask("POST", "/v1/sandboxes", blue, {"id": "mine", "labels": {"of": "blue"}})
    assert (made.status, made.json["tenant"], made.json["agentSocket"]) == (201, "blue", None)
    for method, rest, body in ROUTES:
        there = tcp.ask(method, f"/v1/sandboxes/mine{rest}", red, body)
        none = tcp.ask(method, f"/v1/sandboxes/none{rest}", red, body)
        assert there.status == none.status == 404, (method, rest)
        assert there.body == none.body.replace(b"none", b"mine")
        assert there.headers.keys() == none.headers.keys()
    assert tcp.ask("GET", "/v1/sandboxes", red).json["sandboxes"] == []
    assert [box["id"] for box in tcp.ask("GET", "/v1/sandboxes", again).json["sandboxes"]] == ["mine"]
    own = tcp.ask("POST", "/v1/sandboxes", red, {"id": "mine"})
    assert own.status == 201 and own.json["labels"] == {}
    run = {"command": "echo red > /workspace/who"}
    assert tcp.ask("POST", "/v1/sandboxes/mine/api/execute", red, run).json["exitCode"] == 0
    run = {"command": "cat /workspace/who"}
    assert tcp.ask("POST", "/v1/sandboxes/mine/api/execute", blue, run).json["exitCode"] == 1
    assert tcp.ask("DELETE", "/v1/sandboxes/mine", red).status == 200
    assert tcp.ask("GET", "/v1/sandboxes/mine", blue).status == 200
    assert tcp.local().list(None).sandboxes == []


def test_only_admins_see_all_tenants(tcp: Tcp) -> None:
    green, admin = tcp.key("green").key, tcp.key("boss", scopes=["admin"]).key
    tcp.ask("POST", "/v1/sandboxes", green, {"id": "seen"})
    assert tcp.ask("GET", "/v1/sandboxes?tenants=all", green).status == 403
    assert tcp.ask("GET", "/v1/sandboxes?tenants=green", admin).status == 400
    found = tcp.ask("GET", "/v1/sandboxes?tenants=all", admin).json["sandboxes"]
    assert ("green", "seen") in [(box["tenant"], box["id"]) for box in found]
    assert tcp.ask("GET", "/v1/sandboxes", admin).json["sandboxes"] == []


def test_a_name_of_the_local_tenant_never_meets_another_tenants_folder(tcp: Tcp) -> None:
    key = tcp.key("folders").key
    anonymous = tcp.ask("POST", "/v1/sandboxes", key, {}).json
    assert (tcp.home / "sandboxes" / anonymous["id"]).is_dir()
    clash = ask(tcp.home / "server.sock", "POST", "/v1/sandboxes", {"id": anonymous["id"]})
    assert (clash.status, clash.json["code"]) == (409, "CONFLICT")


def test_tenants_and_their_sandboxes_outlast_a_server(fresh_home: Path) -> None:
    with serving_in(fresh_home) as server:
        keys = {tenant: server.key(tenant).key for tenant in ("blue", "red")}
        for tenant, key in keys.items():
            server.ask("POST", "/v1/sandboxes", key, {"id": "same"})
            run = {"command": f"echo {tenant} > /workspace/who"}
            assert server.ask("POST", "/v1/sandboxes/same/api/execute", key, run).json["exitCode"] == 0
    with serving_in(fresh_home) as server:
        for tenant, key in keys.items():
            run = {"command": "cat /workspace/who"}
            assert server.ask("POST", "/v1/sandboxes/same/api/execute", key, run).json["stdout"] == f"{tenant}\n"
