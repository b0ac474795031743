"""`sandcove usage` and `sandcove egress`: what they tell and change, and that they wake nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sandcove import Sandbox
from sandcove.cli.draw import size, table
from sandcove.wire.limits import LEAST
from tests.client.test_cli import NO_SERVER, on_a_terminal, sandcove

MIB = 1024 * 1024


@pytest.fixture
def box(home: Any) -> Iterator[Sandbox]:
    with Sandbox("cli-usage") as box:
        box.exec("curl -sS http://example.com/", check=True)
        yield box
        box.destroy()


def told(*words: str) -> dict[str, Any]:
    done = sandcove(*words, "--json")
    assert done.returncode == 0, done
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_usage_is_told_beside_the_limits(box: Sandbox) -> None:
    box.set_limits({"memory": "96m", "cpus": 1.5, "processes": 0})
    text = sandcove("usage", "cli-usage").stdout
    lines = {line.split()[0] for line in text.splitlines()[1:]}
    assert lines == set(LEAST), "each limit has a row, and nothing else is printed of a sandbox that is well"
    memory = next(line.split() for line in text.splitlines() if line.startswith("memory "))
    if memory[1] != "-":
        assert memory.pop(2) in ("KiB", "MiB"), text
    assert memory[2:4] == ["96", "MiB"] and " ".join(memory[4:]) == box.info().limited_by["memory"], text
    assert "memory peak" in text and " no limit " in text and " 1.5 " in text
    assert "memory peak" in on_a_terminal("usage", "cli-usage")

    report = told("usage", "cli-usage")
    assert report.keys() == {"id", "state", "usage", "limits", "limitedBy"}
    assert (report["id"], report["state"]) == ("cli-usage", "running")
    assert report["limits"]["memory"] == 96 * MIB and 0 < report["usage"].get("memory", 1) < 96 * MIB
    assert report["limitedBy"] == box.info().limited_by


def skip_without_control_groups(box: Sandbox) -> None:
    if not box.info().limited_by["memory"].startswith("cgroup"):
        pytest.skip("the server can't have control groups here")


def test_programs_that_were_killed_for_memory_are_told(box: Sandbox) -> None:
    skip_without_control_groups(box)
    box.set_limits({"memory": "64m"})
    assert box.exec("python3 -c 'b = bytearray(10**9)'").out_of_memory
    assert "1 of its programs was killed for want of memory" in sandcove("usage", "cli-usage").stdout


def test_limits_are_changed_at_once(box: Sandbox) -> None:
    report = told("usage", "cli-usage", "--set", "memory=96m", "--set", "cpus=0.5")
    assert (report["limits"]["memory"], report["limits"]["cpus"]) == (96 * MIB, 0.5)
    assert (box.info().limits.memory, box.info().limits.cpus) == (96 * MIB, 0.5)
    skip_without_control_groups(box)
    box.exec("head -c 20m /dev/zero > /dev/shm/kept; head -c 20m /dev/zero > /run/kept", check=True)
    refused = sandcove("usage", "cli-usage", "--set", "memory=32m")
    assert (refused.returncode, refused.stdout) == (1, "") and refused.stderr.count("\n") == 1
    assert box.info().limits.memory == 96 * MIB


def test_the_log_of_connections_the_newest_last(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    box.exec("curl -sS http://example.org:81/", check=True)
    text = sandcove("egress", "cli-usage").stdout
    title, first, second, last = text.splitlines()
    assert title.split()[:3] == ["TIME", "VERDICT", "HOST"]
    assert first.split()[1:3] == ["refused", "example.com:80"] and 'allow it with egress=["example.com"]' in first
    assert second.split()[1:3] == ["refused", "example.org:81"]
    assert last == (
        "cli-usage may reach: none. Its last connections: 0 allowed, 2 refused, 0 failed; 0 B sent, 0 B received."
    )
    monkeypatch.setenv("COLUMNS", "200")
    assert 'allow it with egress=["example.org:81"]' in on_a_terminal("egress", "cli-usage")

    report = told("egress", "cli-usage")
    assert report.keys() == {"id", "egress", "counts", "entries", "count"}
    assert report["counts"] == {"allowed": 0, "refused": 2, "failed": 0, "sent": 0, "received": 0}
    assert [entry["host"] for entry in report["entries"]] == ["example.com", "example.org"] and report["count"] == 2


def test_only_what_was_refused(box: Sandbox) -> None:
    assert sandcove("egress", "cli-usage", "--set", "sandcove.invalid").returncode == 0
    box.exec("curl -sS http://sandcove.invalid/", check=True)
    report = told("egress", "cli-usage", "--refused")
    assert [entry["host"] for entry in report["entries"]] == ["example.com"] and report["count"] == 1
    assert (report["counts"]["refused"], report["counts"]["failed"]) == (1, 1), "what is counted is all of them"
    assert "sandcove.invalid:80" not in sandcove("egress", "cli-usage", "--refused").stdout
    assert "sandcove.invalid:80" in sandcove("egress", "cli-usage").stdout


def test_the_egress_is_changed_at_once(box: Sandbox) -> None:
    report = told("egress", "cli-usage", "--set", "pypi.org,*.npmjs.org:443", "--set", "git")
    assert report["egress"] == box.info().egress == ["pypi.org", "*.npmjs.org:443", "git"]
    assert "may reach: pypi.org *.npmjs.org:443 git." in sandcove("egress", "cli-usage").stdout
    assert told("egress", "cli-usage", "--set", "none")["egress"] == box.info().egress == "none"


def test_what_sleeps_is_told_changed_and_not_woken(box: Sandbox) -> None:
    box.sleep()
    text = sandcove("usage", "cli-usage", "--set", "memory=64m").stdout
    assert "64 MiB" in text and "cli-usage is asleep" in text
    assert told("usage", "cli-usage")["usage"] == {}
    assert sandcove("egress", "cli-usage", "--set", "pypi.org").stdout.startswith("TIME")
    assert told("usage", "cli-usage")["state"] == "asleep"
    assert box.info().state == "asleep"
    assert (box.exec("true").exit_code, box.info().limits.memory, box.info().egress) == (0, 64 * MIB, ["pypi.org"])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, ["usage", "nobody-made-this"]),
        (1, ["egress", "nobody-made-this", "--set", "pypi.org"]),
        (2, ["usage", "Not-A-Name"]),
        (2, ["egress", "Not-A-Name"]),
        (2, ["usage"]),
        (2, ["egress"]),
        (2, ["usage", "x", "--set", "memory=1"]),
        (2, ["usage", "x", "--set", "tea=1"]),
        (2, ["egress", "x", "--set", ""]),
        (2, ["egress", "x", "--set", "a b"]),
        (2, ["egress", "x", "--set", "none,pypi.org"]),
    ],
    ids=str,
)
def test_mistakes(home: Any, code: int, words: list[str]) -> None:
    done = sandcove(*words)
    assert (done.returncode, done.stdout) == (code, ""), done
    assert "Traceback" not in done.stderr
    assert not {"nobody-made-this", "x"} & {info["id"] for info in told("ls")["sandboxes"]}


@pytest.mark.parametrize("command", ["usage", "egress"])
def test_a_server_that_does_not_answer(command: str) -> None:
    done = sandcove(command, "x", environment=NO_SERVER)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_what_untrusted_code_says_stays_text(capsys: pytest.CaptureFixture[str]) -> None:
    table(["host"], [["\x1b[2Ja\nb\u202eü"]])
    assert capsys.readouterr().out == "HOST\n\\x1b[2Ja\\nb\\u202eü\n"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (1536, "1.5 KiB"),
        (999 * MIB, "999 MiB"),
        (16 * 1024 * MIB, "16 GiB"),
        (2**52, "4,096 TiB"),
    ],
)
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text
