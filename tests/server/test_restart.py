"""A server that ends while many use it, and starts again: what was acknowledged is there, and nothing is left."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench import processes
from sandcove import ContainerNotReadyError, Sandbox, SandboxNetworkError, ServiceUnavailableError
from tests.answers import visit
from tests.tenants import Tcp, serving_in

ROUNDS = 4
"""What each client of a load has been through when its server is ended."""
SERVICE = "python3 -m http.server 8000 --directory /workspace"
ENDED = (ContainerNotReadyError, SandboxNetworkError, ServiceUnavailableError)
"""What a call may end in when its server does."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class Known:
    """What one client knows of its sandbox: `files` has what each may hold, digests, or None for no such file."""

    name: str
    files: dict[str, set[str | None]] = field(default_factory=dict)
    env: set[str] = field(default_factory=lambda: {""})
    urls: dict[int, str] = field(default_factory=dict)
    token: str = ""


class Load:
    """Clients that create, write, run, expose and visit, until their server ends."""

    def __init__(self, server: Tcp, key: str, known: list[Known], url: str) -> None:
        self._server = server
        self._key = key
        self._errors: list[BaseException] = []
        work: list[tuple[Callable[..., None], Any]] = [(self._change, each) for each in known]
        self._url = url
        work += [(self._visit, Known("visitor")), (self._pass_by, Known("passing"))]
        self._ready = threading.Semaphore(0)
        """Released by each client once it has been through its rounds, or has failed."""
        self._threads = [threading.Thread(target=self._until_it_fails, args=each) for each in work]
        for thread in self._threads:
            thread.start()

    def wait_until_it_is_enough(self) -> None:
        for _ in self._threads:
            assert self._ready.acquire(timeout=60)
            assert not self._errors, self._errors

    def join(self) -> None:
        """When all clients have failed, with errors that say why."""
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"
        assert not [error for error in self._errors if not isinstance(error, ENDED)], self._errors

    def box(self, name: str | None, **options: Any) -> Sandbox:
        return Sandbox(name, url=self._server.url, api_key=self._key, **options)

    def _until_it_fails(self, work: Callable[[Known], None], known: Known) -> None:
        try:
            for made in itertools.count(1):
                work(known)
                if made == ROUNDS:
                    self._ready.release()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self._errors.append(error)
            self._ready.release()

    def _change(self, known: Known) -> None:
        rng = random.Random()
        box = self.box(known.name)
        known.token = known.token or box.create_token()
        name, content = f"f{rng.randrange(6)}", rng.randbytes(rng.choice((0, 100, 70_000, 900_000)))
        digest = hashlib.sha256(content).hexdigest()
        before = known.files.setdefault(name, {None})
        known.files[name] = before | {digest}
        box.write_file(f"/workspace/load/{name}", content)
        known.files[name] = {digest}
        value = digest[:12]
        known.env.add(value)
        box.set_env_vars({"VALUE": value})
        known.env = {value}
        assert box.exec("echo $VALUE").stdout == f"{value}\n"
        port = rng.randrange(9000, 9100)
        if port not in known.urls:
            known.urls[port] = ""
            known.urls[port] = box.expose_port(port).url

    def _visit(self, _: Known) -> None:
        try:
            answer = visit(self._url)
            if answer.status == 503:
                raise ServiceUnavailableError(answer.body.decode())
            assert answer.body == b"index"
        except (OSError, http.client.HTTPException) as error:
            raise SandboxNetworkError(str(error)) from None

    def _pass_by(self, _: Known) -> None:
        with self.box(None) as box:
            assert box.exec("cat", stdin="x").stdout == "x"


