"""Tokens of one sandbox: what is forged, cut off, expired or outlived is refused."""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandcove.errors import SandboxError
from sandcove.server.tokens import read_secret
from tests.tenants import Tcp, serving, serving_in


@pytest.fixture(scope="module")
def tcp(capable: None) -> Iterator[Tcp]:
    with serving() as server:
        yield server


def token_of(tcp: Tcp, key: str, name: str = "x", **body: Any) -> str:
    tcp.ask("POST", "/v1/sandboxes", key, {"id": name})
    return str(tcp.ask("POST", f"/v1/sandboxes/{name}/tokens", key, body).json["token"])


def both_ways(tcp: Tcp, token: str, name: str = "x") -> set[int]:
    """The statuses of a call with the token as header and in the path."""
    header = tcp.ask("GET", f"/v1/sandboxes/{name}/api/ping", token)
    path = tcp.ask("GET", f"/v1/with/{token}/api/ping")
    return {header.status, path.status}


def test_header_and_path(tcp: Tcp) -> None:
    key = tcp.key("both").key
    token = token_of(tcp, key)
    assert both_ways(tcp, token) == {200}
    run = {"command": "echo $((6 * 7))"}
    assert tcp.ask("POST", f"/v1/with/{token}/api/execute", None, run).json["stdout"] == "42\n"
    assert tcp.ask("GET", f"/v1/with/{token}/api/ping", key).status == 401  # two credentials
    for rest in ("", "/", "/wake", "/tokens", "/../x", "/api/rest"):
        assert tcp.ask("POST", f"/v1/with/{token}{rest}").status in (401, 403, 404), rest
    assert tcp.ask("GET", "/v1/keys", token).status == 403


def payload_of(token: str) -> list[Any]:
    text = token[4:].partition(".")[0]
    fields: list[Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return fields


def with_payload(token: str, fields: Any) -> str:
    text = base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")
    return f"scs_{text}.{token.rpartition('.')[2]}"


def test_forged_and_broken_ones(tcp: Tcp) -> None:
    key = tcp.key("forged").key
    token, other = token_of(tcp, key), token_of(tcp, key, "y")
    uid, born, scopes, expires, by = payload_of(token)
    text, mac = token[4:].split(".")
    forged = [
        with_payload(token, [uid, born, ["api", "life"], expires, by]),
        with_payload(token, [uid, born, scopes, expires + 1000, by]),
        with_payload(token, [payload_of(other)[0], born, scopes, expires, by]),
        with_payload(token, {}),
        f"scs_{text}.{other.rpartition('.')[2]}",
        f"scs_{text}.{mac[:-1]}",
        f"scs_{text}.{mac}a",
        f"scs_{text[:-1]}.{mac}",
        f"scs_{text}=.{mac}",
        f"scs_{text}",
        f"scs_.{mac}",
        f"scs_{text}.",
        "scs_",
        "scs_" + "a" * 1500 + "." + mac,
        f"SCS_{text}.{mac}",
        f"sck_{text}.{mac}",
        *(f"scs_{text}.{mac[:at]}{'A' if mac[at] != 'A' else 'B'}{mac[at + 1 :]}" for at in range(0, 43, 6)),
        # The last character has two bits that mean nothing: only one way to write them is taken.
        *(f"scs_{text}.{mac[:-1]}{c}" for c in string.ascii_letters + string.digits + "-_" if c != mac[-1]),
    ]
    for each in forged:
        assert both_ways(tcp, each) == {401}, each
    assert both_ways(tcp, token) == {200}


def test_it_ends_with_its_time(tcp: Tcp) -> None:
    token = token_of(tcp, tcp.key("time").key, expiresIn=300)
    statuses = (both_ways(tcp, token) for _ in range(10_000))
    assert next(found for found in statuses if found != {200}) <= {200, 401}
    assert both_ways(tcp, token) == {401}
    assert "expired" in tcp.ask("GET", "/v1/sandboxes/x", token).json["error"]


def test_it_ends_with_its_key(tcp: Tcp) -> None:
    made = tcp.key("key")
    token = token_of(tcp, made.key)
    assert both_ways(tcp, token) == {200}
    tcp.local().revoke_key(made.id)
    assert both_ways(tcp, token) == {401}


def test_it_ends_with_its_sandbox(tcp: Tcp) -> None:
    key = tcp.key("local").key  # whose sandboxes' uids are their names
    token = token_of(tcp, key)
    assert both_ways(tcp, token) == {200}
    tcp.ask("DELETE", "/v1/sandboxes/x", key)
    assert both_ways(tcp, token) == {401}
    tcp.ask("POST", "/v1/sandboxes", key, {"id": "x"})
    assert both_ways(tcp, token) == {401}


def test_it_is_for_its_sandbox_alone(tcp: Tcp) -> None:
    key = tcp.key("alone").key
    token = token_of(tcp, key)
    token_of(tcp, key, "y")
    assert tcp.ask("GET", "/v1/sandboxes/y/api/ping", token).status == 403
    assert tcp.ask("GET", "/v1/sandboxes/none/api/ping", token).status == 403
    assert tcp.ask("POST", "/v1/sandboxes", token, {"id": "x"}).status == 403


@pytest.mark.parametrize(
    "body", [{"expiresIn": 0}, {"expiresIn": 31 * 86_400_000}, {"scopes": []}, {"scopes": ["admin"]}, {"x": 1}, b"{"]
)
def test_wrong_wishes(tcp: Tcp, body: Any) -> None:
    key = tcp.key("wishes").key
    tcp.ask("POST", "/v1/sandboxes", key, {"id": "x"})
    answer = tcp.ask("POST", "/v1/sandboxes/x/tokens", key, body)
    assert (answer.status, answer.json["code"]) == (400, "INVALID_REQUEST")


def test_it_outlasts_a_server_and_ends_with_the_secret(fresh_home: Path) -> None:
    with serving_in(fresh_home) as server:
        token = token_of(server, server.key("a").key)
    assert (fresh_home / "token.secret").stat().st_mode & 0o777 == 0o600
    with serving_in(fresh_home) as server:
        assert both_ways(server, token) == {200}
    (fresh_home / "token.secret").unlink()
    with serving_in(fresh_home) as server:
        assert both_ways(server, token) == {401}


def test_a_damaged_secret_is_told(tmp_path: Path) -> None:
    path = tmp_path / "token.secret"
    assert len(read_secret(path)) == 32 and read_secret(path) == read_secret(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["token.secret"]
    path.write_bytes(b"short")
    with pytest.raises(SandboxError, match="is damaged; delete it"):
        read_secret(path)
