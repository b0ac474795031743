#!/usr/bin/env python3
"""Writes the OpenAPI documents of both wires, `src/sandcove/server/openapi/*.json`, from the tables of calls.

    scripts/openapi.py           writes what is out of date
    scripts/openapi.py --check   writes nothing; exit code 1 when something is out of date

All that they say is in the code: a call's parameters, bodies, answers and statuses are in the signature of what answers
it, its errors in its line of the table, descriptions in docstrings. See `sandcove.calls`.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
import types
import typing
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from starlette.responses import Response

from sandcove.agent.app import EVERY as OF_THE_AGENT
from sandcove.agent.app import Agent
from sandcove.calls import Bytes, Call, Json, Many, Tar, Text
from sandcove.errors import SandboxError, TooLargeError
from sandcove.server.app import EVERY as OF_THE_SERVER
from sandcove.server.app import RELAYED, Server
from sandcove.server.auth import OPEN, needed_by_key, needed_by_token
from sandcove.wire import WIRE_VERSION
from sandcove.wire.answers import Error
from sandcove.wire.code import RunCode
from sandcove.wire.codec import encode
from sandcove.wire.egress_log import SetEgress
from sandcove.wire.git import CheckoutRequest
from sandcove.wire.keys import SCOPES, CreateKey, CreateToken
from sandcove.wire.limits import ResourceLimits
from sandcove.wire.models import (
    Answer,
    CreateSandbox,
    CreateSession,
    DeletePath,
    Execute,
    ExposePort,
    ListFiles,
    MakeFolder,
    MovePath,
    PathOnly,
    ReadFile,
    RenamePath,
    StartProcess,
    UnexposePort,
    WaitForPort,
    WriteFile,
)
from sandcove.wire.queries import Query
from sandcove.wire.secret_calls import Trust

FOLDER = Path(__file__).resolve().parent.parent / "src" / "sandcove" / "server" / "openapi"
RELAY = "/v1/sandboxes/{id}"
"""Below it the server answers the agent wire."""

EXAMPLES = [
    CreateSandbox(id="box", labels={"team": "blue"}, sleep_after=600_000),
    CreateKey(tenant="blue", scopes=["sandboxes"]),
    CreateToken(expires_in=600_000),
    ExposePort(port=8000, name="web"),
    SetEgress(egress=["python", "example.com:443"]),
    ResourceLimits(memory=512 * 1024 * 1024, cpus=1.5),
    Trust(certificate="-----BEGIN CERTIFICATE-----\nMIIBAA==\n-----END CERTIFICATE-----\n"),
    UnexposePort(port=8000),
    Execute(command="echo hello"),
    StartProcess(command="sleep 1"),
    CreateSession(id="work"),
    WriteFile(path="/workspace/hello.txt", content="hello\n"),
    ReadFile(path="/workspace/hello.txt"),
    PathOnly(path="/workspace/hello.txt"),
    MakeFolder(path="/workspace/new", recursive=True),
    DeletePath(path="/workspace/hello.txt"),
    RenamePath(old_path="/workspace/hello.txt", new_path="/workspace/hi.txt"),
    MovePath(source_path="/workspace/hello.txt", destination_path="/workspace/hi.txt"),
    ListFiles(path="/workspace"),
    WaitForPort(port=8000, timeout=5000),
    RunCode(code="1 + 1", language="python"),
    CheckoutRequest(repo_url="file:///workspace/origin", depth=1),
]

IN_PATHS = {
    "sandboxes": "A sandbox's id.",
    "keys": "A key's id.",
    "ports": "A TCP port of the sandbox.",
    "session": "A session's name.",
    "process": "A process's id.",
    "contexts": "A code context's id.",
}
"""What a parameter of a path is, by the word before it."""

ABOUT = """\
An error's body is `Error`; its `code` is stable. A path that is not there is answered 404 `NOT_FOUND`, a wrong method
405 `METHOD_NOT_ALLOWED` with `Allow`. GET takes HEAD too. A head over 64 KiB is answered 431, one that takes over 30 s
to come 408, what is no HTTP/1.1 400. Bodies and queries with fields that are not here are refused; answers may have
more fields. Moments are ISO 8601 in UTC, times milliseconds. Over a server's Unix socket no key is needed."""
SERVER_ABOUT = """\
About sandboxes: make, find, wake, destroy; keys; ports. What is in a sandbox is the agent wire's, which has a document
of its own, `/v1/openapi/agent.json`. The server passes on what no document can list: `/v1/sandboxes/{id}/api/{rest}`,
any method, to the sandbox's agent, `/v1/sandboxes/{id}/proxy/{port}/{rest}`, any method, to what listens on a port,
and `/v1/previews/{label}/{rest}`, any method, to a preview, for a proxy that says who its visitor is.
"""
AGENT_ABOUT = """\
All that happens in one sandbox. The server answers it below the sandbox's address, and wakes the sandbox for it.
"""


