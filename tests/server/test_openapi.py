"""Every call of both wires as schemathesis makes them from the OpenAPI documents, to a real server over TCP and
through it to real agents: what is answered is what the documents say, and never 500.

`SANDCOVE_TEST_CALLS=1000` makes so many calls of each kind besides the boundary cases, by chance; without it a few,
always the same.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode, Response
from schemathesis.checks import CheckContext, load_all_checks, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks as openapi_checks

from sandcove.server.documents import FOLDER
from sandcove.wire.sse import SseDecoder
from tests.tenants import Tcp, serving

load_all_checks()
schemathesis.serializer.alias("application/x-tar", "application/octet-stream")

CALLS = int(os.environ.get("SANDCOVE_TEST_CALLS", "0"))
BOX = "box"
TENANT = "many"
ENDING = ("/api/quiet", "/api/rest", "/api/refuse")
"""After these a sandbox takes no call."""


def read(name: str) -> Any:
    document = json.loads((FOLDER / f"{name}.json").read_bytes())
    schema = schemathesis.openapi.from_dict(document)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    return document, {operation.label: operation for operation in operations}


SERVER, SERVER_OPERATIONS = read("server")
AGENT, AGENT_OPERATIONS = read("agent")


# --- what schemathesis can't know ------------------------------------------------------------------------


def items_conform(ctx: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """Each event of a stream, and each line, is what `x-itemSchema` says."""
    media = response.headers.get("content-type", [""])[0].partition(";")[0]
    document = SERVER if case.operation.path in SERVER["paths"] else AGENT
    answers = document["paths"][case.operation.path][case.operation.method]["responses"]
    item = answers.get(str(response.status_code), {}).get("content", {}).get(media, {}).get("x-itemSchema")
    if item is not None and response.request.method != "HEAD":
        if media == "text/event-stream":
            texts = [event.data for event in SseDecoder().feed(response.content)]
        else:
            texts = [line for line in response.content.splitlines() if line]
        validator = jsonschema_rs.validator_for({**item, "components": document["components"]})
        assert texts
        for text in texts:
            validator.validate(json.loads(text))
    return None


CHECKS: list[Any] = [
    not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
    items_conform,
]


def tamed(case: Case[Any]) -> Case[Any]:
    """Without what would keep the caller waiting, or be sent to another machine."""
    body, path = case.body, case.operation.path
    if isinstance(body, dict):
        if body.get("lease") is True:
            body["lease"] = False
        if path in ("/api/wait-for-port", "/api/execute", "/api/execute/stream", "/api/execute/code"):
            timeout = body.get("timeout")
            if timeout is None or (isinstance(timeout, int) and timeout > 50):
                body["timeout"] = 50
        if body.get("language") in ("javascript", "typescript"):
            body["language"] = "python"  # a Bun for each call takes long
        url = body.get("repoUrl")
        if isinstance(url, str):
            body["repoUrl"] = "/" + url
    if path == "/api/process/{id}/stream" and str(case.query.get("timeout", 0)).isdecimal():
        case.query = {**case.query, "timeout": 20}
    return case


# --- the server, and what the calls are about ---------------------------------------------------------------


class Target:
    """A server on TCP with a sandbox, and what is there in them for calls that name something."""

    def __init__(self, server: Tcp) -> None:
        self.server = server
        self.key = server.key(TENANT, scopes=["admin", "sandboxes"]).key
        self.reader = server.key(TENANT, scopes=["read"]).key
        self.session = requests.Session()
        self.calls = 0
        self.ask("POST", "/v1/sandboxes", {"id": BOX})

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """An answer's JSON; None when it is an error."""
        answer = self.server.ask(method, path, self.key, body)
        return answer.json if answer.status < 400 else None

    def there(self, path: str) -> dict[str, str]:
        """The parameters of a path whose things exist."""
        api = f"/v1/sandboxes/{BOX}/api"
        if path.startswith("/v1/sandboxes/"):
            self.ask("POST", "/v1/sandboxes", {"id": "other"})
            if "{port}" in path:
                self.ask("POST", "/v1/sandboxes/other/ports", {"port": 8000})
            return {"id": "other", "port": "8000"}
        if path.startswith("/v1/keys/"):
            return {"id": self.ask("POST", "/v1/keys", {"tenant": TENANT})["id"]}
        if path.startswith("/api/"):
            self.ask("POST", f"{api}/write", {"path": "/workspace/hello.txt", "content": "hello"})
            self.ask("POST", f"{api}/mkdir", {"path": "/workspace/new", "recursive": True})
        if path == "/api/unexpose-port":
            self.ask("POST", f"{api}/expose-port", {"port": 8000})
        if path.startswith("/api/session/"):
            self.ask("POST", f"{api}/session/create", {"id": "there"})
        if path.startswith("/api/process/"):
            self.ask("POST", f"{api}/process/start", {"command": ["cat"], "options": {"processId": "there"}})
        if path.startswith("/api/contexts/"):
            return {"id": self.ask("POST", f"{api}/contexts", {})["id"]}
        return {"id": "there", "path": "/workspace/new" if path == "/api/folder" else "/workspace/hello.txt"}

    def clean_up(self) -> None:
        """Ends what calls have left that takes memory."""
        for context in (self.ask("GET", f"/v1/sandboxes/{BOX}/api/contexts") or {"contexts": []})["contexts"]:
            self.ask("DELETE", f"/v1/sandboxes/{BOX}/api/contexts/{context['id']}")
        self.ask("DELETE", f"/v1/sandboxes/{BOX}/api/process/kill-all")
        self.ask("POST", f"/v1/sandboxes/{BOX}/api/process/cleanup")
        for box in self.ask("GET", "/v1/sandboxes")["sandboxes"]:
            if box["id"] != BOX:
                self.ask("DELETE", f"/v1/sandboxes/{box['id']}")

    def call(self, case: Case[Any], *, key: str | None) -> Response:
        """Makes it, and checks the answer."""
        on_agent = case.operation.path.startswith("/api/")
        sandbox = "resting" if case.operation.path in ENDING else BOX
        base = f"{self.server.url}/v1/sandboxes/{sandbox}" if on_agent else self.server.url
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self.calls += 1
        checks = [*CHECKS]
        # What is posted with another type is refused before; a port's path is the agent's for every other method.
        if case.media_type in {None, "application/json"} and "xpose" not in case.operation.path:
            checks.append(openapi_checks.unsupported_method)
        return case.call_and_validate(base, self.session, headers, checks=checks, timeout=20)


