"""The SDK and the command line over TCP with a key, over TLS, and with a token of one sandbox; both halves."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandcove import (
    ForbiddenError,
    InvalidRequestError,
    SandboxNetworkError,
    SessionNotFoundError,
    UnauthorizedError,
    list_sandboxes,
)
from sandcove.client.endpoint import Endpoint
from tests.conftest import COMMAND, making, sandcove_home
from tests.tenants import Tcp, serving, serving_in


@pytest.fixture(scope="module")
def tcp(capable: None) -> Iterator[Tcp]:
    with serving() as server:
        yield server


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Iterator[Any]:
    with making(request.param, keep=True) as maker:
        yield maker


def named_by_environment(monkeypatch: pytest.MonkeyPatch, url: str, key: str | None) -> None:
    monkeypatch.setenv("SANDCOVE_URL", url)
    if key is None:
        monkeypatch.delenv("SANDCOVE_API_KEY", raising=False)
    else:
        monkeypatch.setenv("SANDCOVE_API_KEY", key)


def test_the_environment_names_server_and_key(tcp: Tcp, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    named_by_environment(monkeypatch, tcp.url, tcp.key("env").key)
    with make() as box:
        assert box.exec("echo hello").stdout == "hello\n"
        box.write_file("x", "y")
        assert box.info().id in [info.id for info in list_sandboxes()]
    with make("stays") as box:
        box.exec("echo kept > note")
        box.sleep()
        assert box.exec("cat note").stdout == "kept\n"
    done = subprocess.run([COMMAND, "run", "echo", "cli"], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "cli\n"


def test_a_missing_or_wrong_key_is_told_with_what_to_do(tcp: Tcp, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    named_by_environment(monkeypatch, tcp.url, None)
    with pytest.raises(UnauthorizedError, match="set SANDCOVE_API_KEY or api_key="):
        make("x").exec("true")
    revoked = tcp.key()
    tcp.local().revoke_key(revoked.id)
    for key, words in ((revoked.key, "was revoked"), (revoked.key[:-1], "cut off"), ("sck_k_a", "is none")):
        with pytest.raises(UnauthorizedError, match=words):
            make("x", api_key=key).exec("true")
    with pytest.raises(InvalidRequestError, match="line break") as caught:
        make("x", api_key="secret-of-mine\n").exec("true")
    assert "secret-of-mine" not in str(caught.value)
    failed = subprocess.run([COMMAND, "ls"], check=False, capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1 and "SANDCOVE_API_KEY" in failed.stderr
    make_none = tcp.key(scopes=["read"])
    with pytest.raises(ForbiddenError, match="has the scopes read"):
        make("x", api_key=make_none.key).exec("true")


def test_the_key_is_in_no_repr_and_no_log(tcp: Tcp, make: Any, caplog: pytest.LogCaptureFixture) -> None:
    key = tcp.key("logs").key
    caplog.set_level(logging.DEBUG)
    box = make("logged", url=tcp.url, api_key=key)
    box.exec("true")
    endpoint = Endpoint.server(tcp.url, key)
    with pytest.raises(SessionNotFoundError) as caught:
        box.get_session("none")
    told = [repr(box), repr(endpoint), str(endpoint), repr(caught.value), str(caught.value.details), caplog.text]
    assert caplog.text and key[15:] not in "".join(told)
    assert key[15:] not in (tcp.home / "server.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    crt, key = folder / "crt.pem", folder / "key.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=x -addext"
    command = ["openssl", *words.split(), "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(crt)]
    subprocess.run(command, check=True, capture_output=True)
    return crt, key


@pytest.fixture(scope="module")
def tls(capable: None, certificate: tuple[Path, Path]) -> Iterator[Tcp]:
    """A server with this certificate."""
    files = (f"--{name}={path}" for name, path in zip(("tls-cert", "tls-key"), certificate, strict=True))
    with sandcove_home() as home, serving_in(home, *files) as server:
        yield server


@pytest.fixture
def https(tls: Tcp) -> str:
    """Its address."""
    return f"https://127.0.0.1:{tls.port}"


def test_https(
    tls: Tcp, https: str, certificate: tuple[Path, Path], make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDCOVE_CA_FILE", str(certificate[0]))
    with make(url=https, api_key=tls.key().key) as box:
        for _ in range(3):
            assert box.exec("echo hello").stdout == "hello\n"
        data = os.urandom(8_000_000)
        box.write_file("big", data)
        assert box.read_file("big", encoding=None) == data
        pieces = (bytes(1 << 20) for _ in range(8))
        assert box.exec("wc -c", stdin=pieces).stdout == f"{8 << 20}\n"
        assert [event.type for event in box.exec_stream("echo x")] == ["start", "stdout", "complete"]


def test_a_certificate_that_nobody_signed(
    tcp: Tcp, https: str, make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SANDCOVE_CA_FILE", raising=False)
    with pytest.raises(SandboxNetworkError, match=r"certificate is not trusted.*SANDCOVE_CA_FILE"):
        make("x", url=https, api_key="sck_x").exec("true")
    with pytest.raises(SandboxNetworkError, match="no TLS could be agreed on"):
        make("x", url=tcp.url.replace("http:", "https:"), api_key="sck_x").exec("true")
    for file in (tmp_path / "none", tmp_path):
        monkeypatch.setenv("SANDCOVE_CA_FILE", str(file))
        with pytest.raises(InvalidRequestError, match=r"SANDCOVE_CA_FILE=.*no certificates"):
            make("x", url=https, api_key="sck_x").exec("true")


def test_a_certificate_of_another_host(
    https: str, certificate: tuple[Path, Path], make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDCOVE_CA_FILE", str(certificate[0]))
    with pytest.raises(SandboxNetworkError, match=r"certificate is not trusted: Hostname mismatch"):
        make("x", url=https.replace("127.0.0.1", "localhost"), api_key="sck_x").exec("true")


def test_a_token_drives_its_sandbox_alone(tcp: Tcp, make: Any) -> None:
    key = tcp.key("tokens").key
    with make("one", url=tcp.url, api_key=key) as box, make("two", url=tcp.url, api_key=key) as other:
        box.exec("echo one > who")
        other.exec("true")
        token = box.create_token(expires_in=60)
        holder = make("one", url=tcp.url, api_key=token)
        assert holder.exec("cat who").stdout == "one\n"
        assert holder.info().id == "one"
        box.sleep()
        assert holder.exec("cat who").stdout == "one\n"
        for refused in (holder.sleep, holder.destroy, holder.create_token):
            with pytest.raises(ForbiddenError, match="scopes api"):
                refused()
        with pytest.raises(ForbiddenError):
            make("two", url=tcp.url, api_key=token, labels={}).exec("true")
        with pytest.raises(ForbiddenError):
            list_sandboxes(url=tcp.url, api_key=token)
        master = make("one", url=tcp.url, api_key=box.create_token(scopes=["api", "life"]))
        assert master.sleep().state == "asleep"
        wishes: list[dict[str, Any]] = [
            {"expires_in": 0},
            {"expires_in": 31 * 86400},
            {"scopes": []},
            {"scopes": ["x"]},
        ]
        for wrong in wishes:
            with pytest.raises(InvalidRequestError):
                box.create_token(**wrong)


def test_limits_of_a_rate_are_waited_for(tcp: Tcp, make: Any) -> None:
    from sandcove.wire.keys import Limits

    box = make("slow", url=tcp.url, api_key=tcp.key(limits=Limits(rate=20, burst=2)).key)
    for _ in range(12):
        assert box.exec("true").success


def test_the_command_line_makes_keys_over_tcp(tcp: Tcp, monkeypatch: pytest.MonkeyPatch) -> None:
    named_by_environment(monkeypatch, tcp.url, tcp.key(scopes=["admin"]).key)
    done = subprocess.run([COMMAND, "keys", "create", "--json"], check=True, capture_output=True, text=True, timeout=60)
    made = json.loads(done.stdout)
    monkeypatch.setenv("SANDCOVE_API_KEY", made["key"])
    done = subprocess.run([COMMAND, "keys", "ls"], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "") and "needs admin" in done.stderr
