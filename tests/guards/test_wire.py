"""Every route of the server and of the agent is on the page of the wire, with its method, and every field of a body."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sandcove.agent.app import Agent
from sandcove.calls import Call
from sandcove.server.app import Server
from sandcove.wire import answers, code, egress_log, events, git, keys, limits, models, queries, secret_calls, secrets

PAGE = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()


def routes_of(app: type[Agent | Server]) -> set[tuple[str, str]]:
    """Methods and paths of its table, which is made without anything that a call would need."""
    table: list[Any] = app.routes(object.__new__(app))  # type: ignore[arg-type]
    found = set()
    for route in table:
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
        # What is no call is passed on, whatever its method; a call for GET answers HEAD too, of itself.
        found.add((route.method if isinstance(route, Call) else "any", path))
    return found


ROUTES = routes_of(Agent) | routes_of(Server)


def test_there_are_routes_of_both() -> None:
    assert ("POST", "/api/execute") in ROUTES
    assert ("any", "/v1/sandboxes/{id}/api/{rest}") in ROUTES


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES))
def test_a_route_is_on_the_page_of_the_wire(method: str, path: str) -> None:
    assert re.search(rf"^\| {method} `{re.escape(path)}`", PAGE, re.MULTILINE)


def test_the_page_of_the_wire_has_no_route_that_is_not_there() -> None:
    assert set(re.findall(r"^\| ([A-Za-z]+) `(/[^`]+)`", PAGE, re.MULTILINE)) == ROUTES


BODIES = [
    value
    for module in (models, answers, egress_log, events, git, code, keys, limits, queries, secret_calls, secrets)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == module.__name__
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_a_field_of_a_body_is_on_the_page_of_the_wire(body: type[msgspec.Struct]) -> None:
    fields = msgspec.structs.fields(body)
    assert not [
        field.encode_name
        for field in fields
        if not re.search(rf"`(\?{field.encode_name}=.*|{field.encode_name}\??)`", PAGE)
    ]


def test_a_call_into_a_sandbox_tries_few_routes() -> None:
    table: list[Any] = Server.routes(object.__new__(Server))
    before = next(at for at, route in enumerate(table) if route.path.endswith("/api/{rest:path}"))
    assert before == 3, "those that the server answers in the agent's place"
