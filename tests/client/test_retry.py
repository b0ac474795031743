"""What is tried again, and what is not, against a server and an agent that answer as a test wants; both halves."""

from __future__ import annotations

import logging
import time

import pytest

from sandcove import (
    ContainerNotReadyError,
    InterpreterNotReadyError,
    Sandbox,
    SandboxError,
    SandboxNetworkError,
    ServiceUnavailableError,
)
from sandcove.errors import SessionNotFoundError
from sandcove.wire.codec import encode
from sandcove.wire.models import ExecuteAnswer
from tests.client.conftest import Scripted
from tests.client.peers import Peer, answer, refusal

PONG = answer(b"{}")
RAN = answer(
    encode(
        ExecuteAnswer(
            success=True, exit_code=0, stdout="", stderr="", command="c", duration=1, timestamp="2025-01-01T00:00:00Z"
        )
    )
)
NOT_BEGUN = refusal(ContainerNotReadyError("asleep", begun=False))
NOT_READY = refusal(ContainerNotReadyError("ending"))


@pytest.mark.parametrize("failure", [None, NOT_READY, refusal(InterpreterNotReadyError("starting")), NOT_BEGUN])
def test_a_repeatable_call_is_tried_four_times(scripted: Scripted, failure: bytes | None) -> None:
    box, script = scripted(failure, failure, failure, PONG)
    box.ping()
    assert script.calls == ["GET /api/ping"] * 4
    box, script = scripted(failure, failure, failure, failure)
    with pytest.raises(ServiceUnavailableError):
        box.ping()
    assert script.calls == ["GET /api/ping"] * 4


@pytest.mark.parametrize("failure", [None, NOT_READY, refusal(ServiceUnavailableError("busy", retryAfter=0))])
def test_a_command_that_may_have_had_an_effect_is_never_repeated(scripted: Scripted, failure: bytes | None) -> None:
    for run in (lambda box: box.exec("c"), lambda box: list(box.exec_stream("c"))):
        box, script = scripted(failure)
        with pytest.raises(ServiceUnavailableError):
            run(box)
        assert len(script.calls) == 1


def test_a_command_that_has_not_begun_is_repeated(scripted: Scripted) -> None:
    box, script = scripted(NOT_BEGUN, NOT_BEGUN, RAN)
    assert box.exec("c").success
    assert script.calls == ["POST /api/execute"] * 3
    assert script.woken == 2


def test_a_stream_that_was_read_is_not_sent_again(scripted: Scripted) -> None:
    box, script = scripted(NOT_BEGUN)
    with pytest.raises(ContainerNotReadyError):
        box.exec("c", stdin=iter([bytes(1 << 20), bytes(1 << 20)]))
    assert script.calls == ["PUT /api/stdin"]


@pytest.mark.parametrize("error", [SandboxError("x", begun=False), SessionNotFoundError("x", begun=False)])
def test_other_errors_are_not_repeated(scripted: Scripted, error: SandboxError) -> None:
    box, script = scripted(refusal(error))
    with pytest.raises(type(error)):
        box.ping()
    assert len(script.calls) == 1


@pytest.mark.parametrize("way", ["body", "header"])
def test_the_time_that_the_other_end_asks_for_is_respected(scripted: Scripted, way: str) -> None:
    if way == "body":
        asks = refusal(ServiceUnavailableError("busy", retryAfter=0.2))
        least = 0.2
    else:
        asks = refusal(ServiceUnavailableError("busy"), b"Retry-After: 1")
        least = 1.0
    box, _ = scripted(asks, PONG)
    began = time.monotonic()
    box.ping()
    assert time.monotonic() - began >= least


@pytest.mark.parametrize(
    "asks",
    [
        refusal(ServiceUnavailableError("busy", retryAfter=31)),
        refusal(ServiceUnavailableError("busy"), b"Retry-After: 3600"),
    ],
)
def test_too_long_a_time_is_told_instead_of_waited(scripted: Scripted, asks: bytes) -> None:
    box, script = scripted(asks)
    with pytest.raises(ServiceUnavailableError) as caught:
        box.ping()
    assert caught.value.retry_after in {31, 3600}
    assert len(script.calls) == 1


def test_a_header_that_is_no_number_asks_for_nothing(scripted: Scripted) -> None:
    for said in (b"soon", b"Wed, 21 Oct 2026 07:28:00 GMT", b"-1", b"9" * 400):
        box, _ = scripted(refusal(ServiceUnavailableError("busy"), b"Retry-After: " + said), PONG)
        box.ping()


def test_a_server_that_is_not_there_is_tried_and_named(scripted: Scripted) -> None:
    with Peer(None, lambda connection: None) as peer:
        url = peer.url
    with pytest.raises(SandboxNetworkError, match="can't be reached: Connection refused; check that it runs"):
        Sandbox("x", url=url).ping()


def test_each_retry_is_logged_without_the_other_end_s_words(
    scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    box, _ = scripted(refusal(ServiceUnavailableError("s3cret", retryAfter=0)), None, PONG)
    with caplog.at_level(logging.DEBUG, "sandcove"):
        box.ping()
    tries = [record.getMessage() for record in caplog.records if record.getMessage().startswith("try ")]
    assert [line.split(";")[0] for line in tries] == [
        "try 1 of a request failed (SERVICE_UNAVAILABLE)",
        "try 2 of a request failed (Broken)",
    ]
    assert "s3cret" not in caplog.text
