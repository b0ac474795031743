"""What runs the code of cells: what the host without IPython and the one with it have in common."""

from __future__ import annotations

import ast
import builtins
import getpass
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, ModuleType, TracebackType
from typing import Any, NoReturn

from sandcove.kernels.charts import chart_of
from sandcove.kernels.python import mime
from sandcove.kernels.python.channel import Channel
from sandcove.kernels.python.interrupts import Interrupts
from sandcove.kernels.python.loop import Loop
from sandcove.kernels.python.results import Results
from sandcove.kernels.python.streams import Streams

__all__ = ["Host", "Kit", "no_input"]

_DRAWN_BY = ("matplotlib", "plotly", "altair")
_COROUTINE = 0x80
"""`inspect.CO_COROUTINE`, whose module takes longer to load than most."""
_WANTED = ("numpy", "pandas", "matplotlib")


class Kit:
    """What a host works with; in a warm process it is exchanged for the kernel's own after the fork."""

    def __init__(self, channel_fd: int, acks_fd: int, out_fd: int = 1, err_fd: int = 2) -> None:
        self.interrupts = Interrupts()
        self.channel = Channel(channel_fd, acks_fd, self.interrupts)
        self.streams = Streams(self.channel, out_fd, err_fd)
        self.results = Results(self.channel, self.streams)
        self.loop = Loop(self.channel, self.interrupts)
        self.forking: int | None = None
        """The thread whose next fork makes a copy of the kernel; every other one is the user's."""

    def watch_forks(self) -> None:
        """From now on a process that the user forks has nothing of the kernel's."""
        os.register_at_fork(before=self.streams.flush, after_in_child=self._forked)

    def _forked(self) -> None:
        if self.forking != threading.get_ident():
            self.channel.leave()

    def close(self) -> None:
        """Of the kit that a warm process has used."""
        self.channel.leave()
        self.streams.close()
        self.loop.close()


class Host:
    """Runs cells, one after the other, in one module."""

    own_notes: tuple[str, ...] = ()
    """What the host itself lacks."""

    def __init__(self, kit: Kit, module: ModuleType) -> None:
        self.kit = kit
        self.module = module
        self.cell = ""
        """The file name of the running cell's code."""
        self.notes: list[str] = []
        self._subject: object = None
        self._is_main = False
        self._shown: list[Any] = []

    @property
    def version(self) -> str:
        return f"Python {sys.version.split()[0]}"

    @property
    def execution_count(self) -> int:
        """Of the last cell."""
        raise NotImplementedError

    def fresh(self) -> None:
        """An empty namespace, count 0; after a fork, in the sandbox."""
        self._subject = None
        self._is_main = False
        self._shown.clear()
        sys.modules["__main__"] = self.module
        builtins.input = no_input
        getpass.getpass = _no_password
        os.system = self._system
        missing = [name for name in _WANTED if name not in sys.modules and not _is_there(name)]
        self.notes = list(self.own_notes)
        if missing:
            self.notes.append(f"not installed: {', '.join(missing)}; `pip install {' '.join(missing)}`")

    def _system(self, command: Any) -> int:
        """`os.system`, where an interrupt ends the cell too: C's ``system`` keeps SIGINT from its caller."""
        with self.kit.streams.lent():
            status = _run_by_shell(command)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGINT and _in_main_thread():
            raise KeyboardInterrupt
        return status

    def execute(self, code: str) -> None:
        """Runs a cell; raises what it raises."""
        raise NotImplementedError

    def is_cell(self, name: str) -> bool:
        """Whether `name` is the file name of a cell's code."""
        raise NotImplementedError

    def format_error(self, error: BaseException, at: TracebackType | None) -> list[str]:
        raise NotImplementedError

    def forget_threads(self) -> None:
        """In a copy of the kernel, which has none of the original's threads."""

    def run_nodes(self, nodes: list[ast.stmt], shown: int, compiler: Callable[[Any, str, str], CodeType]) -> None:
        """Runs statements, the last `shown` of them interactively: the values of expressions go to the display hook.

        With ``await`` in them they run on the kernel's loop.
        """
        split = len(nodes) - shown
        codes = [compiler(ast.Module(nodes[:split], []), self.cell, "exec")] if split else []
        codes += [compiler(ast.Interactive([node]), self.cell, "single") for node in nodes[split:]]
        names = self.module.__dict__
        if any(code.co_flags & _COROUTINE for code in codes):
            self.kit.loop.run(_run_all(codes, names))
            return
        for code in codes:
            exec(code, names)  # noqa: S102 - that is what this is for

    @contextmanager
    def showing(self, subject: object, *, main: bool = False) -> Iterator[None]:
        """What is published inside is a display of `subject`."""
        before = self._subject, self._is_main
        self._subject, self._is_main = subject, main
        try:
            yield
        finally:
            self._subject, self._is_main = before

    def takes_main(self) -> bool:
        """Whether what is published next is the value of the cell's last expression."""
        return self._is_main

    def publish(
        self, data: dict[str, Any], metadata: Any = None, *, display_id: Any = None, update: bool = False
    ) -> None:
        main, self._is_main = self._is_main, False
        if mime.CHART not in data and self._subject is not None:
            self.add_chart(data, self._subject)
        self.kit.results.send(data, metadata, main=main, display_id=display_id, update=update)

    def add_chart(self, data: dict[str, Any], value: object) -> None:
        """Adds the data of a picture's chart, if `value` is a figure of a library that is known."""
        if not any(kind.__module__.partition(".")[0] in _DRAWN_BY for kind in type(value).__mro__):
            return
        if any(mime.field_of(kind) in mime.PICTURES for kind in data):
            try:
                chart = chart_of(value)
            except Exception:  # noqa: BLE001 - the display is what was asked for
                return
            if chart is not None:
                data[mime.CHART] = chart
            self._shown.append(value)

    def close_shown(self) -> None:
        """Figures that the cell has displayed by itself are not shown again at its end."""
        shown, self._shown = self._shown, []
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None:
            for figure in shown:
                if hasattr(figure, "canvas"):
                    pyplot.close(figure)


async def _run_all(codes: list[CodeType], names: dict[str, Any]) -> None:
    for code in codes:
        if code.co_flags & _COROUTINE:
            await eval(code, names)  # noqa: S307 - that is what this is for
        else:
            exec(code, names)  # noqa: S102 - as above


def no_input(prompt: object = "", /) -> NoReturn:
    del prompt
    raise EOFError("a cell has no standard input; pass the value as a variable or a file")


def _no_password(prompt: str = "", stream: object = None) -> NoReturn:
    del stream
    no_input(prompt)


_run_by_shell = os.system


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _is_there(name: str) -> bool:
    """Without importing it, and without `importlib.util`, whose load costs more than the search."""
    return any(os.path.exists(f"{folder}/{name}/__init__.py") for folder in sys.path if folder)
