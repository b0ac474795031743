"""No space where Sandcove keeps everything: refusals that say so, nothing that was acknowledged is lost, and by
destroying sandboxes it is got back."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.answers import Answer
from tests.conftest import sandcove_home
from tests.server.conftest import ask
from tests.tenants import Tcp, serving_in

pytestmark = [
    pytest.mark.local("a file system of its own for the server's folder"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount one"),
]


@contextmanager
def small_home(options: str) -> Iterator[Path]:
    with sandcove_home() as home:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"{options},mode=700", "tmpfs", home], check=True)
        try:
            yield home
        finally:
            subprocess.run(["umount", "-l", home], check=True)


@contextmanager
def full(home: Path) -> Iterator[None]:
    """Meanwhile there is not a byte to be had, nor a file."""
    ballast = home / "ballast"
    ballast.mkdir()
    with suppress(OSError), (ballast / "bytes").open("wb", buffering=0) as file:
        while file.write(bytes(65536)) == 65536:
            pass
        while True:
            file.write(bytes(512))
    with suppress(OSError):
        for number in range(100_000):
            (ballast / str(number)).touch()
    try:
        yield
    finally:
        for path in ballast.iterdir():
            path.unlink()
        ballast.rmdir()


def test_without_a_byte(capable: None) -> None:
    with small_home("size=40m") as home:
        sock = home / "server.sock"

        def call(method: str, path: str, body: object = None) -> Answer:
            return ask(sock, method, f"/v1/{path}", body)

        with serving_in(home, "--sleep-after=0") as server:
            for name in ("awake", "asleep", "gone", "large"):
                assert call("POST", "sandboxes", {"id": name, "labels": {"a": "b"}}).status == 201
                assert (
                    call("POST", f"sandboxes/{name}/api/write", {"path": "/workspace/f", "content": name}).status == 200
                )
            call("POST", "sandboxes/large/api/execute", {"command": "head -c 5000000 /dev/zero > /workspace/large"})
            for name in ("asleep", "gone"):
                assert call("POST", f"sandboxes/{name}/sleep").status == 200
            key, other = server.key("t"), server.key("u")
            with full(home):
                refused = [
                    call("POST", "sandboxes", {"id": "new"}),
                    call("POST", "sandboxes", {}),
                    call("POST", "sandboxes", {"id": "awake", "labels": {"c": "d"}}),
                    call("PUT", "sandboxes/awake/egress", {"egress": ["public"]}),
                    call("POST", "sandboxes/awake/time-to-live", {"timeToLive": 1}),
                    call("POST", "keys", {"tenant": "x"}),
                    call("DELETE", f"keys/{key.id}"),
                    call("POST", "sandboxes/awake/ports", {"port": 8000}),
                ]
                for answer in refused:
                    assert answer.status == 503 and ("full" in answer.json["error"] or "space" in answer.json["error"])
                # What could not be written down is not in force; but that a key is revoked is.
                shown = call("GET", "sandboxes/awake").json
                assert (shown["labels"], shown["egress"], shown["expiresAt"]) == ({"a": "b"}, "none", None)
                assert [s["id"] for s in call("GET", "sandboxes").json["sandboxes"]] == [
                    "awake",
                    "asleep",
                    "gone",
                    "large",
                ]
                assert server.ask("GET", "/v1/sandboxes", key.key).status == 401
                # Nobody is locked out by a note that can't be made.
                assert server.ask("GET", "/v1/sandboxes", other.key).status == 200
                assert call("POST", "sandboxes/awake/api/read", {"path": "/workspace/f"}).json["content"] == "awake"
                assert call("POST", "sandboxes/asleep/wake").json["state"] == "running"
                assert call("POST", "sandboxes/asleep/sleep").json["state"] == "asleep"
                # There is nothing to be had by this one, by the other there is.
                for name in ("gone", "large"):
                    assert call("DELETE", f"sandboxes/{name}").status == 200
                    assert call("GET", f"sandboxes/{name}").status == 404
                assert call("POST", "sandboxes/awake/api/write", {"path": "/workspace/g", "content": "g"}).status == 200
            assert call("DELETE", f"keys/{key.id}").status == 200
            assert call("POST", "sandboxes", {"id": "new"}).status == 201
            told = (home / "server.log").read_text()
            assert "Traceback" not in told, told[-4000:]
            for line in (home / "audit.log").read_text().splitlines():
                json.loads(line)
        with serving_in(home) as server:
            found = {s["id"]: s["labels"] for s in call("GET", "sandboxes").json["sandboxes"]}
            assert found == {"awake": {"a": "b"}, "asleep": {"a": "b"}, "new": {}}
            for name in ("awake", "asleep"):
                assert call("POST", f"sandboxes/{name}/api/read", {"path": "/workspace/f"}).json["content"] == name
            assert server.ask("GET", "/v1/sandboxes", key.key).status == 401


def test_without_a_file(capable: None) -> None:
    with small_home("size=200m,nr_inodes=3000") as home, serving_in(home, "--sleep-after=0"):
        sock = home / "server.sock"
        for name in ("a", "b"):
            assert ask(sock, "POST", "/v1/sandboxes", {"id": name}).status == 201
        assert ask(sock, "POST", "/v1/sandboxes/a/sleep").status == 200
        with full(home):
            answer = ask(sock, "POST", "/v1/sandboxes/a/wake")
            assert answer.status == 503 and "free some disk space" in answer.json["error"]
            assert ask(sock, "DELETE", "/v1/sandboxes/b").status == 200
        assert ask(sock, "POST", "/v1/sandboxes/a/wake").status == 200
        told = (home / "server.log").read_text()
        assert "Traceback" not in told, told[-4000:]


def test_one_that_was_destroyed_on_a_full_disk_stays_so_though_the_server_is_killed(capable: None) -> None:
    with small_home("size=40m") as home:
        with serving_in(home, "--sleep-after=0") as server:
            for name in ("kept", "gone"):
                assert ask(home / "server.sock", "POST", "/v1/sandboxes", {"id": name}).status == 201
            with full(home):
                assert ask(home / "server.sock", "DELETE", "/v1/sandboxes/gone").status == 200
                _kill(server)
        with serving_in(home):
            found = ask(home / "server.sock", "GET", "/v1/sandboxes").json["sandboxes"]
            assert [sandbox["id"] for sandbox in found] == ["kept"]


def _kill(server: Tcp) -> None:
    server.process.kill()
    server.process.wait()
