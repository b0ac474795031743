"""The same small attack, run inside a sandbox and where nothing holds it back.

A probe is the body of a Python program. It gets there, or raises `OSError`. Each test runs it twice: inside, where it
must be refused, and outside, where it must get there, so that it is seen that the probe works.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from bench import processes
from sandcove import Sandbox, Session
from sandcove.cli.probes import PRELUDE

__all__ = ["NEEDS_ROOT", "Answer", "agent_pid", "check_apart", "inside", "outside", "program"]

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: as an ordinary user the control fails too")

_PROGRAM = (
    PRELUDE
    + """
body, *args = sys.argv[1:]
said = []
names = {**globals(), "say": said.append}
try:
    exec(body, names)
    reached, why = True, ""
except OSError as error:
    reached, why = False, f"{errno.errorcode.get(error.errno, error.errno)}: {error}"
print(json.dumps({"reached": reached, "why": why, "said": [str(word) for word in said]}))
"""
)


class Answer(NamedTuple):
    """Whether the probe got there; if not, why; and what it had to say."""

    reached: bool
    why: str
    said: list[str]


def program(body: str, *args: object) -> list[str]:
    """What to append to the path of a Python: the probe as arguments."""
    return ["-I", "-c", _PROGRAM, body, *map(str, args)]


def inside(sandbox: Sandbox | Session, body: str, *args: object) -> Answer:
    """Runs the probe as a command of the sandbox."""
    result = sandbox.exec(["python3", *program(body, *args)], timeout=20)
    assert result.success, result.stderr
    return Answer(**json.loads(result.stdout))


def outside(body: str, *args: object, wrap: Sequence[str] = (), python: str = sys.executable) -> Answer:
    """Runs the probe on the host, by the program `wrap` if one is given."""
    done = subprocess.run(
        [*wrap, python, *program(body, *args)], check=False, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    return Answer(**json.loads(done.stdout))


def check_apart(sandbox: Sandbox) -> None:
    """Before signals are sent: the sandbox has a PID namespace of its own, so that none can reach this machine."""
    host = str(os.stat("/proc/self/ns/pid").st_ino)
    assert inside(sandbox, "say(os.stat('/proc/self/ns/pid').st_ino)").said not in ([host], [])


def agent_pid(home: Path, sandbox: Sandbox) -> int:
    """The agent of a sandbox, as the host sees it: the outermost of its processes that run Python."""
    found = processes.agents(processes.of_sandbox(home, sandbox.id))
    parents = {pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in found}
    outermost = [pid for pid, parent in parents.items() if parent not in parents]
    assert len(outermost) == 1, f"several processes could be the agent: {outermost}"
    return outermost[0]
