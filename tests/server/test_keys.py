"""Keys: made once, kept as hashes, found, expired, revoked; by the command line, the wire and the file."""

from __future__ import annotations

import base64
import json
import os
import re
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sandcove import InvalidRequestError, NotFoundError, Sandbox, SandboxError, UnauthorizedError
from sandcove.server.database import SCHEMA, Database
from sandcove.server.keys import Keys
from sandcove.server.registry import Record, Registry
from sandcove.wire.keys import CreateKey, Limits
from tests.conftest import COMMAND
from tests.server.conftest import ask


class Clock:
    """Seconds since the epoch, as the test says."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(tmp_path: Path, clock: Clock) -> Keys:
    return Keys(Database(tmp_path / "registry.db"), clock)


def test_a_key_is_found_by_its_text(keys: Keys) -> None:
    key, text = keys.create(CreateKey(tenant="blue", scopes=["read", "admin"]))
    assert re.fullmatch(r"sck_k_[a-z2-7]{8}_[a-z2-7]{52}", text)
    caller = keys.caller(text)
    assert (caller.tenant, caller.scopes, caller.key) == ("blue", frozenset({"read", "admin"}), key.id)


def test_without_a_tenant_it_is_one_of_its_own(keys: Keys) -> None:
    key, text = keys.create(CreateKey())
    assert (key.tenant, keys.caller(text).scopes) == (key.id, frozenset({"sandboxes"}))


def test_the_secret_is_in_no_file_and_no_representation(keys: Keys, tmp_path: Path) -> None:
    key, text = keys.create(CreateKey(tenant="blue"))
    keys.caller(text)
    secret = text.rpartition("_")[2]
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"blue" in stored
    raw = base64.b32decode(secret.upper() + "====")
    assert secret.encode() not in stored and raw not in stored
    assert secret not in repr(key) + repr(key.info()) + repr(keys.caller(text))


def wrong(text: str) -> list[str]:
    other = "a" if text[-2] != "a" else "b"
    return [
        "",
        "x",
        text[:-1],
        text + "a",
        text.upper(),
        text[:-2] + other + text[-1],
        "sck_k_aaaaaaaa_" + text[-52:],
        text.replace("sck_", "scs_"),
        text + "\n",
        " " + text,
        "\u0661" * 67,
        "a" * 100_000,
    ]


def test_what_is_no_key_is_refused_and_not_repeated(keys: Keys) -> None:
    _, text = keys.create(CreateKey())
    for each in wrong(text):
        with pytest.raises(UnauthorizedError) as caught:
            keys.caller(each)
        assert len(each) < 6 or each[-40:] not in str(caught.value)
    keys.caller(text)


def test_it_expires_at_its_time(keys: Keys, clock: Clock) -> None:
    _, text = keys.create(CreateKey(expires_in=1500))
    clock.now += 1.499
    keys.caller(text)
    clock.now += 0.001
    with pytest.raises(UnauthorizedError, match="expired at 2027-01-15T08:00:01"):
        keys.caller(text)


def test_a_revoked_one_is_refused_at_once_and_after_a_start(keys: Keys, tmp_path: Path) -> None:
    key, text = keys.create(CreateKey())
    _, other = keys.create(CreateKey())
    keys.caller(text)
    revoked = keys.revoke(key.id).revoked_at
    assert keys.revoke(key.id).revoked_at == revoked
    for again in (keys, Keys(Database(tmp_path / "registry.db"))):
        with pytest.raises(UnauthorizedError, match="was revoked"):
            again.caller(text)
        again.caller(other)
    with pytest.raises(NotFoundError):
        keys.revoke("k_nothing")


def test_the_last_use_is_written_once_a_minute(keys: Keys, clock: Clock, tmp_path: Path) -> None:
    key, text = keys.create(CreateKey())

    def used() -> str | None:
        return next(k.last_used_at for k in Keys(Database(tmp_path / "registry.db")).all() if k.id == key.id)

    assert used() is None
    keys.caller(text)
    first = used()
    clock.now += 59
    keys.caller(text)
    assert used() == first == "2027-01-15T08:00:00.000Z"
    clock.now += 1
    keys.caller(text)
    assert used() == "2027-01-15T08:01:00.000Z"


@pytest.mark.parametrize(
    "spec",
    [
        CreateKey(tenant=""),
        CreateKey(tenant="A"),
        CreateKey(tenant="../x"),
        CreateKey(tenant="a" * 64),
        CreateKey(name="x\n"),
        CreateKey(name="x" * 101),
        CreateKey(scopes=[]),
        CreateKey(scopes=["everything"]),
        CreateKey(scopes=["read", "read"]),
        CreateKey(expires_in=0),
        CreateKey(expires_in=10**30),
        CreateKey(limits=Limits(alive=-1)),
        CreateKey(limits=Limits(rate=0)),
        CreateKey(limits=Limits(rate=float("nan"))),
        CreateKey(limits=Limits(execs=10**30)),
        CreateKey(limits=Limits(burst=5)),
    ],
    ids=repr,
)
def test_a_wrong_wish_is_refused(keys: Keys, spec: CreateKey) -> None:
    with pytest.raises(InvalidRequestError):
        keys.create(spec)
    assert keys.all() == []


OLD = """
create table sandboxes (id text primary key, created_at text not null, last_active_at text not null,
  anonymous integer not null, sleep_after integer not null, labels text not null, destroying integer not null,
  note text) strict;
