"""Peers that Debian packages: the machine's own, else unpacked in the checkout's cache; nothing is installed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from bench.harness import UnavailableError

__all__ = ["program"]

CACHE = Path(__file__).parents[1] / ".cache" / "debian"


def program(name: str, version: str, package: str = "") -> Path:
    """The program `name`.

    Args:
        version: the option by which it tells its version, to see that it runs here.
        package: its package, if that has another name.

    Raises:
        UnavailableError: it can't be had here.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is not None:
        return Path(found)
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / name
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            half_done = CACHE / f"{name}.half-done"
            shutil.rmtree(half_done, ignore_errors=True)
            half_done.mkdir()
            for line in (["apt-get", "download", "-q", package or name], ["sh", "-c", "exec dpkg-deb -x ./*.deb ."]):
                _run(line, half_done)
            _run([str(_in(half_done, name)), version], half_done)
            half_done.rename(folder)
    return _in(folder, name)


def _in(folder: Path, name: str) -> Path:
    sbin = folder / "usr" / "sbin" / name
    return sbin if sbin.exists() else folder / "usr" / "bin" / name


def _run(line: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(line, check=False, cwd=folder, capture_output=True, text=True, timeout=120)
    except OSError as error:
        raise UnavailableError(f"install it; this is no Debian whose package could be unpacked: {error}") from None
    if done.returncode != 0:
        told = f"{done.stdout}{done.stderr}"[-500:]
        raise UnavailableError(f"install it, or run `apt-get update`; `{' '.join(line)}` failed:\n{told}")
