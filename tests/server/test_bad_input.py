"""Bad input in bulk: the right status and code, a clear message, no traceback anywhere, and the server unharmed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandcove import Sandbox, list_sandboxes
from tests.server.conftest import ask

HUGE = 10 * 1024 * 1024


@pytest.fixture(scope="module")
def box(home: Path) -> Iterator[Sandbox]:
    with Sandbox() as made:
        made.exec("true")
        made.start_process("read", process_id="there")
        yield made
        assert made.get_process("there").status == "running"


@pytest.fixture(scope="module")
def there(box: Sandbox) -> list[str]:
    """Every sandbox that there is before the bad input, and so after it."""
    return [info.id for info in list_sandboxes()]


SERVER: list[tuple[str, str, Any, int, str]] = [
    ("GET", "/", None, 404, "NOT_FOUND"),
    ("GET", "/v1", None, 404, "NOT_FOUND"),
    ("GET", "/v1/nothing", None, 404, "NOT_FOUND"),
    ("GET", "/v1/sandboxes/no-such", None, 404, "SANDBOX_NOT_FOUND"),
    ("DELETE", "/v1/sandboxes/no-such", None, 404, "SANDBOX_NOT_FOUND"),
    ("POST", "/v1/sandboxes/no-such/wake", b"", 404, "SANDBOX_NOT_FOUND"),
    ("POST", "/v1/sandboxes/no-such/sleep", b"", 404, "SANDBOX_NOT_FOUND"),
    ("GET", "/v1/sandboxes/no-such/api/ping", None, 404, "SANDBOX_NOT_FOUND"),
    ("PUT", "/v1/sandboxes", b"{}", 405, "METHOD_NOT_ALLOWED"),
    ("POST", "/v1/server", b"", 405, "METHOD_NOT_ALLOWED"),
    ("PATCH", "/v1/sandboxes/x", b"", 405, "METHOD_NOT_ALLOWED"),
    ("POST", "/v1/sandboxes", b"", 400, "INVALID_REQUEST"),
    ("POST", "/v1/sandboxes", b"{", 400, "INVALID_REQUEST"),
    ("POST", "/v1/sandboxes", b"[]", 400, "INVALID_REQUEST"),
    ("POST", "/v1/sandboxes", b"\xff\xfe", 400, "INVALID_REQUEST"),
    ("POST", "/v1/sandboxes", b"[" * 100_000, 400, "INVALID_REQUEST"),
    ("POST", "/v1/sandboxes", {"id": 7}, 400, "INVALID_REQUEST"),
    ("POST", "/v1/sandboxes", {"unknown": 7}, 400, "INVALID_REQUEST"),
    ("POST", "/v1/sandboxes", {"sleepAfter": -1}, 400, "INVALID_REQUEST"),
    ("POST", "/v1/sandboxes", {"sleepAfter": 1.5}, 400, "INVALID_REQUEST"),
    ("POST", "/v1/sandboxes", {"sleepAfter": 10**30}, 400, "INVALID_REQUEST"),
    ("POST", "/v1/sandboxes", {"sleepAfter": 2**63 - 1, "id": "x", "labels": {"": ""}}, 400, "INVALID_REQUEST"),
    ("POST", "/v1/sandboxes", {"labels": {"a": 1}}, 400, "INVALID_REQUEST"),
    ("POST", "/v1/sandboxes", {"env": {"1A": "x"}}, 400, "INVALID_REQUEST"),
    ("POST", "/v1/sandboxes", {"env": {"A": "\0"}}, 400, "INVALID_REQUEST"),
    ("POST", "/v1/sandboxes", {"env": {"A": "x" * HUGE}}, 400, "INVALID_REQUEST"),
]
WRONG_IDS = (
    "",
    "A",
    "-a",
    "a-",
    "a.b",
    "a/b",
    "..",
    "a" * 64,
    "root",
    "admin",
    "a\0",
    "é",
    "a b",
    "%2e%2e",
    "a\n",
    "x" * HUGE,
)
SERVER += [("POST", "/v1/sandboxes", {"id": name}, 400, "SECURITY") for name in WRONG_IDS]


def shown(case: tuple[Any, ...]) -> str:
    return f"{case[0]} {case[1]} {str(case[2])[:30]}".encode("unicode_escape").decode()


@pytest.mark.parametrize("case", SERVER, ids=shown)
def test_the_server_refuses(there: list[str], home: Path, case: tuple[str, str, Any, int, str]) -> None:
    refused(home / "server.sock", case)
    assert [info.id for info in list_sandboxes()] == there


EXECUTE: list[tuple[Any, int, str]] = [
    (b"", 400, "INVALID_REQUEST"),
    (b"null", 400, "INVALID_REQUEST"),
    (b'{"command": "true"', 400, "INVALID_REQUEST"),
    ({}, 400, "INVALID_REQUEST"),
    ({"command": 1}, 400, "INVALID_REQUEST"),
    ({"command": ""}, 400, "INVALID_REQUEST"),
    ({"command": " \n"}, 400, "INVALID_REQUEST"),
    ({"command": []}, 400, "INVALID_REQUEST"),
    ({"command": [""]}, 400, "INVALID_REQUEST"),
    ({"command": ["a", 1]}, 400, "INVALID_REQUEST"),
    ({"command": "a\0b"}, 400, "INVALID_REQUEST"),
    ({"command": ["a", "\0"]}, 400, "INVALID_REQUEST"),
    ({"command": "x" * HUGE}, 400, "INVALID_REQUEST"),
    ({"command": ["x"] * 2_000_000}, 400, "INVALID_REQUEST"),
    ({"command": "true", "cmd": 1}, 400, "INVALID_REQUEST"),
    ({"command": "true", "timeout": 0}, 400, "INVALID_REQUEST"),
    ({"command": "true", "timeout": -5}, 400, "INVALID_REQUEST"),
    ({"command": "true", "timeout": "5"}, 400, "INVALID_REQUEST"),
    ({"command": "true", "timeout": 10**30}, 400, "INVALID_REQUEST"),
    ({"command": "true", "timeout": 10**400}, 400, "INVALID_REQUEST"),
    ({"command": "true", "id": "no-such"}, 404, "SESSION_NOT_FOUND"),
    ({"command": "true", "id": "../x"}, 404, "SESSION_NOT_FOUND"),
    ({"command": "true", "id": 5}, 400, "INVALID_REQUEST"),
    ({"command": "true", "cwd": "/no/such"}, 404, "PATH_NOT_FOUND"),
    ({"command": "true", "cwd": "/etc/passwd"}, 404, "PATH_NOT_FOUND"),
    ({"command": "true", "cwd": "\0"}, 400, "INVALID_REQUEST"),
    ({"command": "true", "cwd": ""}, 400, "INVALID_REQUEST"),
    ({"command": "true", "cwd": "x" * 5000}, 400, "INVALID_REQUEST"),
    ({"command": "true", "env": {"A=B": "x"}}, 400, "INVALID_REQUEST"),
    ({"command": "true", "env": {"A": None}}, 400, "INVALID_REQUEST"),
    ({"command": "true", "env": {"A": "x" * 200_000}}, 400, "INVALID_REQUEST"),
    ({"command": "true", "stdin": "!", "stdinEncoding": "base64"}, 400, "INVALID_REQUEST"),
    ({"command": "true", "stdin": "x", "stdinEncoding": "hex"}, 400, "INVALID_REQUEST"),
    (b'{"command": "\\ud800"}', 400, "INVALID_REQUEST"),
]


@pytest.mark.parametrize("route", ["/api/execute", "/api/execute/stream"])
@pytest.mark.parametrize("case", EXECUTE, ids=lambda case: shown(("", "", case[0])))
def test_the_agent_refuses_commands(box: Sandbox, home: Path, route: str, case: tuple[Any, int, str]) -> None:
    body, status, code = case
    refused(home / "run" / f"{box.id}.sock", ("POST", route, body, status, code))


OTHERS: list[tuple[str, str, Any, int, str]] = [
    ("GET", "/api/nothing", None, 404, "NOT_FOUND"),
    ("GET", "/api/execute", None, 405, "METHOD_NOT_ALLOWED"),
    ("DELETE", "/api/session/no-such", None, 404, "SESSION_NOT_FOUND"),
    ("DELETE", "/api/session/%00", None, 400, "INVALID_REQUEST"),
    ("POST", "/api/session/create", {"id": ""}, 400, "INVALID_REQUEST"),
    ("POST", "/api/session/create", {"id": "a/b"}, 400, "INVALID_REQUEST"),
    ("POST", "/api/session/create", {"id": ".."}, 400, "INVALID_REQUEST"),
    ("POST", "/api/session/create", {"id": "default"}, 409, "SESSION_EXISTS"),
    ("POST", "/api/session/create", {"id": "x", "cwd": "relative"}, 400, "INVALID_REQUEST"),
    ("POST", "/api/session/create", {"id": "x", "cwd": "/a\0"}, 400, "INVALID_REQUEST"),
    ("POST", "/api/session/create", {"id": "x", "isolation": "yes"}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", b"", 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", [], 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": 1}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": " "}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": []}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": "a\0"}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": "x" * 200_000}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": ["true", "x" * 200_000]}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": ["no-such"]}, 404, "PATH_NOT_FOUND"),
    ("POST", "/api/process/start", {"command": ["x" * 5000]}, 404, "PATH_NOT_FOUND"),
    ("POST", "/api/process/start", {"command": ["/dev/null"]}, 404, "PATH_NOT_FOUND"),
    ("POST", "/api/process/start", {"command": "true", "sessionId": "no-such"}, 404, "SESSION_NOT_FOUND"),
    ("POST", "/api/process/start", {"command": "true", "sessionId": None}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": "true", "options": []}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": "true", "options": {"other": 1}}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": "true", "options": {"timeout": 0}}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": "true", "options": {"timeout": -1}}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": "true", "options": {"timeout": 10**30}}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": "true", "options": {"timeout": 10**400}}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": "true", "options": {"timeout": 1.5}}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": "true", "options": {"cwd": "/no"}}, 404, "PATH_NOT_FOUND"),
    ("POST", "/api/process/start", {"command": "true", "options": {"cwd": "\0"}}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": "true", "options": {"env": {"A=B": "x"}}}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": "true", "options": {"env": {"A": "\0"}}}, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/start", {"command": "true", "options": {"autoCleanup": "yes"}}, 400, "INVALID_REQUEST"),
    *[
        ("POST", "/api/process/start", {"command": "true", "options": {"processId": name}}, 400, "INVALID_REQUEST")
        for name in ("", " ", ".", "..", "a/b", "a?b", "a#b", "a\n", "\0", "é", "list", "kill-all", "x" * 129, 7)
    ],
    ("GET", "/api/process/no-such", None, 404, "PROCESS_NOT_FOUND"),
    ("GET", "/api/process/%00", None, 404, "PROCESS_NOT_FOUND"),
    ("GET", "/api/process/%ff", None, 404, "PROCESS_NOT_FOUND"),
    ("GET", "/api/process/" + "x" * 10_000, None, 404, "PROCESS_NOT_FOUND"),
    ("GET", "/api/process/a%2fb", None, 404, "NOT_FOUND"),
    ("GET", "/api/process/list?session=no-such", None, 404, "SESSION_NOT_FOUND"),
    ("GET", "/api/process/list?sesion=default", None, 400, "INVALID_REQUEST"),
    ("GET", "/api/process/there?x=1", None, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/there", b"", 405, "METHOD_NOT_ALLOWED"),
    ("DELETE", "/api/process/no-such", None, 404, "PROCESS_NOT_FOUND"),
    ("DELETE", "/api/process/kill-all?session=no-such", None, 404, "SESSION_NOT_FOUND"),
    *[
        ("DELETE", f"/api/process/there?signal={text}", None, 400, "INVALID_REQUEST")
        for text in (
            "",
            "0",
            "-9",
            "65",
            "9" * 5000,
            "%C2%B2",
            "SIG",
            "SIG_DFL",
            "TERM%00",
            "TERM%20",
            "1.5",
            "x" * 5000,
        )
    ],
    *[
        ("GET", f"/api/process/there/stream?{query}", None, 400, "INVALID_REQUEST")
        for query in (
            "cursor=-1",
            "cursor=1",
            f"cursor={10**30}",
            "cursor=",
            "cursor=END",
            "cursor=%D9%A1",
            "timeout=0",
            "timeout=-1",
            f"timeout={10**30}",
            "timeout=1.5",
            "timeout=soon",
            "output=maybe",
            "output=",
            "follow=1",
        )
    ],
    ("GET", "/api/process/no-such/stream", None, 404, "PROCESS_NOT_FOUND"),
    ("GET", "/api/process/no-such/logs", None, 404, "PROCESS_NOT_FOUND"),
    ("GET", "/api/process/there/logs?tail=5", None, 400, "INVALID_REQUEST"),
    ("POST", "/api/process/no-such/stdin", b"x", 404, "PROCESS_NOT_FOUND"),
    ("POST", "/api/process/there/stdin?close=perhaps", b"x", 400, "INVALID_REQUEST"),
    ("POST", "/api/process/there/stdin?end=1", b"x", 400, "INVALID_REQUEST"),
    ("POST", "/api/process/cleanup?session=no-such", b"", 404, "SESSION_NOT_FOUND"),
    ("POST", "/api/wait-for-port", {}, 400, "INVALID_REQUEST"),
    ("POST", "/api/wait-for-port", {"port": 0}, 400, "INVALID_REQUEST"),
    ("POST", "/api/wait-for-port", {"port": 65536}, 400, "INVALID_REQUEST"),
    ("POST", "/api/wait-for-port", {"port": 10**30}, 400, "INVALID_REQUEST"),
    ("POST", "/api/wait-for-port", {"port": "80"}, 400, "INVALID_REQUEST"),
    ("POST", "/api/wait-for-port", {"port": 9, "timeout": 0}, 400, "INVALID_REQUEST"),
    ("POST", "/api/wait-for-port", {"port": 9, "timeout": -1}, 400, "INVALID_REQUEST"),
    ("POST", "/api/wait-for-port", {"port": 9, "timeout": 10**400}, 400, "INVALID_REQUEST"),
    ("POST", "/api/wait-for-port", {"port": 9, "processId": "no-such"}, 404, "PROCESS_NOT_FOUND"),
    ("POST", "/api/wait-for-port", {"port": 9, "timeout": 1}, 408, "EXECUTION_TIMEOUT"),
    ("POST", "/api/env", {"env": {"": "x"}}, 400, "INVALID_REQUEST"),
    ("POST", "/api/env", {"env": []}, 400, "INVALID_REQUEST"),
    ("POST", "/api/env", {"env": {}, "sessionId": "no-such"}, 404, "SESSION_NOT_FOUND"),
    ("POST", "/api/read", {"path": "/no/such"}, 404, "PATH_NOT_FOUND"),
    ("POST", "/api/read", {"path": "/etc"}, 422, "FILE_SYSTEM_ERROR"),
    ("POST", "/api/read", {"path": "/dev/zero"}, 422, "FILE_SYSTEM_ERROR"),
    ("POST", "/api/read", {"path": "/etc/passwd/x"}, 422, "FILE_SYSTEM_ERROR"),
    ("POST", "/api/read", {"path": "\0"}, 400, "INVALID_REQUEST"),
    ("POST", "/api/read", {"path": "/" + "x" * 300}, 422, "FILE_SYSTEM_ERROR"),
    ("POST", "/api/read", {"path": "x" * HUGE}, 400, "INVALID_REQUEST"),
    ("POST", "/api/read", {"path": "/etc/passwd", "encoding": "latin-1"}, 400, "INVALID_REQUEST"),
    ("POST", "/api/write", {"path": "/", "content": ""}, 422, "FILE_SYSTEM_ERROR"),
    ("POST", "/api/write", {"path": "/dev/null", "content": ""}, 422, "FILE_SYSTEM_ERROR"),
    ("POST", "/api/write", {"path": "/tmp/x"}, 400, "INVALID_REQUEST"),
    ("POST", "/api/write", {"path": "/tmp/x", "content": "@@", "encoding": "base64"}, 400, "INVALID_REQUEST"),
    ("POST", "/api/write", {"path": "/tmp/x", "content": "", "mode": "rw"}, 400, "INVALID_REQUEST"),
    ("POST", "/api/write", {"path": "/tmp/x", "content": "", "mode": -1}, 400, "INVALID_REQUEST"),
    ("POST", "/api/mkdir", {"path": "/etc"}, 409, "PATH_EXISTS"),
    ("POST", "/api/mkdir", {"path": "/no/such/x"}, 404, "PATH_NOT_FOUND"),
    ("POST", "/api/delete", {"path": "/no/such"}, 404, "PATH_NOT_FOUND"),
    ("POST", "/api/delete", {"path": "/usr/bin"}, 422, "FILE_SYSTEM_ERROR"),
    ("POST", "/api/delete", {"path": "/proc", "recursive": True}, 422, "FILE_SYSTEM_ERROR"),
    ("POST", "/api/rename", {"oldPath": "/no", "newPath": "/such"}, 404, "PATH_NOT_FOUND"),
    ("POST", "/api/move", {"sourcePath": "/no", "destinationPath": "/such"}, 404, "PATH_NOT_FOUND"),
    ("POST", "/api/move", {"sourcePath": "/var", "destinationPath": "/var/lib"}, 422, "FILE_SYSTEM_ERROR"),
    ("POST", "/api/list-files", {"path": "/no"}, 404, "PATH_NOT_FOUND"),
    ("POST", "/api/list-files", {"path": "/etc/passwd"}, 422, "FILE_SYSTEM_ERROR"),
    ("POST", "/api/list-files", {"path": "/", "options": {"deep": 1}}, 400, "INVALID_REQUEST"),
    ("POST", "/api/stat", {"path": "/no"}, 404, "PATH_NOT_FOUND"),
    ("GET", "/api/file", None, 400, "INVALID_REQUEST"),
    ("GET", "/api/file?path=/no", None, 404, "PATH_NOT_FOUND"),
    ("GET", "/api/file?path=/etc", None, 422, "FILE_SYSTEM_ERROR"),
    ("GET", "/api/file?path=%00", None, 400, "INVALID_REQUEST"),
    ("GET", "/api/file?path=/etc/passwd&other=1", None, 400, "INVALID_REQUEST"),
    ("PUT", "/api/file?path=/tmp/x&mode=9", b"", 400, "INVALID_REQUEST"),
    ("PUT", "/api/file?path=/tmp/x&mode=-644", b"", 400, "INVALID_REQUEST"),
    ("PUT", "/api/file?path=/tmp", b"x", 422, "FILE_SYSTEM_ERROR"),
    ("GET", "/api/folder?path=/etc/passwd", None, 422, "FILE_SYSTEM_ERROR"),
    ("GET", "/api/folder?path=/no", None, 404, "PATH_NOT_FOUND"),
    ("PUT", "/api/folder?path=/tmp/f", b"no archive at all", 400, "INVALID_REQUEST"),
    ("PUT", "/api/folder?path=/etc/passwd", b"", 422, "FILE_SYSTEM_ERROR"),
]


@pytest.mark.parametrize("way", ["direct", "relayed"])
@pytest.mark.parametrize("case", OTHERS, ids=shown)
def test_the_agent_refuses(box: Sandbox, home: Path, case: tuple[str, str, Any, int, str], way: str) -> None:
    method, target, body, status, code = case
    if way == "direct":
        refused(home / "run" / f"{box.id}.sock", case)
    else:
        refused(home / "server.sock", (method, f"/v1/sandboxes/{box.id}{target}", body, status, code))


def refused(path: Path, case: tuple[str, str, Any, int, str]) -> None:
    method, target, body, status, code = case
    answer = ask(path, method, target, body)
    assert (answer.status, answer.json.get("code")) == (status, code), answer.body[:500]
    message = answer.json["error"]
    assert 10 < len(message) < 1000 and "Traceback" not in message and "\0" not in message


JUNK = [
    b"\0" * 1000,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/9.9\r\n\r\n",
    b"NOT-HTTP\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    b"POST /v1/sandboxes HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/sandboxes HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
    b"GET /v1/sandboxes/../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://example.com/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /v1/server HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
]


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk[:40]))
@pytest.mark.parametrize("whose", ["server", "agent"])
def test_what_is_no_http_harms_nobody(box: Sandbox, home: Path, junk: bytes, whose: str) -> None:
    path = home / "server.sock" if whose == "server" else home / "run" / f"{box.id}.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(path))
        try:
            sock.sendall(junk)
            sock.shutdown(socket.SHUT_WR)
            while data := sock.recv(65536):
                assert b"Traceback" not in data
        except (BrokenPipeError, ConnectionResetError):
            pass  # it closed at once, which is an answer
    assert box.exec("echo unharmed").stdout == "unharmed\n"


def test_a_request_that_never_ends_holds_nobody_up(box: Sandbox, there: list[str], home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(str(home / "server.sock"))
        slow.sendall(b"POST /v1/sandboxes HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{")
        assert box.exec("echo unharmed").stdout == "unharmed\n"
        assert [info.id for info in list_sandboxes()] == there


def test_afterwards_no_log_has_a_traceback(box: Sandbox, home: Path) -> None:
    for log in [home / "server.log", *home.glob("sandboxes/*/agent.log")]:
        assert "Traceback" not in log.read_text(), log