insert into sandboxes values
  ('old', '2026-01-01T00:00:00.000Z', '2026-01-02T00:00:00.000Z', 0, 5000, '{"a":"b"}', 0, 'n');
pragma user_version = 1;
"""


def test_a_registry_of_schema_1_is_upgraded_in_place(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    with sqlite3.connect(path) as db:
        db.executescript(OLD)
    for _ in range(2):
        database = Database(path)
        assert Registry(database).all() == [
            Record(
                id="old",
                created_at="2026-01-01T00:00:00.000Z",
                last_active_at="2026-01-02T00:00:00.000Z",
                anonymous=False,
                sleep_after=5000,
                labels={"a": "b"},
                note="n",
                tenant="local",
                uid="old",
            )
        ]
        assert next(iter(database.rows("pragma user_version"))) == (SCHEMA,)
        database.close()


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    with sqlite3.connect(path) as db:
        db.executescript(OLD + "create table keys (x);")
    with pytest.raises(SandboxError, match="could not be upgraded from schema 1"):
        Database(path)
    with sqlite3.connect(path) as db:
        assert [len(row) for row in db.execute("select * from sandboxes")] == [8]
        assert db.execute("pragma user_version").fetchone() == (1,)


def test_a_server_takes_over_an_old_registry_with_its_sandboxes(fresh_home: Path) -> None:
    with Sandbox("old") as box:
        box.write_file("kept", "x")
    subprocess.run([COMMAND, "stop"], check=True, timeout=60)
    (fresh_home / "registry.db").unlink()
    for name in ("registry.db-wal", "registry.db-shm"):
        (fresh_home / name).unlink(missing_ok=True)
    with sqlite3.connect(fresh_home / "registry.db") as db:
        db.executescript(OLD)
    assert Sandbox("old").read_file("kept") == "x"
    assert Sandbox("old").info().labels == {"a": "b"}


def sandcove(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *words], check=False, capture_output=True, text=True, timeout=60, env=os.environ)


def test_the_command_line_makes_lists_and_revokes(home: Path) -> None:
    made = sandcove("keys", "create", "--tenant", "blue", "--name", "n", "--scope", "read", "--expires", "2d")
    assert made.returncode == 0, made.stderr
    text = made.stdout.strip()
    key_id = text[4:14]
    assert f"key {key_id} of tenant blue" in made.stderr and text[15:] not in made.stderr
    other = json.loads(sandcove("keys", "create", "--json", "--limit", "alive=2", "--limit", "rate=0.5").stdout)
    assert other["tenant"] == other["id"] == other["key"][4:14]
    assert (other["limits"]["alive"], other["limits"]["rate"], other["limits"]["execs"]) == (2, 0.5, None)
    listed = sandcove("keys", "ls", "--json").stdout
    found: dict[str, Any] = {key["id"]: key for key in json.loads(listed)["keys"]}
    assert (found[key_id]["tenant"], found[key_id]["name"], found[key_id]["scopes"]) == ("blue", "n", ["read"])
    assert text[15:] not in listed and key_id in sandcove("keys", "ls").stdout
    assert sandcove("keys", "revoke", key_id).stdout == f"{key_id}\n"
    assert f"revoked {found[key_id]['createdAt'][:10]}" in sandcove("keys", "ls").stdout
    missing = sandcove("keys", "revoke", "k_missing", "../..")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "there is no key 'k_missing'" in missing.stderr
    log = (home / "server.log").read_text()
    assert f"key {key_id} of tenant blue was made" in log and text[15:] not in log


@pytest.mark.parametrize(
    "words",
    [
        ["--expires", "0"],
        ["--expires", "x"],
        ["--limit", "cpu=1"],
        ["--limit", "alive=x"],
        ["--limit", "rate=nan"],
        ["--limit", "alive=1.5"],
        ["--scope", "all"],
        ["--tenant", "A B"],
        [],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_told(home: Path, words: list[str]) -> None:
    told = sandcove("keys", *(["create", *words] if words else []))
    assert told.returncode == 2 and told.stdout == ""


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("POST", "/v1/keys", {"tenant": 5}, 400),
        ("POST", "/v1/keys", {"limits": {"cpu": 1}}, 400),
        ("POST", "/v1/keys", {"limits": {"alive": 1.5}}, 400),
        ("POST", "/v1/keys", {"expiresIn": 10**400}, 400),
        ("DELETE", "/v1/keys/none", None, 404),
        ("DELETE", "/v1/keys/%00", None, 404),
        ("PUT", "/v1/keys", b"", 405),
    ],
)
def test_the_wire_refuses(home: Path, method: str, target: str, body: Any, status: int) -> None:
    sandcove("ls")
    answer = ask(home / "server.sock", method, target, body)
    assert (answer.status, set(answer.json) >= {"error", "code"}) == (status, True)
