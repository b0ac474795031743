"""The probes of `sandcove doctor --probe`: none succeeds inside, and each does where nothing holds it back."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from sandcove import Sandbox
from sandcove.cli.probes import PROBES, Finding, Probe, run
from tests.conftest import COMMAND
from tests.security.probes import NEEDS_ROOT, inside, outside

NAMESPACES = ["unshare", "--mount", "--uts", "--propagation", "private", "--"]
# What a kernel may lack.
OPTIONAL = {"a socket of the hypervisor", "a socket of the kernel's ciphers", "io_uring", "a call of a 32-bit program"}


@pytest.fixture(scope="module")
def findings(cell: Sandbox) -> dict[str, Finding]:
    return {finding.probe.name: finding for finding in run(cell)}


def test_there_are_enough_of_each_kind() -> None:
    assert len(PROBES) >= 60
    assert len({probe.name for probe in PROBES}) == len(PROBES)
    groups = Counter(probe.group for probe in PROBES)
    assert set(groups) == {"devices", "files", "kernel", "mounts", "namespaces", "network", "privileges", "processes"}
    assert min(groups.values()) >= 3


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_it_fails_inside(findings: dict[str, Finding], probe: Probe) -> None:
    finding = findings[probe.name]
    assert not finding.reached
    assert not finding.why.startswith("error"), "it was stopped by itself"


@NEEDS_ROOT
@pytest.mark.parametrize("probe", [probe for probe in PROBES if probe.control], ids=lambda probe: probe.name)
def test_it_succeeds_where_nothing_holds_it(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST", str(os.getpid()))
    answer = outside(probe.body, wrap=NAMESPACES if probe.control == "namespaces" else ())
    if not answer.reached and probe.name in OPTIONAL:
        pytest.skip(f"this kernel does not have it: {answer.why}")
    assert answer.reached, answer.why
    Path("/tmp/sandcove-probe").unlink(missing_ok=True)


def test_the_command_shows_a_table(home: Path) -> None:
    done = subprocess.run([COMMAND, "doctor", "--probe"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == f"All {len(PROBES)} attacks failed, as they must."
    assert sum(line.startswith("held") for line in lines) == len(PROBES)


def test_the_command_speaks_to_machines(home: Path) -> None:
    line = [COMMAND, "doctor", "--probe", "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60)
    told = json.loads(done.stdout)
    assert told["ok"] is True
    assert [probe["name"] for probe in told["probes"]] == [probe.name for probe in PROBES]


def test_a_probe_that_gets_in_is_seen(cell: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = Probe("nothing", "files", "os.stat('/')")
    ended = Probe("an end", "files", "os.kill(os.getpid(), 9)")
    monkeypatch.setattr("sandcove.cli.probes.PROBES", (fine, ended))
    first, second = run(cell)
    assert first.reached and first.why == ""
    assert not second.reached and second.why == "ended by signal 9"
    assert inside(cell, fine.body).reached
