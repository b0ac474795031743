"""Comments in the stream of a command, which keep it alive, are nothing to its reader."""

from __future__ import annotations

from itertools import chain

import pytest

from sandcove.wire.codec import encode
from sandcove.wire.events import ExecEvent
from sandcove.wire.models import ExecuteAnswer
from sandcove.wire.sse import encode_comment, encode_event
from tests.client.conftest import Scripted
from tests.client.peers import answer

NOW = "2025-01-01T00:00:00Z"
DONE = ExecuteAnswer(success=True, exit_code=0, stdout="", stderr="", command="c", duration=1, timestamp=NOW)
EVENTS = [
    encode_event(encode(event))
    for event in (
        ExecEvent(type="start", timestamp=NOW, command="c"),
        ExecEvent(type="stdout", timestamp=NOW, data="é"),
        ExecEvent(type="stderr", timestamp=NOW, data="\n"),
        ExecEvent(type="complete", timestamp=NOW, exit_code=0, result=DONE),
    )
]


@pytest.mark.parametrize("comment", [encode_comment(), encode_comment(b"beat") * 10_000, b":\r\n", b": data: {}\n"])
def test_comments_are_skipped(scripted: Scripted, comment: bytes) -> None:
    stream = answer(b"".join(chain.from_iterable((comment, event) for event in EVENTS)))
    box, _ = scripted(stream, stream)
    events = list(box.exec_stream("c"))
    assert [(event.type, event.data) for event in events] == [
        ("start", ""),
        ("stdout", "é"),
        ("stderr", "\n"),
        ("complete", ""),
    ]
    pieces: list[str] = []
    result = box.exec("c", on_stdout=pieces.append)
    assert (pieces, result.stdout, result.stderr, result.success) == (["é"], "é", "\n", True)
