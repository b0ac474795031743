"""Packages from npm, installed once into the checkout's cache: the reference client and server, and what they need."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from bench.harness import UnavailableError

__all__ = ["installed"]

CACHE = Path(__file__).parents[1] / ".cache" / "npm"
OLDEST_NODE = 20


def installed(wanted: Path) -> Path:
    """The folder in whose ``node_modules`` the packages are that the folder `wanted` names.

    Exactly those of its ``package-lock.json``, checked by their hashes; none of their own scripts is run. Later calls
    find them in the cache.

    Raises:
        UnavailableError: there is no Node 20 with npm here, or npm failed.
    """
    _check_node()
    named = [wanted / "package.json", wanted / "package-lock.json"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in named)).hexdigest()[:16]
    folder = CACHE / digest
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once: one installs, the other waits
        if not folder.exists():
            half_done = CACHE / f"{digest}.half-done"
            shutil.rmtree(half_done, ignore_errors=True)
            half_done.mkdir()
            for path in named:
                shutil.copy(path, half_done)
            _install(half_done)
            half_done.rename(folder)
    return folder


def _check_node() -> None:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise UnavailableError(
                f"{program} is not installed; Debian and Ubuntu have it as `apt-get install {program}`"
            )
    version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < OLDEST_NODE:
        raise UnavailableError(f"node is {version}; it must be v{OLDEST_NODE} or newer")


def _install(folder: Path) -> None:
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    done = subprocess.run(
        ["npm", "ci", *options], check=False, cwd=folder, env=os.environ, capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0:
        raise UnavailableError(f"`npm ci` in {folder} failed:\n{done.stdout}{done.stderr}")
