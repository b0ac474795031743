"""An exception of a cell as an ``error`` message, whatever the exception does when it is asked about itself."""

from __future__ import annotations

import builtins
import re
import traceback
from collections.abc import Callable
from types import TracebackType

from sandcove.kernels.python.jsonable import text_of

__all__ = ["Formatter", "failure", "format_plainly", "is_group", "line_in", "of_cells", "print_plainly"]

Formatter = Callable[[BaseException, "TracebackType | None"], "list[str]"]

_OURS = "sandcove.kernels."
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST_VALUE = 100_000
_LONGEST_TRACEBACK = 1_000_000


def failure(error: BaseException, cell: str, is_cell: Callable[[str], bool], formatter: Formatter) -> bytes:
    """The message, one line.

    `cell` is the file name of the code that ran, `is_cell` knows those of all cells. `formatter` is called with the
    traceback from the first frame in a cell on; what it gives is split into lines.
    """
    line = line_in(error, cell)
    name = _text(lambda: type(error).__name__, "Exception")
    value = _text(lambda: str(error), f"<str() of this {name} failed>")
    try:
        blocks = formatter(error, of_cells(error.__traceback__, is_cell))
        lines = _COLOURS.sub("", "\n".join(str(block).rstrip("\n") for block in blocks)).split("\n")
    except Exception:  # noqa: BLE001 - the exception's own code runs in it, and memory may be scarce
        lines = [f"{name}: {value}"]
    return message(name, value, lines, line)


def message(name: str, value: str, lines: list[str], line: int | None) -> bytes:
    return (
        f'{{"type":"error","ename":{text_of(name)},"evalue":{text_of(_cut(value, _LONGEST_VALUE))},'
        f'"traceback":{text_of(_cut_lines(lines))},"lineNumber":{text_of(line)}}}\n'
    ).encode()


def format_plainly(error: BaseException, at: TracebackType | None) -> list[str]:
    """As Python does."""
    return traceback.format_exception(type(error), error, at)


def print_plainly(error: BaseException, stream: object) -> None:
    """To a stream, from the first frame on that is not ours; never raises."""
    try:
        lines = format_plainly(error, of_cells(error.__traceback__, lambda _: False))
        stream.write("".join(lines))  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001, S110 - the exception's own code runs in it, and the stream may be the user's
        pass


def is_group(error: BaseException | None) -> bool:
    """Whether it is, or came while handling, an exception group."""
    group = getattr(builtins, "BaseExceptionGroup", None)
    seen = 0
    while group is not None and error is not None and seen < 100:
        if isinstance(error, group):
            return True
        error = error.__context__
        seen += 1
    return False


def of_cells(at: TracebackType | None, is_cell: Callable[[str], bool]) -> TracebackType | None:
    """The traceback from the first frame in a cell on, or all of it if it has none, without the frames of ours."""
    frames: list[TracebackType] = []
    while at is not None:
        frames.append(at)
        at = at.tb_next
    for index, entry in enumerate(frames):
        if is_cell(entry.tb_frame.f_code.co_filename):
            frames = frames[index:]
            break
    kept = [entry for entry in frames if not str(entry.tb_frame.f_globals.get("__name__", "")).startswith(_OURS)]
    first: TracebackType | None = None
    for entry in reversed(kept):
        first = TracebackType(first, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return first


def line_in(error: BaseException, cell: str) -> int | None:
    """The line of the innermost frame in the cell; of a syntax error in the cell's text, its own."""
    if isinstance(error, SyntaxError) and error.filename == cell:
        return error.lineno
    line = None
    at = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename == cell:
            line = at.tb_lineno
        at = at.tb_next
    return line


def _text(get: Callable[[], object], otherwise: str) -> str:
    try:
        value = get()
    except Exception:  # noqa: BLE001 - the exception's own code
        return otherwise
    return value if isinstance(value, str) else otherwise


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text):,} characters)"


def _cut_lines(lines: list[str]) -> list[str]:
    lines = [_cut(line, _LONGEST_VALUE) for line in lines]
    length = 0
    for index, line in enumerate(lines):
        length += len(line)
        if length > _LONGEST_TRACEBACK:
            return [*lines[:index], f"... ({len(lines):,} lines)"]
    return lines