@pytest.fixture(scope="module")
def target(capable: None) -> Iterator[Target]:
    with serving() as server:
        made = Target(server)
        yield made
        made.session.close()
        print(f"{made.calls} calls")


def cases_of(operation: Any) -> Iterator[Case[Any]]:
    """The boundary cases, then those by chance."""
    modes = list(GenerationMode)
    yield from operation.schema.iter_coverage_cases(
        operation, generation_modes=modes, generation_config=operation.schema.config.generation
    )
    for mode in modes:
        yield from drawn(operation, mode, CALLS or 2)


def drawn(operation: Any, mode: GenerationMode, number: int) -> list[Case[Any]]:
    found: list[Case[Any]] = []

    @settings(
        max_examples=number,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        derandomize=not CALLS,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def draw(case: Case[Any]) -> None:
        found.append(case)

    with contextlib.suppress(Unsatisfiable):  # nothing is wrong for what takes nothing
        draw()
    return found


OPERATIONS = {**SERVER_OPERATIONS, **AGENT_OPERATIONS}
NEVER_BY_CHANCE = {"POST /api/wait-for-port", "PUT /api/folder"}
LAST = "POST /v1/server/stop"


@pytest.mark.parametrize("label", [label for label in OPERATIONS if label != LAST])
def test_an_answer_is_what_the_document_says(target: Target, label: str) -> None:
    operation = OPERATIONS[label]
    there = target.there(operation.path)
    statuses = set()
    for number, case in enumerate(cases_of(operation)):
        if number % 2 == 0:
            case.path_parameters = {name: there[name] for name in case.path_parameters}
            if "path" in case.query:
                case.query = {**case.query, "path": there["path"]}
        if operation.path in ENDING:
            target.ask("POST", "/v1/sandboxes", {"id": "resting"})
        statuses.add(target.call(tamed(case), key=target.key).status_code)
    assert statuses & {200, 201} or label in NEVER_BY_CHANCE, statuses
    target.clean_up()


@pytest.mark.parametrize("label", [label for label in OPERATIONS if label != LAST])
def test_who_may_not_is_answered_as_the_document_says(target: Target, label: str) -> None:
    operation = OPERATIONS[label]
    there = {"id": "none", "port": "1"}
    for key in (None, target.reader):
        names = {found.name: there[found.name] for found in operation.path_parameters}
        case = operation.Case(path_parameters=names, body={}, media_type="application/json")
        status = target.call(case, key=key).status_code
        assert (
            status == 401
            if key is None and label not in ("GET /healthz", "GET /readyz")
            else status in {200, 400, 403, 404}
        )


def test_the_documents_are_served(target: Target) -> None:
    for path, name in (("/v1/openapi.json", "server"), ("/v1/openapi/agent.json", "agent")):
        assert target.server.ask("GET", path).status == 401
        assert target.server.ask("GET", path, target.reader).body == (FOLDER / f"{name}.json").read_bytes()


def test_at_last_the_server_stops(target: Target) -> None:
    assert target.call(OPERATIONS[LAST].Case(), key=target.key).status_code == 200
