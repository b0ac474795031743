"""What the agent and a kernel say to each other, the same for every language.

A kernel is started with these descriptors:

====  ==========================================================================================================
0     ``/dev/null``
1, 2  pipes: all that its code, and the programs that it starts, print
3     a Unix stream socket, the channel: requests come in, messages go out, each one line of ASCII JSON
4     a pipe, acknowledgements: a byte comes for each message that wants one
====  ==========================================================================================================

It moves 3 and 4 to high numbers, closed on exec, before any code of the user's runs. It ends when the channel ends.

Requests, one at a time; the next comes after the answer to the last:

- ``{"op": "run", "code": str, "env": {str: str}}``: run a cell. Without ``env``, or with variables for this cell only.
  Answered by any of ``result``, ``clear_output``, ``sync``, at most one ``error``, then ``done``.
- ``{"op": "fork"}``, with four descriptors beside it (SCM_RIGHTS): channel, acknowledgements, standard output,
  standard error of the copy. Answered by ``forked``; the copy, which is no child of the kernel's, says ``ready`` on its
  own channel.

The agent interrupts a cell by SIGINT to the kernel and to what the cell has started. A SIGINT that comes when no cell
runs does nothing.

Messages:

- ``{"type": "ready", "pid": int, "version": str, "notes": [str]}``: the first. ``pid`` is its own, as it sees it;
  ``version`` such as ``Python 3.11.7, IPython 9.18.1``; ``notes`` say what it lacks and how to get it.
- ``{"type": "result", ...}``: as in the wire's `CodeEvent`; wants an acknowledgement.
- ``{"type": "clear_output", "wait": bool}``: wants an acknowledgement.
- ``{"type": "sync"}``: nothing but wants an acknowledgement.
- ``{"type": "error", "ename": str, "evalue": str, "traceback": [str], "lineNumber": int}``: the cell raised.
- ``{"type": "done", "executionCount": int}``: the cell is over.
- ``{"type": "forked", "lost": [str], "error": str}``: ``lost`` names what the copy does not have (threads, an event
  loop's tasks, child processes); with ``error`` there is no copy.

An acknowledgement is what keeps everything in order though it comes on three descriptors: the agent gives it when it
has read from the pipes all that was printed before, and sent the message on. So a kernel asks for one with each
result, and with ``sync`` when it prints to the one of standard output and error after it has printed to the other.
It may go on without one when all that is left of the cell is its ``done``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["LONGEST_MESSAGE", "Fork", "Message", "Run", "encode", "messages"]

LONGEST_MESSAGE = 64 * 1024 * 1024
"""Bytes of one message. A kernel puts a note in the place of a longer result."""


class Run(msgspec.Struct, tag_field="op", tag="run", omit_defaults=True):
    """Run a cell."""

    code: str
    env: dict[str, str] | None = None


class Fork(msgspec.Struct, tag_field="op", tag="fork"):
    """Make a copy of the kernel on the descriptors that come with this."""


class Message(msgspec.Struct, rename="camel", kw_only=True):
    """A message, as far as the agent has to know it: results are sent on as they are."""

    type: Literal["ready", "result", "clear_output", "sync", "error", "done", "forked"]
    pid: int = 0
    version: str = ""
    notes: list[str] = msgspec.field(default_factory=list)
    execution_count: int = 0
    lost: list[str] = msgspec.field(default_factory=list)
    error: str = ""
    ename: str = ""
    evalue: str = ""
    traceback: list[str] = msgspec.field(default_factory=list)
    line_number: int | None = None


messages: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
encode = msgspec.json.Encoder().encode
