"""`code`: a cell in a sandbox's code context, from a file, standard input or the command line."""

from __future__ import annotations

import os
import re
import sys
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path, PurePath
from typing import Final, cast

from sandcove.cli.run import write
from sandcove.cli.sandboxes import existing
from sandcove.client._sync.sandbox import Sandbox
from sandcove.client.execution import CodeEvent, ExecutionError, line_of
from sandcove.client.rich import Result
from sandcove.errors import ContextEndedError, InvalidRequestError
from sandcove.wire.code import Language

__all__ = ["code"]

ENDINGS: Final = {
    ".js": "javascript",
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".ts": "typescript",
    ".mts": "typescript",
}
PICTURES: Final = {"png": "png", "jpeg": "jpg", "svg": "svg", "pdf": "pdf"}
"""Formats of pictures, and how files of them end."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def code(options: Namespace) -> int:
    """`sandcove code`. Exit code 1 when the cell raises."""
    if options.context is not None and options.sandbox is None:
        raise InvalidRequestError("a context is one of a sandbox; name that with --sandbox")
    text = _text_of(options)
    language = cast(Language | None, options.language)
    if language is None and options.context is None and options.file is not None:
        language = cast(Language | None, ENDINGS.get(PurePath(options.file).suffix))
    pictures = None if options.save is None else _Pictures(Path(options.save))
    screen = _Screen(options.json)
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox()) if options.sandbox is None else existing(options.sandbox)
        events = sandbox.run_code_stream(
            text,
            context=options.context,
            language=language,
            env_vars=dict(options.env) or None,
            timeout=options.timeout,
        )
        failed = 0
        try:
            for event in events:
                screen.show(event)
                if event.error is not None:
                    failed = 1
                if event.result is not None and pictures is not None:
                    pictures.save(event.result)
        except ContextEndedError as error:
            # The cell did it, as a command that is ended by a signal has ended itself.
            print("sandcove:", error.message, file=sys.stderr)
            failed = 1
        finally:
            events.close()  # left early, this interrupts the cell
    return failed


def _text_of(options: Namespace) -> str:
    if (options.file is None) == (options.code is None):
        raise InvalidRequestError("give the file with the code, - for standard input, or the code itself with -c")
    if options.code is not None:
        return cast(str, options.code)
    try:
        # Python has no standard input where that is closed.
        data = Path(options.file).read_bytes() if options.file != "-" else sys.stdin.buffer.read() if sys.stdin else b""
        return data.decode()
    except OSError as error:
        raise InvalidRequestError(f"{options.file} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"{options.file} is no text in UTF-8: {error}") from None


class _Screen:
    """Standard output and error, as the cell goes on."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._within_line = False

    def show(self, event: CodeEvent) -> None:
        """Prints it. A result begins a line of its own."""
        if self._json:
            write(1, line_of(event) + b"\n")
        elif event.type == "stdout":
            write(1, event.text.encode())
            if event.text:
                self._within_line = not event.text.endswith("\n")
        elif event.type == "stderr":
            write(2, event.text.encode())
        elif event.result is not None:
            shown = event.result.text
            before = "\n" if self._within_line else ""
            write(1, f"{before}{repr(event.result) if shown is None else shown}\n".encode())
            self._within_line = False
        elif event.error is not None:
            write(2, f"{_traceback(event.error)}\n".encode())


def _traceback(error: ExecutionError) -> str:
    text = "\n".join(error.traceback) or str(error)
    return text if os.isatty(2) else _COLOURS.sub("", text)


class _Pictures:
    """The files for a cell's pictures: ``cell-1.png`` and so on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._updated: dict[str, int] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidRequestError(f"the folder {folder} can't be made: {error.strerror}") from None

    def save(self, result: Result) -> None:
        """Writes it in each format of pictures that it has; an update takes its earlier one's place."""
        formats = [name for name in PICTURES if name in result.formats()]
        if not formats:
            return
        number = self._updated.get(result.display_id or "")
        if number is None or not result.update:
            self._count += 1
            number = self._count
        if result.display_id is not None:
            self._updated[result.display_id] = number
        for name in formats:
            content = getattr(result, name)
            file = self._folder / f"cell-{number}.{PICTURES[name]}"
            file.write_bytes(content.encode() if isinstance(content, str) else content)
            print("saved", file, file=sys.stderr, flush=True)