def check(server: Tcp, key: str, known: Known) -> None:
    """All that was acknowledged is there, and of what was not either all or nothing."""
    options: Any = {"url": server.url, "api_key": key}
    box = Sandbox(known.name, **options)
    there = {info.name for info in box.list_files("/workspace/load")} if known.files else set()
    assert there <= known.files.keys()
    for name, possible in known.files.items():
        content = box.read_file(f"/workspace/load/{name}", encoding=None) if name in there else None
        found = None if content is None else hashlib.sha256(content).hexdigest()
        assert found in possible, (known.name, name)
        known.files[name] = {found}
    value = box.exec("echo $VALUE").stdout.strip()
    assert value in known.env
    known.env = {value}
    exposed = {port.port: port.url for port in box.get_exposed_ports()}
    assert exposed.keys() <= known.urls.keys()
    assert {port: exposed.get(port) for port, url in known.urls.items() if url} == {
        port: url for port, url in known.urls.items() if url
    }
    known.urls = exposed
    if known.token:
        assert Sandbox(known.name, url=server.url, api_key=known.token).exec("echo $VALUE").stdout.strip() == value


@pytest.fixture
def start(fresh_home: Path) -> Iterator[Callable[[], Tcp]]:
    """Starts a server at the same address each time, with previews on it."""
    port = free_port()
    with ExitStack() as stack:
        options = (f"--port={port}", f"--preview-url=http://preview.localhost:{port}", "--stop-grace=0.2")
        yield lambda: stack.enter_context(serving_in(fresh_home, *options))


def test_nothing_acknowledged_is_lost_by_a_server_that_ends_under_load(start: Callable[[], Tcp]) -> None:
    server = start()
    key = server.key("local").key
    known = [Known(f"load-{number}") for number in range(3)]
    box = Sandbox("visited", url=server.url, api_key=key)
    box.write_file("/workspace/index.html", "index")
    url = box.expose_port(8000, name="web").url
    for ending in (signal.SIGKILL, signal.SIGTERM, None):
        # The service has ended with its room; a visit wakes the sandbox, and finds its files.
        if ending is not signal.SIGKILL:
            woken = visit(url)
            assert (woken.status, woken.json["code"]) == (502, "PORT_NOT_LISTENING")
            for each in known:
                check(server, key, each)
        box = Sandbox("visited", url=server.url, api_key=key)
        box.start_process(SERVICE).wait_for_port(8000, timeout=30)
        assert visit(url).body == b"index"
        if ending is None:
            break
        load = Load(server, key, known, url)
        load.wait_until_it_is_enough()
        server.process.send_signal(ending)
        code = server.process.wait(30)
        assert code == (-ending if ending is signal.SIGKILL else 0)
        load.join()
        assert processes.all_gone(server.home, within=10) == {}
        assert processes.mounts_below(server.home) == []
        server = start()
        listed = {info["id"] for info in server.ask("GET", "/v1/sandboxes", key).json["sandboxes"]}
        assert listed == {"visited", *(each.name for each in known)}
        assert {path.name for path in (server.home / "sandboxes").iterdir()} == listed
        # None but that of the room which is made ahead.
        assert all(path.name.startswith("spare-") for path in (server.home / "run").iterdir())
        assert len(list((server.home / "run").iterdir())) <= 1 and len(list((server.home / "spare").iterdir())) <= 1
    assert "Traceback" not in (server.home / "server.log").read_text()


def test_a_server_waits_for_rooms_of_the_one_before_it(start: Callable[[], Tcp], fresh_home: Path) -> None:
    # Under load it happened that the old agent still acknowledged a change, which the new one did not know.
    run = fresh_home / "run"
    run.mkdir(mode=0o700)
    (run / "stale.rest").touch()
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(run / "old.sock"))
        old.listen()
        old.settimeout(30)
        thread = threading.Thread(target=start)
        thread.start()
        agent, _ = old.accept()
        with agent:
            assert list((fresh_home / "sandboxes").iterdir()) == list((fresh_home / "spare").iterdir()) == []
            assert not (fresh_home / "server.sock").exists()
    thread.join(30)
    assert (fresh_home / "server.sock").exists()
    assert not {"old.sock", "stale.rest"} & {path.name for path in run.iterdir()}
