"""The OpenAPI documents: they are what the code says, have every call and nothing else, and are valid."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from sandcove.agent.app import Agent
from sandcove.calls import Call
from sandcove.errors import error_tree
from sandcove.server.app import Server
from sandcove.server.documents import FOLDER

ROOT = Path(__file__).parents[2]
DOCUMENTS: dict[str, Any] = {path.name: json.loads(path.read_bytes()) for path in FOLDER.glob("*.json")}
SERVER = {(line.method, line.path) for line in Server.routes(object.__new__(Server)) if isinstance(line, Call)}
AGENT = {(call.method, call.path) for call in Agent.routes(object.__new__(Agent))}
RELAY = "/v1/sandboxes/{id}"
OPERATIONS = [
    (name, method.upper(), path, operation)
    for name, document in DOCUMENTS.items()
    for path, methods in document["paths"].items()
    for method, operation in methods.items()
]


def test_the_documents_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "openapi.py", "--check"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["server.json", "agent.json"])
def test_a_document_is_valid(name: str) -> None:
    validate(DOCUMENTS[name])


def test_every_call_is_in_a_document_and_the_other_way_round() -> None:
    assert AGENT and SERVER
    in_the_agents_place = {(method, path) for method, path in SERVER if path.startswith(f"{RELAY}/api/")}
    documented = {name: {(method, path) for n, method, path, _ in OPERATIONS if n == name} for name in DOCUMENTS}
    assert documented == {
        "server.json": SERVER - in_the_agents_place,
        "agent.json": AGENT | {(method, path.removeprefix(RELAY)) for method, path in in_the_agents_place},
    }


def test_what_is_passed_on_is_told() -> None:
    passed_on = [line.path for line in Server.routes(object.__new__(Server)) if not isinstance(line, Call)]  # type: ignore[attr-defined]
    about = DOCUMENTS["server.json"]["info"]["description"]
    assert passed_on and all(f"`{path.replace(':path', '')}`" in about for path in passed_on)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_names_are_unique_and_every_call_says_what_it_does(name: str) -> None:
    operations = [operation for n, _, _, operation in OPERATIONS if n == name]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert not [operation["operationId"] for operation in operations if not operation["summary"]]


def test_an_error_has_its_own_status() -> None:
    statuses = {error.code: str(error.status) for error in error_tree()}
    for _, _, path, operation in OPERATIONS:
        for status, answer in operation["responses"].items():
            for code in answer.get("$ref", "").rpartition("/")[2].split("."):
                assert not code or statuses[code] == status, path