def server_calls() -> list[Call]:
    """The table of the server, without what it passes on."""
    return [line for line in Server.routes(object.__new__(Server)) if isinstance(line, Call)]


def agent_calls() -> list[Call]:
    """The table of the agent."""
    return Agent.routes(object.__new__(Agent))


def on_the_agent_wire(call: Call) -> bool:
    """The server answers it in the agent's place."""
    return call.path.startswith(f"{RELAY}/api/")


class Document:
    """One document, as it grows.

    Args:
        address: where its paths begin.
        every: the errors that every call may end in.
    """

    def __init__(self, title: str, about: str, address: dict[str, Any], every: Iterable[type[SandboxError]]) -> None:
        self._every = tuple(every)
        self._structs: dict[type[msgspec.Struct], None] = {Error: None}
        self._answers: dict[str, Any] = {}
        self.paths: dict[str, dict[str, Any]] = {}
        self.content: dict[str, Any] = {
            "openapi": "3.1.0",
            "info": {
                "title": title,
                "version": str(WIRE_VERSION),
                "description": f"{about}\n{ABOUT}",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [address],
            "paths": self.paths,
        }

    def add(self, call: Call, path: str, at: str, more: Iterable[type[SandboxError]] = ()) -> None:
        """Adds a call, as `path`; `at` is the path that the server sees."""
        summary, _, rest = inspect.cleandoc(call.do.__doc__ or "").partition("\n")
        operation: dict[str, Any] = {"operationId": _name(call), "summary": summary}
        if rest.strip():
            operation["description"] = _flat(rest)
        if parameters := [*_in_path(path), *self._in_query(call.query)]:
            operation["parameters"] = parameters
        if call.body is not None:
            operation["requestBody"] = {"required": True, "content": {"application/json": self._json(call.body)}}
        elif issubclass(call.request, Bytes | Tar):
            operation["requestBody"] = {"content": {call.request.takes: {}}}
        fails = [*call.fails, *more, *(() if path in OPEN else self._every)]
        if call.body is not None:
            fails.append(TooLargeError)
        operation["responses"] = self._successes(call) | self._failures(fails)
        operation["security"] = _security(call.method, at)
        self.paths.setdefault(path, {})[call.method.lower()] = operation

    def _json(self, kind: Any) -> dict[str, Any]:
        self._structs[kind] = None
        media: dict[str, Any] = {"schema": _reference(kind)}
        if examples := [example for example in EXAMPLES if type(example) is kind]:
            media["example"] = json.loads(encode(examples[0]))
        return media

    def _in_query(self, kind: type[Query] | None) -> list[dict[str, Any]]:
        if kind is None:
            return []
        schema = _schemas([kind])[kind.__name__]
        found = []
        for name, field in schema["properties"].items():
            about = field.pop("description", "")
            given = [one for one in field.pop("anyOf", [field]) if one != {"type": "null"}]
            default = field.pop("default", None)
            inner = given[0] if len(given) == 1 else {"anyOf": given}
            if default is not None:
                inner["default"] = default
            parameter = {"name": name, "in": "query", "description": about, "schema": inner}
            found.append(parameter | ({"required": True} if name in schema.get("required", []) else {}))
        return found

    def _successes(self, call: Call) -> dict[str, Any]:
        found: dict[str, dict[str, Any]] = defaultdict(dict)
        given = typing.get_type_hints(call.do)["return"]
        for kind in typing.get_args(given) if typing.get_origin(given) in (types.UnionType, typing.Union) else [given]:
            origin: type[Response] = typing.get_origin(kind) or kind
            media: dict[str, Any] = {}
            if issubclass(origin, Json):
                media = self._json(typing.get_args(kind)[0])
            elif issubclass(origin, Many):
                item = _item(origin)
                self._structs[item] = None
                media = {"x-itemSchema": _reference(item)}
            elif issubclass(origin, Text):
                media = {"schema": {"type": "string"}}
            elif origin.media_type == "application/json":
                media = {"schema": {"type": "object"}}
            for status in getattr(origin, "statuses", (200,)):
                found[str(status)][str(origin.media_type)] = media
        return {status: {"description": _ABOUT[status], "content": content} for status, content in found.items()}

    def _failures(self, errors: Iterable[type[SandboxError]]) -> dict[str, Any]:
        by_status: dict[int, dict[str, type[SandboxError]]] = defaultdict(dict)
        for error in errors:
            by_status[error.status][error.code] = error
        found = {}
        for status, by_code in sorted(by_status.items()):
            codes = sorted(by_code)
            name = ".".join(codes)
            found[str(status)] = {"$ref": f"#/components/responses/{name}"}
            told = {"type": "object", "properties": {"code": {"enum": codes}}}
            self._answers[name] = {
                "description": " ".join(f"`{code}`: {_flat(by_code[code].__doc__ or '')}" for code in codes),
                "content": {"application/json": {"schema": {"allOf": [_reference(Error), told]}}},
                **({"headers": headers} if (headers := _HEADERS.get(status)) else {}),
            }
        return found

    def text(self) -> str:
        """All of it as JSON."""
        components = {
            "schemas": dict(sorted(_schemas(list(self._structs)).items())),
            "responses": dict(sorted(self._answers.items())),
            "securitySchemes": _SCHEMES,
        }
        return json.dumps(self.content | {"components": components}, indent=1, ensure_ascii=False) + "\n"


_ABOUT = {"200": "Done.", "201": "Made."}
_RETRY = {"Retry-After": {"description": "Seconds after which it may work.", "schema": {"type": "string"}}}
_HEADERS = {
    401: {"WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}}},
    429: _RETRY,
    503: _RETRY,
}
_SCHEMES = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key. Beside a call are the scopes of which it needs one.",
    },
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A sandbox token, for its sandbox alone; beside a call is the scope that it needs.",
    },
}


