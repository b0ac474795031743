"""What is done when a library has been imported that would else look for a screen, and packages that appear late."""

from __future__ import annotations

import importlib.machinery
import os
import site
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["AfterImport", "LateFinder", "add_user_site"]

_PACKAGES = ("site-packages", "dist-packages")


class AfterImport:
    """The first of `sys.meta_path`: calls a function with each of some modules right after it was imported."""

    def __init__(self, calls: dict[str, Callable[[Any], None]]) -> None:
        self._calls = calls

    def install(self) -> None:
        sys.meta_path.insert(0, self)
        for name, call in self._calls.items():
            if name in sys.modules:
                _quietly(call, sys.modules[name])

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        call = self._calls.get(name)
        if call is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader: Any = spec.loader if spec is not None else None
        if loader is None or not hasattr(loader, "exec_module"):
            return spec
        run = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            _quietly(call, module)

        try:
            loader.exec_module = exec_module  # of this module's own loader object
        except AttributeError:
            pass  # one without attributes; then the library does as it likes
        return spec


def _quietly(call: Callable[[Any], None], module: ModuleType) -> None:
    try:
        call(module)
    except Exception:  # noqa: BLE001, S110 - an unknown version of a library; importing it must work
        pass


class LateFinder:
    """The last of `sys.meta_path`: what nobody has found is looked for again, in folders that are read anew.

    Python remembers a folder's list until the folder's time of change is another; a package that was installed within
    the same tick of the file system's clock is missed, and a folder that did not exist when Python started is not in
    its path. A package that is installed in place is named in a file of site-packages, which Python reads at its start.
    """

    def __init__(self) -> None:
        self._read = {path: _changed_at(path) for path in sys.path if path.endswith(_PACKAGES)}

    def _read_anew(self) -> None:
        for path, before in self._read.items():
            now = _changed_at(path)
            if now != before:
                self._read[path] = now
                site.addsitedir(path)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None:
            add_user_site()
            self._read_anew()
        for finder in list(sys.path_importer_cache.values()):
            if finder is not None and hasattr(finder, "invalidate_caches"):
                finder.invalidate_caches()
        return importlib.machinery.PathFinder.find_spec(name, path, target)


def _changed_at(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def add_user_site() -> None:
    """Adds the user's own site-packages to the path, where this Python heeds it and it exists."""
    in_environment = sys.prefix != sys.base_prefix and not site.ENABLE_USER_SITE
    if in_environment or os.environ.get("PYTHONNOUSERSITE"):
        return
    folder = site.getusersitepackages()
    if folder in sys.path or not os.path.isdir(folder):
        return
    packages = [index for index, entry in enumerate(sys.path) if entry.endswith(_PACKAGES)]
    before = len(sys.path)
    site.addsitedir(folder)
    added = sys.path[before:]
    if packages:
        del sys.path[before:]
        sys.path[packages[0] : packages[0]] = added
