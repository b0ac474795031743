"""What a process forked from a warm one must forget, and what it must learn of the sandbox that it is in."""

from __future__ import annotations

import os
import signal
import site
import sys
import time
from typing import Any

from sandcove.kernels.python.imports import add_user_site

__all__ = ["Purge", "forget", "set_path"]

_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""As Python has them at its start."""


def forget() -> None:
    """State of the process that a new Python would not have; the environment and the folder are the sandbox's."""
    _reset_signals()
    time.tzset()
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    modules: Any = sys.modules
    if "tempfile" in modules:
        modules["tempfile"].tempdir = None
    if "numpy.random" in modules:
        modules["numpy.random"].seed()
    if "multiprocessing.process" in modules:
        process = modules["multiprocessing.process"]
        process.current_process().authkey = os.urandom(32)
        process.ORIGINAL_DIR = os.getcwd()
    if "platform" in modules:
        modules["platform"]._uname_cache = None
    if "logging" in modules:
        root = modules["logging"].root
        if root.handlers or root.level != modules["logging"].WARNING:
            root.handlers.clear()
            root.setLevel(modules["logging"].WARNING)
    if "asyncio" in modules:
        modules["asyncio"].set_event_loop(None)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in range(1, signal.NSIG):
        if signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN, None):
            signal.signal(number, signal.SIG_DFL)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def set_path() -> None:
    """`sys.path` as this Python would have it in the environment and folder of now."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.environ.get("PYTHONPATH") else []
    sys.path[:] = ["", *(os.path.abspath(entry) for entry in entries), *_own_path]
    site.USER_SITE = site.USER_BASE = None
    add_user_site()
    for path in [path for path, finder in sys.path_importer_cache.items() if finder is None]:
        del sys.path_importer_cache[path]  # it may exist now


def _without_ours() -> list[str]:
    """The path of this Python without what this program, or its environment, has added."""
    added = {"", *os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    # The source of a package that is installed in place, and the folder of the program that was started.
    for path in sys.path:
        if os.path.isdir(f"{path}/sandcove") and not path.endswith(("site-packages", "dist-packages")):
            added.add(path)
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script:
        added.add(os.path.dirname(os.path.abspath(script)))
    return [path for path in sys.path if path not in added]


_own_path = _without_ours()


class Purge:
    """Forgets our own modules, so that user code that imports `sandcove` gets what is installed in the sandbox.

    What they are is found before the fork: to walk over all modules is to write to all of their names, and to end one
    is to write all over it, each a copy of a page.
    """

    def __init__(self) -> None:
        self._count = 0
        self._names: list[str] = []
        self._kept: list[object] = []

    def find(self) -> None:
        if len(sys.modules) != self._count:
            self._count = len(sys.modules)
            self._names = [name for name in sys.modules if name.partition(".")[0] == "sandcove"]

    def purge(self) -> None:
        self.find()
        self._kept = [sys.modules.pop(name) for name in self._names]
