# Written by scripts/unasync.py from _async/context.py. Change that file, not this one.
"""A code context of a sandbox, as its user holds it."""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime
from types import TracebackType
from typing import Self

from sandcove.client._sync.agent import Agent
from sandcove.client._sync.client import JSON
from sandcove.client.check import check_context_id
from sandcove.client.endpoint import LONG, START, Broken
from sandcove.client.results import log, when
from sandcove.errors import ContextNotFoundError, SandboxError, SandboxNetworkError, error_from_wire
from sandcove.wire import code
from sandcove.wire.codec import NOT_JSON, decoder_of, encode
from sandcove.wire.http import quote
from sandcove.wire.lines import LineDecoder

__all__ = ["CodeContext", "code_events", "id_of", "path_of"]

_events = decoder_of(code.CodeEvent)


class CodeContext:
    """A code context: a process of its own that runs cells one after the other and keeps their variables.

    ``with context:`` deletes it at the end. The attributes are as of the last call that asked for them; `refresh` asks
    anew.

    Attributes:
        id: its name in the sandbox.
        language: ``python``, ``javascript`` or ``typescript``.
        cwd: the folder that it was made in, as an absolute path.
        created_at, last_used: when it was made, and when a cell last began or ended.
        status: ``idle``, ``busy``, or ``ended``: its process has ended by itself or was killed, and `restart` starts
            another.
        session_id: the session whose environment it began with, and with which it ends.
        pid: the number of its process in the sandbox.
        execution_count: of its last cell; 0 before the first.
        version: what runs its cells, such as ``Python 3.11.7, IPython 9.18.1``.
        notes: what it lacks, and how to get it.
        timeout: seconds that each of its cells may run that is given no other; None: no limit. Kept here, not in the
            sandbox.
        lost: of a copy, what the original has that the copy has not: see `fork`.
    """

    def __init__(self, agent: Agent, info: code.ContextInfo, sandbox: object, timeout: float | None = None) -> None:
        self._agent = agent
        self._sandbox = sandbox  # an anonymous one is destroyed when nobody holds it
        self.timeout = timeout
        self.lost: list[str] = info.lost if isinstance(info, code.ContextForked) else []
        self._take(info)

    def _take(self, info: code.ContextInfo) -> None:
        self.id = info.id
        self.language = info.language
        self.cwd = info.cwd
        self.created_at: datetime = when(info.created_at)
        self.last_used: datetime = when(info.last_used)
        self.status = info.status
        self.session_id = info.session_id
        self.pid = info.pid
        self.execution_count = info.execution_count
        self.version = info.version
        self.notes = info.notes

    def refresh(self) -> None:
        """Asks for its state.

        Raises:
            ContextNotFoundError: it was deleted, or the sandbox slept.
        """
        listing = self._agent.call("GET", "/api/contexts", code.ContextList, repeatable=True)
        for info in listing.contexts:
            if info.id == self.id:
                return self._take(info)
        raise ContextNotFoundError(f"Context {self.id} not found")

    def interrupt(self) -> bool:
        """Interrupts the cell that runs, which then ends with an error of its own; its variables stay.

        Returns:
            False: none was running.
        """
        answer = self._agent.call("POST", path_of(self.id, "/interrupt"), code.Interrupted)
        return answer.interrupted

    def restart(self) -> None:
        """Ends its process, if that still runs, and starts another: the variables are gone."""
        self._take(self._agent.call("POST", path_of(self.id, "/restart"), code.ContextInfo, within=START))

    def fork(self) -> Self:
        """Makes a live copy: a context with the same variables, from which on neither sees what the other does.

        It waits for the cells before it. Files are not copied: both have the sandbox's.

        Returns:
            The copy. Its `lost` names what could not be copied: threads, child processes, tasks of an event loop.

        Raises:
            CodeExecutionError: contexts of this language can't be copied, or this one can't now; the message says why.
            ContextEndedError: its process has ended.
        """
        info = self._agent.call("POST", path_of(self.id, "/fork"), code.ContextForked, within=LONG)
        return type(self)(self._agent, info, self._sandbox, self.timeout)

    def delete(self) -> None:
        """Ends it, with a cell that runs and all that it started.

        Raises:
            ContextNotFoundError: there is none any more.
        """
        self._agent.call("DELETE", path_of(self.id), dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.delete()
        except ContextNotFoundError:
            pass  # it is gone, as it should be
        except SandboxError as failed:
            if error is None:
                raise
            log.warning("context %s is left in its sandbox: %s", self.id, failed)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} {self.language} {self.status}>"


def path_of(id: str, rest: str = "") -> str:
    """The path of a context's route."""
    return f"/api/contexts/{quote(id)}{rest}"


def id_of(context: CodeContext | str) -> str:
    """The id of a context that is given itself or by its id."""
    return context.id if isinstance(context, CodeContext) else check_context_id(context)


def code_events(agent: Agent, request: code.RunCode) -> Generator[tuple[code.CodeEvent, int], None, None]:
    """Runs a cell: the events, and the bytes that each took. ``execution_complete`` is the last.

    An error that is none of the cell's own is raised, at the end.
    """
    response = agent.open("POST", "/api/execute/code", encode(request), JSON, within=START)
    decoder = LineDecoder()
    failure: SandboxError | None = None
    complete = False
    try:
        while not complete:
            for line in decoder.feed(response.next_piece()):
                event = _events.decode(line)
                complete = event.type == "execution_complete"
                if event.type == "error" and event.code is not None:
                    failure = error_from_wire(500, {"error": event.evalue, "code": event.code})
                elif failure is None or not complete:
                    yield event, len(line)
        response.finish()
    except Broken as error:
        # After such an error there may be nothing more: what ran the cell has ended.
        raise failure or agent.ended(error) from None
    except NOT_JSON as error:
        raise SandboxNetworkError(f"the agent's answer is not what this client understands: {error}") from None
    finally:
        response.close()
    if failure is not None:
        raise failure
