"""Code contexts and cells on the wire; the conventions of `models`, but for the seed's own names in snake_case.

``POST /api/execute/code`` answers one `CodeEvent` a line, as ASCII JSON: the seed's client decodes each piece that the
network gives it by itself. An empty line is a heartbeat.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from sandcove.wire.models import DEFAULT_SESSION, Answer, Request

__all__ = [
    "LANGUAGES",
    "CodeEvent",
    "ContextForked",
    "ContextInfo",
    "ContextList",
    "CreateContext",
    "Interrupted",
    "Language",
    "RunCode",
    "default_context",
]

Language = Literal["python", "javascript", "typescript"]
LANGUAGES: tuple[Language, ...] = ("python", "javascript", "typescript")


def default_context(language: str, session_id: str = DEFAULT_SESSION) -> str:
    """The id of the context for a session's cells of a language that name none: made with the first of them."""
    return f"default-{language}" if session_id == DEFAULT_SESSION else f"default-{language}@{session_id}"


class CreateContext(Request):
    """``POST /api/contexts``."""

    language: Language = "python"
    cwd: str | None = None
    """Relative to the session's folder. By default ``/workspace``, or the folder of a session that is named."""
    env_vars: dict[str, str] | None = msgspec.field(name="env_vars", default=None)
    session_id: str = DEFAULT_SESSION
    """(ours) whose environment it begins with, and with which it ends."""


class ContextInfo(Answer, omit_defaults=True):
    """A context: what ``POST /api/contexts`` and (ours) ``POST /api/contexts/{id}/restart`` answer.

    All from `status` on is ours.
    """

    id: str
    language: Language
    cwd: str
    created_at: str
    last_used: str
    status: Literal["idle", "busy", "ended"]
    """``ended``: its kernel ended by itself or was killed; it can be restarted."""
    session_id: str
    pid: int
    execution_count: int
    """Of the last cell; 0 before the first."""
    version: str
    """What runs its cells, such as ``Python 3.11.7, IPython 9.18.1``."""
    notes: list[str] = msgspec.field(default_factory=list)
    """What its kernel lacks, and how to get it."""


class ContextList(Answer):
    """``GET /api/contexts``."""

    contexts: list[ContextInfo]
    count: int
    timestamp: str


class Interrupted(Answer):
    """(ours) ``POST /api/contexts/{id}/interrupt``: answered at once; the cell ends with an error of its own."""

    success: bool
    interrupted: bool
    """False: no cell was running."""
    timestamp: str


class ContextForked(ContextInfo):
    """(ours) ``POST /api/contexts/{id}/fork``: the copy."""

    lost: list[str] = msgspec.field(default_factory=list)
    """What the original has that the copy has not: threads, tasks of an event loop, child processes, connections."""


class RunCode(Request):
    """``POST /api/execute/code``. All but the first three is ours.

    The stream takes the query parameter ``heartbeat`` as that of ``/api/execute/stream`` does.
    """

    code: str
    context_id: str | None = msgspec.field(name="context_id", default=None)
    """None: the default context of the language, see `default_context`."""
    language: Language | None = None
    """With `context_id` it must be the context's; alone it chooses the default context, ``python`` without both."""
    timeout: int | None = None
    """Milliseconds that the cell may run, its wait for the cells before it not counted; then it is interrupted."""
    env_vars: dict[str, str] | None = msgspec.field(name="env_vars", default=None)
    """Variables for this cell only."""
    session_id: str = DEFAULT_SESSION
    """Whose default context, without `context_id`."""


class CodeEvent(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """One line of the answer.

    Any of ``stdout``, ``stderr``, ``result`` and ``clear_output``, at most one ``error``, last ``execution_complete``.
    """

    type: Literal["stdout", "stderr", "result", "clear_output", "error", "execution_complete"]

    text: str | None = None
    """Of output: whole characters. Of a result: its ``text/plain``."""
    html: str | None = None
    markdown: str | None = None
    latex: str | None = None
    svg: str | None = None
    png: str | None = None
    """Base64, as `jpeg` and `pdf` are."""
    jpeg: str | None = None
    pdf: str | None = None
    javascript: str | None = None
    json: Any = None
    chart: dict[str, Any] | None = None
    """The data that a picture was drawn from; see `sandcove.kernels.charts`."""
    plotly: Any = None
    """(ours) a figure as plotly's JSON."""
    vega: Any = None
    vega_lite: Any = None
    geojson: Any = None
    data: dict[str, Any] | None = None
    """The representations of every other type, by MIME type."""
    metadata: dict[str, Any] | None = None
    """By the same names and types, what IPython calls metadata: such as an image's ``width``."""
    main: bool = False
    """(ours) the value of the cell's last expression; not what was displayed by a call."""
    display_id: str | None = None
    """(ours) the name of a display that may be updated."""
    update: bool = False
    """(ours) this result takes the place of an earlier one of the same `display_id`."""

    wait: bool = False
    """Of ``clear_output``: only when the next output comes."""

    ename: str | None = None
    evalue: str | None = None
    traceback: list[str] = msgspec.field(default_factory=list)
    line_number: int | None = None
    """Of the error, in the cell, from 1."""
    code: str | None = None
    """(ours) when it is no error of the cell's own: ``EXECUTION_TIMEOUT``, ``CONTEXT_ENDED`` (its kernel died)."""

    execution_count: int | None = msgspec.field(name="execution_count", default=None)
