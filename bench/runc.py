"""runc, the peer of what isolation costs: a container as an engine has it made, the host's `/usr` as its image below an
overlay, and a filter of system calls. The filter denies three calls only: the least that any filter costs."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.debian import program

__all__ = ["runc"]

_FOLDERS = ("usr", "etc")
_LINKS = ("bin", "lib", "lib64")
_FILTER = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["keyctl", "ptrace", "mount"], "action": "SCMP_ACT_ERRNO"}],
}


@contextmanager
def runc() -> Iterator[Callable[[Sequence[str]], str]]:
    """Gives a function that runs a program of the host in a container of its own, and gives what it prints.

    Raises:
        UnavailableError: there is no runc here.
    """
    path = program("runc", "--version")
    with tempfile.TemporaryDirectory(prefix="runc-", dir="/tmp") as folder:
        bundle = Path(folder)
        _runc(path, bundle, "spec")
        config = json.loads((bundle / "config.json").read_text())
        config["process"]["terminal"] = False
        config["root"] = {"path": "rootfs", "readonly": False}
        config["linux"]["seccomp"] = _FILTER
        for name in _FOLDERS:
            for part in ("rootfs", "upper", "work"):
                (bundle / part / name).mkdir(parents=True)
            layers = [f"lowerdir=/{name}", f"upperdir={bundle}/upper/{name}", f"workdir={bundle}/work/{name}"]
            mount = {"destination": f"/{name}", "type": "overlay", "source": "overlay", "options": layers}
            config["mounts"].append(mount)
        for name in _LINKS:
            if Path("/", name).is_symlink():
                (bundle / "rootfs" / name).symlink_to(os.readlink(f"/{name}"))
        (bundle / "rootfs" / "tmp").mkdir(mode=0o1777)

        def run(command: Sequence[str]) -> str:
            config["process"]["args"] = list(command)
            (bundle / "config.json").write_text(json.dumps(config))
            return _runc(path, bundle, "run", f"bench-{os.getpid()}")

        yield run


def _runc(path: Path, bundle: Path, *words: str) -> str:
    line = [str(path), "--root", str(bundle / "state"), *words]
    done = subprocess.run(line, check=True, cwd=bundle, capture_output=True, text=True, timeout=120)
    return done.stdout
