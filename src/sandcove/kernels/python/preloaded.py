"""Whether the libraries that a warm process has loaded are those that the sandbox has."""

from __future__ import annotations

import os
import sys

__all__ = ["changed", "remember"]

_Mark = tuple[str, int, int]
_marks: dict[str, _Mark] = {}
_SITE = {"sitecustomize": b"", "usercustomize": b""}
"""What Python runs when it starts: what is in it. The sandbox may have none, or a copy: Debian's lies in ``/etc``."""
_OURS = {"__main__", "__mp_main__", "sandcove"}
"""What no sandbox need have: it is in the process already, and the user's code does not see it."""


def remember() -> None:
    """Notes what is loaded: of each package that is not of Python's own, where it lies, and when it changed last."""
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if "." in name or name in _OURS or name in sys.stdlib_module_names or not path:
            continue
        if name in _SITE:
            _SITE[name] = _content(path) or b""
        elif (mark := _mark(path)) is not None:
            _marks[name] = mark


def changed() -> str | None:
    """The name of a package that is another now, or gone, or that another one comes before; None if all are the same.

    Called in the sandbox, after its environment was set.
    """
    for name, mark in _marks.items():
        if _mark(mark[0]) != mark:
            return name
    for name, loaded in _SITE.items():
        for folder in sys.path:
            content = _content(f"{folder}/{name}.py")
            if content is not None:
                if content != loaded:
                    return name
                break
    return _hidden()


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _mark(path: str) -> _Mark | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return path, found.st_mtime_ns, found.st_size


def _hidden() -> str | None:
    """A package that Python would find in another place first: in ``PYTHONPATH`` or in the user's own folder."""
    folders = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if sys.prefix == sys.base_prefix and not os.environ.get("PYTHONNOUSERSITE"):
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        base = os.environ.get("PYTHONUSERBASE") or os.path.expanduser("~/.local")
        folders.append(os.path.join(base, "lib", version, "site-packages"))
    for folder in folders:
        try:
            entries = os.listdir(folder)
        except OSError:
            continue
        for entry in entries:
            if (name := entry.removesuffix(".py")) in _marks and not _marks[name][0].startswith(f"{folder}/"):
                return name
    return None
