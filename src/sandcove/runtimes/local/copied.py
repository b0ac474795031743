"""Which of the host's folders rooms see copy-on-write, and what must not be in them."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from sandcove.errors import HostUnsupportedError
from sandcove.runtimes.local.plan import HostPython

__all__ = ["check_copied", "copied_folders"]


def copied_folders(python: HostPython, root_folders: Iterable[str]) -> list[str]:
    """The host folders that a room sees copy-on-write, outermost first.

    Args:
        root_folders: those of `ROOT_LINKS` that are real folders on the host, not links into /usr.
    """
    wanted = ["/usr", *(f"/{name}" for name in root_folders), python.base_prefix, python.prefix]
    chosen: list[str] = []
    for folder in sorted(wanted, key=len):
        path = PurePosixPath(folder)
        if not any(path.is_relative_to(other) for other in chosen):
            chosen.append(str(path))
    return chosen


def check_copied(folders: Iterable[str], home: Path) -> None:
    """Raises HostUnsupportedError: one is somebody's home folder, or Sandcove's `home` is in it."""
    homes = {entry.pw_dir for entry in pwd.getpwall()} | {os.path.expanduser("~"), "/"}
    for folder in folders:
        if folder in homes - {"/usr", "/usr/sbin", "/bin", "/sbin"}:
            raise HostUnsupportedError(
                f"Python's environment is {folder}, all of which sandboxes would see; "
                "install Sandcove in a virtual environment in a folder of its own"
            )
        if home.resolve().is_relative_to(folder):
            raise HostUnsupportedError(
                f"Sandcove's folder {home} is in {folder}, which sandboxes see; set SANDCOVE_HOME to one elsewhere"
            )
