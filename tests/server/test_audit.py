"""The audit log says who did what; it and the server's log have no value and no key in them."""

from __future__ import annotations

import json
import logging
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandcove import Sandbox
from sandcove.server.aside import KEPT
from sandcove.server.audit import Audit
from sandcove.server.caller import LOCAL
from sandcove.server.logs import LogFormatter
from tests.server import let_in
from tests.server.conftest import Serving, ask
from tests.server.test_tcp import BEARER, over_tcp

SECRET = "hush-hush"


def test_who_did_what_to_which_sandbox(serve: Callable[..., Serving]) -> None:
    serving = serve("--host=127.0.0.1", "--port=0", "--log-format=json", program=Path(let_in.__file__))
    assert serving.process.stderr is not None
    first = json.loads(serving.process.stderr.readline())
    assert {"time", "level", "logger", "message"} <= first.keys()
    while "serving on" not in first["message"]:
        first = json.loads(serving.process.stderr.readline())
    address = serving.address
    with Sandbox(url=address, api_key=let_in.KEY, env={"A": SECRET}) as box:
        box.exec(f"echo {SECRET}", env={"B": SECRET}, stdin=SECRET)
        box.write_file(f"/tmp/{SECRET}", SECRET)
        box.read_file(f"/tmp/{SECRET}")
        box.run_code(f"print('{SECRET}')", language="javascript")
        over_tcp(address, "POST", f"/v1/sandboxes/{box.id}/api/{SECRET.upper()}?{SECRET}", b"{}", BEARER)
        over_tcp(address, "DELETE", f"/v1/sandboxes/{SECRET}", headers={"Authorization": f"Bearer {SECRET}"})
        over_tcp(address, "GET", "/v1/sandboxes", headers=BEARER)
        sandbox_id = box.id
    ask(serving.home / "server.sock", "POST", "/v1/sandboxes/none/wake")
    serving.process.send_signal(signal.SIGTERM)
    rest = serving.process.stderr.read()
    assert serving.process.wait(30) == 0
    assert all(json.loads(line)["level"] in ("info", "warning", "error") for line in rest.splitlines())
    log = serving.home / "audit.log"
    assert log.stat().st_mode & 0o777 == 0o600
    for text in (log.read_text(), rest):
        assert SECRET not in text and SECRET.upper() not in text and let_in.KEY not in text
    noted: list[Any] = [json.loads(line) for line in log.read_text().splitlines()]
    by_key = [line for line in noted if line["key"]]
    assert {(n["tenant"], n["key"], n["token"], n["from"]) for n in by_key} == {
        ("local", "k_aaaaaaaa", None, "127.0.0.1")
    }
    assert {n["sandbox"] for n in by_key} == {sandbox_id}
    calls = [(n["call"].replace("/v1/sandboxes", ""), n["status"]) for n in by_key]
    assert calls[0] == ("POST ", 201)
    assert ("POST /{id}/api/execute", 200) in calls or ("POST /{id}/api/execute/stream", 200) in calls
    assert ("POST /{id}/api/...", 404) in calls
    assert not [call for call in calls if "GET" in call[0]]
    (local,) = [n for n in noted if not n["key"]]
    told = {"tenant": "local", "key": None, "token": None, "from": "local", "sandbox": "none", "status": 404}
    assert local == {"time": local["time"], "call": "POST /v1/sandboxes/{id}/wake", **told}


def test_the_log_is_put_aside_by_size(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    scope: Any = {"method": "POST", "state": {"caller": LOCAL}, "client": None, "path_params": {}}
    for first in range(0, 99, 3):  # a server that starts again and again
        audit = Audit(path, max_size=1000)
        for status in range(first, first + 3):
            audit.note(scope, status)
        audit.close()
    files = [path, *(path.with_name(f"audit.log.{n}") for n in range(1, KEPT + 1))]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(file.stat().st_size <= 1000 for file in files)
    kept = [json.loads(line)["status"] for file in reversed(files) for line in file.read_text().splitlines()]
    assert kept == list(range(99 - len(kept), 99))


def test_one_that_was_taken_away_is_made_anew_and_those_before_stay(tmp_path: Path) -> None:
    path, before = tmp_path / "audit.log", tmp_path / "audit.log.1"
    before.write_text("before")
    audit = Audit(path, max_size=10)
    path.unlink()
    for number in range(10, 13):
        audit.write({"n": number})
    audit.close()
    files = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert files["audit.log"] == '{"n":12}\n' and "before" in files.values(), files


@pytest.mark.parametrize("as_json", [True, False])
def test_keys_and_tokens_are_cut(as_json: bool) -> None:
    key, token = "sck_k_abcdefgh_" + "S" * 43, "scs_" + "T" * 30 + "." + "U" * 30
    try:
        raise ValueError(f"Authorization: Bearer {key}, /v1/with/{token}/api")
    except ValueError:
        caught = sys.exc_info()
    record = logging.LogRecord("x", logging.ERROR, "", 0, "%s and %s; Basic dXNlcjpwYXNz", (key, token), caught)
    text = LogFormatter(json=as_json).format(record)
    if as_json:
        assert json.loads(text).keys() == {"time", "level", "logger", "message", "traceback"}
    for secret in ("S" * 13, "T" * 13, "U", "dXNlcjpwYXNz"):
        assert secret not in text
    assert "ValueError" in text


@pytest.mark.parametrize("as_json", [True, False])
def test_nobody_writes_lines_of_his_own_into_the_log(as_json: bool) -> None:
    said = "x\n2026-01-01 00:00:00,000 INFO sandcove.server: forged\r\x1b[2J\u2028\ud800"
    try:
        raise ValueError(said)
    except ValueError:
        caught = sys.exc_info()
    record = logging.LogRecord("x", logging.ERROR, "", 0, "it failed: %s", (said + "y" * 50_000,), caught)
    text = LogFormatter(json=as_json).format(record)
    assert len(text) < 5000 and not re.search("^2026-01-01", text, re.MULTILINE)
    assert not re.search("[\r\x1b\u2028\ud800]", text)
    first, *rest = text.split("\n")
    assert all(line.startswith("    ") for line in rest)
    message = json.loads(first)["message"] if as_json else first
    assert "it failed: x\\n2026-01-01" in message and "forged\\r\\x1b[2J\\u2028\\ud800yyy" in message
