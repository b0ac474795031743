"""What every test can have: a Sandcove folder with a server of its own, sandboxes in it, sync and async by one body."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, settings

from bench import processes
from sandcove.errors import SandboxNotFoundError
from tests.both import Blocking, blocking
from tests.turns import Folder, Turns

if TYPE_CHECKING:
    from sandcove import Sandbox

MakeSandbox = Callable[..., "Sandbox"]
COMMAND = str(Path(sys.executable).with_name("sandcove"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--over-tcp", action="store_true", help="the SDK is told a TCP server and a key by its variables")


def pytest_configure(config: pytest.Config) -> None:
    """Programs that the tests start heed the signals that they are sent; tests side by side heed each other.

    A test run in the background, or under nohup, inherits that interrupts and hang-ups are ignored, and passes it on.
    A property does not fail because the machine is busy.
    """
    settings.register_profile("patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")
    turns = getattr(config, "workerinput", {}).get("turns")
    config.pluginmanager.register(Folder() if turns is None else Turns(Path(turns)))
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.config.getoption("over_tcp") and (local := item.get_closest_marker("local")):
        pytest.skip(f"not over TCP: {local.args[0]}")


@pytest.fixture(scope="session")
def capable() -> None:
    """Skips the test when this machine can't isolate a sandbox; in CI that is a failure: nothing would be tested."""
    with tempfile.TemporaryDirectory(prefix="sc-", dir="/tmp") as home:
        environment = os.environ | {"SANDCOVE_HOME": home}
        doctor = subprocess.run(
            [COMMAND, "doctor"], check=False, env=environment, capture_output=True, text=True, timeout=60
        )
    if doctor.returncode != 0:
        reason = f"`sandcove doctor` says that this machine can't make sandboxes:\n{doctor.stdout}{doctor.stderr}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@contextmanager
def sandcove_home() -> Iterator[Path]:
    """A new, empty Sandcove folder that this process and its children use.

    At the end its server is stopped, if one runs, and nothing may be left of it: no process, no mount.
    """
    # In /tmp, not pytest's long path: the Unix sockets in it have at most 107 bytes.
    home = Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))
    before = os.environ.get("SANDCOVE_HOME")
    os.environ["SANDCOVE_HOME"] = str(home)
    try:
        yield home
        running = processes.of_home(home)
        if (home / "server.sock").exists():
            # A server that was killed leaves its socket behind; then the command says that none runs.
            subprocess.run([COMMAND, "stop"], check=False, capture_output=True, timeout=60)
        left = processes.all_gone(home, within=10, also=running)
        log = home / "server.log"
        told = "\n".join(log.read_text(errors="replace").splitlines()[-30:]) if log.exists() else "(no log)"
        assert not left, f"10 s after the server was stopped, these still run: {left}\nits log ends:\n{told}"
        assert not processes.mounts_below(home), f"mounts are left: {processes.mounts_below(home)}"
    finally:
        if before is None:
            del os.environ["SANDCOVE_HOME"]
        else:
            os.environ["SANDCOVE_HOME"] = before
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def sandcove_url(home: Path) -> Iterator[None]:
    """A server for this folder that this process and its children are told by its URL and a key."""
    from tests.tenants import serving_in

    with serving_in(home) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDCOVE_API_KEY", server.key("local", scopes=["admin", "sandboxes"]).key)
        patch.setenv("SANDCOVE_URL", server.url)
        yield


@pytest.fixture(scope="session")
def home(capable: None, pytestconfig: pytest.Config) -> Iterator[Path]:
    """The Sandcove folder that all tests share. The SDK starts its server at the first call.

    With ``--over-tcp`` the server runs already, and the SDK knows no more of it than a caller on another machine would.
    """
    with sandcove_home() as path, sandcove_url(path) if pytestconfig.getoption("over_tcp") else nullcontext():
        yield path


@pytest.fixture
def fresh_home(capable: None, pytestconfig: pytest.Config) -> Iterator[Path]:
    """A Sandcove folder for one test: no server runs yet, and what happens to it harms no other test."""
    if pytestconfig.getoption("over_tcp"):
        pytest.skip("not over TCP: what happens to a server that this user has started")
    with sandcove_home() as path:
        yield path


@pytest.fixture
def sandbox(home: Path) -> Iterator[Sandbox]:
    """An anonymous sandbox."""
    from sandcove import Sandbox

    with Sandbox() as made:
        yield made


@contextmanager
def making(kind: str, *, keep: bool = False) -> Iterator[MakeSandbox]:
    """A function that makes sandboxes by the ``sync`` or ``async`` half of the SDK; at the end all are destroyed.

    With `keep` those that have a name stay.
    """
    from sandcove import AsyncSandbox, Sandbox

    with ExitStack() as stack:
        portal = stack.enter_context(blocking()) if kind == "async" else None

        def destroy(made: Any) -> None:
            try:
                made.destroy()
            except SandboxNotFoundError:
                pass  # the test did it

        def make(name: str | None = None, **options: Any) -> Sandbox:
            made: Any
            if portal is None:
                made = Sandbox(name, **options)
            else:
                made = Blocking(portal, portal.call(lambda: AsyncSandbox(name, **options)))
            stack.enter_context(made)
            if name is not None and not keep:
                stack.callback(destroy, made)
            return cast("Sandbox", made)

        yield make


@pytest.fixture(params=["sync", "async"])
def make_sandbox(request: pytest.FixtureRequest, home: Path) -> Iterator[MakeSandbox]:
    """Makes sandboxes; the test runs twice, over the sync and the async half of the SDK, with one sync body."""
    with making(request.param) as make:
        yield make