def _name(call: Call) -> str:
    where = call.do.__module__.rpartition(".")[2].removesuffix("_calls")
    return call.do.__name__ if where == "app" else f"{where}_{call.do.__name__}"


def _item(kind: type[Response]) -> Any:
    """The `T` of a class that is below `Many[T]`."""
    for cls in kind.__mro__:
        for base in getattr(cls, "__orig_bases__", ()):
            if isinstance(typing.get_args(base)[0], type):
                return typing.get_args(base)[0]
    raise TypeError(f"{kind} does not say of what it is many")


def _in_path(path: str) -> Iterable[dict[str, Any]]:
    for before, name in re.findall(r"([^/]+)/\{(\w+)\}", path):
        about = IN_PATHS[before]
        yield {"name": name, "in": "path", "required": True, "description": about, "schema": {"type": "string"}}


def _security(method: str, at: str) -> list[dict[str, list[str]]]:
    if at in OPEN:
        return []
    path = at.replace("{id}", "id", 1)
    token = needed_by_token(method, path, "id")
    scope = needed_by_key(method, path)
    scopes = [*SCOPES] if scope == "read" else [scope]
    return [{"key": scopes}, *([] if token is None else [{"token": [token]}])]


def _reference(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _schemas(kinds: list[type[msgspec.Struct]]) -> dict[str, Any]:
    """The schemas of structs and of all that they are made of, with what their fields' docstrings say."""
    _, found = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    for name, schema in found.items():
        kind = _STRUCTS[name]
        schema.pop("title", None)
        schema["description"] = _flat(schema.get("description", ""))
        if not schema["description"]:
            del schema["description"]
        told = _fields_docstrings(kind)
        for field, encoded in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True):
            if about := told.get(field):
                schema["properties"][encoded]["description"] = about
        if issubclass(kind, Answer) and not kind.__struct_config__.omit_defaults:
            # What has a default is there all the same.
            schema["required"] = [
                field.encode_name for field in msgspec.structs.fields(kind) if field.default is not msgspec.UNSET
            ]
    return found


def _fields_docstrings(kind: type[msgspec.Struct]) -> dict[str, str]:
    told = {}
    for cls in reversed(kind.__mro__):
        if cls.__module__.startswith("sandcove."):
            (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
            assert isinstance(definition, ast.ClassDef)
            for field, after in zip(definition.body, definition.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    match after:
                        case ast.Expr(ast.Constant(str(text))):
                            told[field.target.id] = _flat(text)
    return told


def _all_structs(kind: type[msgspec.Struct]) -> Iterable[type[msgspec.Struct]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _all_structs(child)


_STRUCTS = {kind.__name__: kind for kind in _all_structs(msgspec.Struct) if kind.__module__.startswith("sandcove.wire")}


def _flat(text: str) -> str:
    """A docstring in CommonMark: paragraphs in one line each."""
    text = inspect.cleandoc(text)
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text)).strip()


def documents() -> dict[str, str]:
    """The text of each document, by the name of its file."""
    server = Document("Sandcove: server wire", SERVER_ABOUT, {"url": "/"}, OF_THE_SERVER)
    sandbox = {"default": "box", "description": "The sandbox's id."}
    address = {"url": "/v1/sandboxes/{sandbox}", "variables": {"sandbox": sandbox}}
    agent = Document("Sandcove: agent wire", AGENT_ABOUT, address, OF_THE_SERVER)
    for call in server_calls():
        if on_the_agent_wire(call):
            agent.add(call, call.path.removeprefix(RELAY), call.path)
        else:
            server.add(call, call.path, call.path)
    for call in agent_calls():
        agent.add(call, call.path, RELAY + call.path, [*RELAYED, *OF_THE_AGENT])
    return {"server.json": server.text(), "agent.json": agent.text()}


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = [
        name
        for name, text in documents().items()
        if not (FOLDER / name).exists() or (FOLDER / name).read_text("utf-8") != text
    ]
    for name in stale:
        if check:
            print(f"{FOLDER / name} is out of date: run scripts/openapi.py")
        else:
            (FOLDER / name).write_text(documents()[name], "utf-8")
            print(f"written: {FOLDER / name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
