"""Errors cross the wire and come back as they were: class, code, status, message, details, Retry-After."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandcove.asgi import application
from sandcove.errors import (
    ConflictError,
    ExecutionTimeoutError,
    InvalidRequestError,
    NotFoundError,
    SandboxError,
    SandboxNetworkError,
    ServiceUnavailableError,
    TooLargeError,
    error_from_wire,
    error_tree,
)

TREE = list(error_tree())


def answer_to(error: Exception) -> tuple[int, dict[str, str], dict[str, Any]]:
    """What an application answers whose route raises `error`."""
    sent: list[dict[str, Any]] = []

    async def fail(_: Request) -> Response:
        raise error

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
        await application([Route("/", fail)])(scope, receive, send)

    asyncio.run(main())
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, json.loads(sent[1]["body"])


def test_codes_are_unique() -> None:
    assert len({kind.code for kind in TREE}) == len(TREE)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_as_it_was(kind: type[SandboxError]) -> None:
    status, headers, body = answer_to(kind("what é", path="/x"))
    assert (status, headers["content-type"]) == (kind.status, "application/json")
    assert body == {"error": "what é", "code": kind.code, "path": "/x"}
    assert "retry-after" not in headers
    back = error_from_wire(status, body)
    assert (type(back), str(back), back.details) == (kind, "what é", {"path": "/x"})


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("asked", "said"), [(1, "1"), (0.2, "1"), (0, "0"), (2.0, "2"), ("1", None), (-1, None)])
def test_the_header_that_says_when_to_come_back(kind: type[SandboxError], asked: Any, said: str | None) -> None:
    _, headers, body = answer_to(kind("x", retryAfter=asked))
    assert headers.get("retry-after") == (said if issubclass(kind, ServiceUnavailableError) else None)
    assert body["retryAfter"] == asked


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (404, NotFoundError),
        (408, ExecutionTimeoutError),
        (409, ConflictError),
        (413, TooLargeError),
        (500, SandboxError),
        (502, SandboxNetworkError),
        (503, ServiceUnavailableError),
        (418, SandboxError),
        (599, SandboxError),
    ],
)
@pytest.mark.parametrize("body", [{}, {"error": "e", "code": "OF_A_NEWER_SERVER"}, {"error": None, "code": 5}])
def test_a_code_that_is_not_known_gives_the_nearest_by_status(
    status: int, kind: type[SandboxError], body: dict[str, Any]
) -> None:
    error = error_from_wire(status, body)
    assert type(error) is kind
    assert str(error) == (body.get("error") or f"the server answered with HTTP status {status}")


def test_an_error_that_nobody_foresaw_tells_nothing_of_itself() -> None:
    status, _, body = answer_to(ZeroDivisionError("s3cret"))
    assert (status, body["code"]) == (500, "SANDBOX_ERROR")
    assert "s3cret" not in json.dumps(body) and "Traceback" not in json.dumps(body)
