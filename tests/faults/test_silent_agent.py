"""An agent that code inside has taken over says nothing, or takes nothing: the SDK's calls end, and are made once."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from sandcove import AsyncSandbox, ContainerNotReadyError, Sandbox
from sandcove.client import endpoint
from sandcove.client._async import io as async_io
from sandcove.client._async.pool import AsyncPool
from sandcove.client._sync import io as sync_io
from sandcove.client._sync.pool import Pool
from tests.both import Blocking, blocking
from tests.conftest import sandcove_home
from tests.faults.hostile import serving_hostile
from tests.server.conftest import ask

pytestmark = pytest.mark.local("the server's agents are the test's")

Call = Callable[[Any], object]
SOON = 8.0
"""Seconds that a call may take, whose limit is half a second."""

SHORT: dict[str, tuple[str, Call]] = {
    "read_file": ("/api/file", lambda box: box.read_file("/etc/hosts")),
    "list_files": ("/api/list-files", lambda box: box.list_files("/etc")),
    "exists": ("/api/exists", lambda box: box.exists("/etc")),
    "set_env_vars": ("/api/env", lambda box: box.set_env_vars({"A": "b"})),
    "kill": ("/api/process/p", lambda box: box.kill_process("p")),
    "start_process": ("/api/process/start", lambda box: box.start_process("x")),
    "exec": ("/api/execute", lambda box: box.exec("x", timeout=0.2)),
    "exec_stream": ("/api/execute/stream", lambda box: list(box.exec_stream("x", timeout=0.2))),
    "run_code": ("/api/execute/code", lambda box: box.run_code("x", timeout=0.2)),
    "logs": ("/api/process/p/stream", lambda box: list(box.stream_process_logs("p"))),
    "git": ("/api/git/checkout", lambda box: box.git_checkout("https://example.com/x.git", timeout=0.2)),
    "wait_for_port": ("/api/wait-for-port", lambda box: box.wait_for_port(80, timeout=0.2)),
}


@pytest.fixture(scope="module")
def hostile(capable: None) -> Iterator[Path]:
    with sandcove_home() as home, serving_hostile(home, "--sleep-after=0"):
        assert ask(home / "server.sock", "POST", "/v1/sandboxes", {"id": "bad"}).status == 201
        yield home


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What takes a minute takes half a second; the targets that agents are asked for from now on."""
    targets: list[str] = []
    monkeypatch.setattr(endpoint, "_GRACE", 0.3)
    monkeypatch.setattr(endpoint, "LONG", 0.3)

    def short(seconds: float | None) -> float | None:
        return None if seconds is None else min(seconds, 0.5)

    for half in (AsyncPool, Pool):
        request: Any = half.request

        def hastily(
            *words: Any, within: float | None = None, silence: float | None = None, request: Any = request
        ) -> Any:
            if within is not None:
                targets.append(words[3].partition("?")[0])
            return request(*words, within=short(within), silence=short(silence))

        monkeypatch.setattr(half, "request", hastily)
    return targets


@pytest.fixture(params=["sync", "async"])
def box(request: pytest.FixtureRequest, hostile: Path, asked: list[str]) -> Iterator[Any]:
    if request.param == "sync":
        yield Sandbox("bad")
        return
    with blocking() as portal:
        yield Blocking(portal, AsyncSandbox("bad"))


def instead(home: Path, target: str, name: str) -> None:
    assert ask(home / "server.sock", "GET", f"/v1/sandboxes/bad/api/set?{target}={name}").status == 200


def ends_soon(home: Path, asked: list[str], target: str, name: str, call: Callable[[], object]) -> None:
    instead(home, target, name)
    asked.clear()
    try:
        start = time.monotonic()
        with pytest.raises(ContainerNotReadyError, match=r"says nothing .* whether it had its effect is not known"):
            call()
        assert 0.25 < time.monotonic() - start < SOON
        assert asked == [target]
    finally:
        instead(home, target, "none")


@pytest.mark.parametrize("kind", SHORT)
def test_a_call_ends_though_no_answer_comes(
    hostile: Path, asked: list[str], box: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, call = SHORT[kind]
    ends_soon(hostile, asked, target, "never", lambda: call(box))


@pytest.mark.parametrize("kind", ["read_file", "exec", "exec_stream"])
def test_a_head_that_drips_has_no_more_time(hostile: Path, asked: list[str], box: Any, kind: str) -> None:
    target, call = SHORT[kind]
    ends_soon(hostile, asked, target, "slow-head", lambda: call(box))


def test_a_command_that_has_a_timeout_is_not_waited_for_by_heartbeats(
    hostile: Path, asked: list[str], box: Any
) -> None:
    ends_soon(hostile, asked, "/api/execute/stream", "heartbeats", lambda: list(box.exec_stream("x", timeout=0.2)))
    ends_soon(
        hostile, asked, "/api/process/p/stream", "heartbeats", lambda: list(box.stream_process_logs("p", timeout=0.2))
    )


def test_an_upload_that_is_not_taken_ends(hostile: Path, asked: list[str], box: Any, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(16 * 1024 * 1024))
    ends_soon(hostile, asked, "/api/folder", "deaf", lambda: box.upload(tmp_path, "/workspace/x"))


def test_what_goes_on_is_waited_for(hostile: Path, box: Any) -> None:
    """Longer than the limit: something comes."""
    instead(hostile, "/api/execute/stream", "heartbeats")
    start = time.monotonic()
    stream = iter(box.exec_stream("x"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endpoint.Due, "check", lambda due: 1 / 0 if time.monotonic() - start > 1.5 else None)
        with pytest.raises(ZeroDivisionError):
            next(stream)
    instead(hostile, "/api/execute/stream", "none")


def test_it_goes_on_with_others_afterwards(hostile: Path, asked: list[str], box: Any) -> None:
    ends_soon(hostile, asked, "/api/env", "never", lambda: box.set_env_vars({"A": "b"}))
    box.set_env_vars({"A": "b"})


@pytest.mark.parametrize("half", [async_io, sync_io])
def test_one_that_takes_no_connections(half: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(half, "SILENCE", 0.5)
    path = str(tmp_path / "socket")
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(path)
        listening.listen(0)
        with suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(path)
        start = time.monotonic()
        with pytest.raises(OSError, match="temporarily unavailable"):
            if half is sync_io:
                sync_io.Stream.connect(endpoint.Endpoint(unix=path))
            else:
                asyncio.run(async_io.Stream.connect(endpoint.Endpoint(unix=path)))
        assert 0.3 < time.monotonic() - start < SOON
