"""Programs that a cell starts by ``!command`` and ``%%bash``: on the kernel's own standard output and error.

IPython reads their output in a thread and prints it; here they print it themselves, live, and nothing stays behind.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["forget_threads", "register_magics", "system"]

_PIP = re.compile(r"\A\s*pip3?(?=\s|$)")
_INTERPRETERS = ("bash", "sh", "script", "python", "python3", "perl", "ruby")


def system(shell: Any, command: str) -> None:
    """Runs a command in the shell. ``pip`` is that of the Python that runs the cells."""
    command = _PIP.sub(lambda _: f"{shlex.quote(sys.executable)} -m pip", command, count=1)
    code = _run(shell.host, command, None, shell=True)  # noqa: S604 - the user's command in the user's sandbox
    shell.user_ns["_exit_code"] = code
    if code and getattr(shell, "system_raise_on_error", False):
        raise subprocess.CalledProcessError(code, command)


def _run(host: Any, command: str | Sequence[str], text: str | None, **options: Any) -> int:
    """Its exit code. What a cell captures (``%%capture``) it captures of programs too."""
    streams = host.kit.streams
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if text is None else {"input": text.encode(errors="replace")}
    if sys.stdout is streams.out and sys.stderr is streams.err:
        with streams.lent():
            return subprocess.run(command, check=False, **given, **options).returncode
    streams.flush()
    done = subprocess.run(command, check=False, capture_output=True, **given, **options)
    for stream, printed in ((sys.stdout, done.stdout), (sys.stderr, done.stderr)):
        with contextlib.suppress(AttributeError):  # None: then nothing is wanted
            stream.write(printed.decode(errors="replace"))
    return done.returncode


def register_magics(shell: Any) -> None:
    """Those of IPython's script magics that run a program and wait for it."""
    for name in _INTERPRETERS:
        own = _magic(shell, name)
        shell.register_magic_function(own, "cell", name)


def _magic(shell: Any, name: str) -> Any:
    def run(line: str, cell: str) -> None:
        arguments = shlex.split(line)
        if any(word.startswith("--") for word in arguments[: None if name != "script" else 1]):
            original(shell, name, line, cell)
            return
        if name == "script" and not arguments:
            raise ValueError("%%script needs a program: %%script bash")
        program = sys.executable if name.startswith("python") else name
        argv = arguments if name == "script" else [program, *arguments]
        try:
            code = _run(shell.host, argv, cell if cell.endswith("\n") else f"{cell}\n")
        except FileNotFoundError:
            print(f"the program {argv[0]!r} is not there", file=sys.stderr)
            code = 127
        if code:
            raise subprocess.CalledProcessError(code, cell)

    run.__doc__ = f"Run the cell with {name} and show what it prints as it comes."
    return run


def original(shell: Any, name: str, line: str, cell: str) -> None:
    """IPython's own, for its options (``--out``, ``--bg``, ...)."""
    magics = shell.magics_manager.registry["ScriptMagics"]
    magics.shebang(line if name == "script" else f"{name} {line}", cell)


def forget_threads(shell: Any) -> None:
    """In a copy of the kernel: IPython's loop for its script magics runs in a thread, which the copy has not."""
    with contextlib.suppress(Exception):
        magics = shell.magics_manager.registry.get("ScriptMagics")
        if magics is not None:
            magics.event_loop = None
            magics._event_loop_finalizer = None
