"""What code inside, or a caller, can make the agent keep is bounded; and it has a group of its own besides."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandcove import ContainerNotReadyError, Sandbox
from tests.security.probes import agent_pid
from tests.security.test_limits import eventually, groups

__all__ = ["groups"]

MIB = 1 << 20
OWN = 2 << 30
"""Bytes that an agent may have for itself."""


def group_of(pid: int) -> Path:
    """The group that counts a process's memory."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if "memory" in names.split(","):
            return Path("/sys/fs/cgroup/memory" + path)
    pytest.skip("control groups of version 1 are not here")


def test_the_agent_has_a_group_of_its_own(groups: None, home: Path) -> None:
    with Sandbox(limits={"memory": "256m"}) as sandbox:
        agent = group_of(agent_pid(home, sandbox))
        command = sandbox.exec("cat /proc/self/cgroup").stdout
        assert agent.name.endswith("-agent") and agent.name not in command
        assert agent.name.removesuffix("-agent") in command
        limit = agent / "memory.limit_in_bytes"
        assert int(limit.read_text()) == OWN + 2 * 64 * MIB, "and what its callers may put into /dev/shm and /run"
        sandbox.set_limits({"memory": "1g"})
        assert int(limit.read_text()) == OWN + 2 * 256 * MIB
        assert (sandbox.get_usage().memory or 0) < 100 * MIB


def test_an_agent_that_is_over_it_ends_its_own_room_alone(groups: None, home: Path) -> None:
    with Sandbox() as neighbour, Sandbox("grown") as sandbox:
        sandbox.write_file("/workspace/kept", "kept")
        group = group_of(agent_pid(home, sandbox))
        assert group.name.endswith("-agent"), "no other group's limit is to be changed"
        used = int((group / "memory.usage_in_bytes").read_text())
        (group / "memory.limit_in_bytes").write_text(str(used + 24 * MIB))
        with pytest.raises(ContainerNotReadyError, match="ended during the call"):
            sandbox.exec("head -c 33000000 /dev/zero")
        assert eventually(lambda: "took more memory than it may have" in (sandbox.info().note or ""))
        assert sandbox.read_file("/workspace/kept") == "kept"
        assert neighbour.exec("echo on").stdout == "on\n"


def test_without_groups_the_agents_own_data_is_limited(fresh_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDCOVE_CGROUPS", "off")
    with Sandbox() as sandbox:
        limits = Path(f"/proc/{agent_pid(fresh_home, sandbox)}/limits").read_text()
        assert f"Max data size {OWN} " in " ".join(limits.split())
        assert sandbox.exec("ulimit -d").stdout != f"{OWN // 1024}\n", "and user code has the sandbox's limit"
