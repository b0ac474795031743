"""What a cell gave: its events one by one, or put together to an `Execution`."""

from __future__ import annotations

from typing import Any, Final, Literal

from sandcove.client.output import MAX_COLLECTED
from sandcove.client.results import Result as Value
from sandcove.client.rich import Result
from sandcove.wire import code
from sandcove.wire.codec import encode

__all__ = ["Assembly", "CodeEvent", "Execution", "ExecutionError", "Logs", "line_of"]

MAX_RESULTS: Final = 256 * 1024 * 1024
"""Bytes of results, as they came, that are collected; the callback gets all of them."""

WHOLE: Final = 8 * 1024
"""Characters that pieces of output are joined up to: a list of a character each would take fifty times their size."""


class ExecutionError(Value, frozen=True, kw_only=True):
    """How a cell failed. It is no exception: that a cell raises is a result like any other.

    Attributes:
        name: the exception's class, such as ``ZeroDivisionError``.
        value: its message.
        traceback: lines for people, as the language prints them.
        line_number: the line of the cell, from 1; None when that is not known.
    """

    name: str
    value: str
    traceback: list[str]
    line_number: int | None

    @classmethod
    def of(cls, event: code.CodeEvent) -> ExecutionError:
        """From the wire's form."""
        return cls(
            name=event.ename or "Error",
            value=event.evalue or "",
            traceback=event.traceback,
            line_number=event.line_number,
        )

    def __str__(self) -> str:
        return f"{self.name}: {self.value}" if self.value else self.name


class Logs(Value, frozen=True, kw_only=True):
    """What a cell printed.

    Attributes:
        stdout, stderr: in pieces, in the order in which they were printed; join them for the whole.
    """

    stdout: list[str]
    stderr: list[str]


class Execution(Value, frozen=True, kw_only=True):
    """A cell that ended.

    Attributes:
        code: the cell.
        results: what it displayed, and the value of its last expression, which is `main`, in their order.
        logs: what it printed.
        error: how it failed, or None.
        execution_count: its number in its context, from 1.
        truncated: it gave more than is collected (32 MiB of each stream, 256 MiB of results); the rest was dropped.
    """

    code: str
    results: list[Result]
    logs: Logs
    error: ExecutionError | None
    execution_count: int
    truncated: bool = False

    @property
    def success(self) -> bool:
        """It did not fail."""
        return self.error is None

    @property
    def text(self) -> str | None:
        """The value of its last expression as text; None when it has none."""
        return next((result.text for result in reversed(self.results) if result.main), None)

    @property
    def json(self) -> Any:
        """That value, where JSON has such: a dict or list of Python, an object of JavaScript; else None."""
        return next((result.json for result in reversed(self.results) if result.main), None)


class CodeEvent:
    """One event of a cell that runs.

    Attributes:
        type: any of ``stdout``, ``stderr``, ``result`` and ``clear_output``, then ``error`` if it fails, at last
            ``execution_complete``.
        text: on ``stdout`` and ``stderr``: whole characters; else empty.
        result: on ``result``.
        error: on ``error``.
        wait: on ``clear_output``: what was shown so far shall go when the next output comes, not before.
        execution_count: on ``execution_complete``.
    """

    __slots__ = ("_event", "error", "execution_count", "result", "text", "type", "wait")

    def __init__(self, event: code.CodeEvent) -> None:
        self.type: Literal["stdout", "stderr", "result", "clear_output", "error", "execution_complete"] = event.type
        self.text = event.text or "" if event.type in ("stdout", "stderr") else ""
        self.result = Result(event) if event.type == "result" else None
        self.error = ExecutionError.of(event) if event.type == "error" else None
        self.wait = event.wait
        self.execution_count = event.execution_count
        self._event = event

    def __repr__(self) -> str:
        told = {"stdout": self.text, "stderr": self.text, "result": self.result, "error": self.error}
        return f"<CodeEvent {self.type} {told.get(self.type, self.execution_count)!r}>"


def line_of(event: CodeEvent) -> bytes:
    """The event as the wire has it: JSON, without a line end."""
    return encode(event._event)  # noqa: SLF001 - the wire's form is nobody else's business


class Assembly:
    """An execution as far as its events have come."""

    def __init__(self) -> None:
        self._count = 0
        self._error: ExecutionError | None = None
        self._clear_first = False
        self._clear()

    def _clear(self) -> None:
        self._clear_first = False
        self._truncated = False
        self._printed = {"stdout": _Pieces(), "stderr": _Pieces()}
        self._results: list[tuple[Result, int]] = []
        self._size = 0

    def add(self, event: code.CodeEvent, size: int) -> None:
        """The next event, which took `size` bytes."""
        if event.type == "clear_output":
            self._clear_first = event.wait
            if not event.wait:
                self._clear()
            return
        if event.type == "error":
            self._error = ExecutionError.of(event)
        elif event.type == "execution_complete":
            self._count = event.execution_count or 0
        else:
            if self._clear_first:
                self._clear()
            if event.type == "result":
                self._add_result(Result(event), size)
            else:
                self._printed[event.type].add(event.text or "")

    def _add_result(self, result: Result, size: int) -> None:
        replaced = [
            place
            for place, (earlier, _) in enumerate(self._results)
            if result.update and result.display_id is not None and earlier.display_id == result.display_id
        ]
        size_of_all = self._size + size * max(len(replaced), 1) - sum(self._results[place][1] for place in replaced)
        if size_of_all > MAX_RESULTS:
            self._truncated = True
            return
        self._size = size_of_all
        for place in replaced:
            self._results[place] = (result, size)
        if not replaced:
            self._results.append((result, size))

    def so_far(self) -> dict[str, Any]:
        """What there is when the cell has no end of its own: the details of an error."""
        return {
            **{stream: "".join(pieces.all) for stream, pieces in self._printed.items()},
            "results": [result for result, _ in self._results],
        }

    def execution(self, text: str) -> Execution:
        """All of it, of the cell `text`."""
        out, err = self._printed.values()
        return Execution(
            code=text,
            results=[result for result, _ in self._results],
            logs=Logs(stdout=out.all, stderr=err.all),
            error=self._error,
            execution_count=self._count,
            truncated=self._truncated or out.truncated or err.truncated,
        )


class _Pieces:
    """What one stream printed, few pieces of it however it came, up to the limit."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self.truncated = False
        self._size = 0

    def add(self, piece: str) -> None:
        room = MAX_COLLECTED - self._size
        if len(piece) > room:
            self.truncated = True
            piece = piece[:room]
        self._size += len(piece)
        if self.all and len(self.all[-1]) + len(piece) <= WHOLE:
            self.all[-1] += piece
        elif piece:
            self.all.append(piece)
