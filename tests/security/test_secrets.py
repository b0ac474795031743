"""Nothing of the server's environment gets into a sandbox, its agent or a log."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from bench import processes
from sandcove import Sandbox
from tests.security.probes import NEEDS_ROOT, agent_pid, inside, outside

NAME = "SANDCOVE_TEST_SECRET"
ENVIRONMENTS = """
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline"):
        try:
            if args[0] in open(f"/proc/{pid}/{name}").read() and int(pid) != os.getpid():
                say(pid)
        except OSError:
            pass
if args[0] in os.environ:
    say("own")
if not said:
    refuse("nowhere")
"""


@pytest.fixture
def value(fresh_home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A secret in the environment from which the server is started."""
    made = secrets.token_hex(16)
    monkeypatch.setenv(NAME, made)
    return made


def _holds(pid: int, word: bytes) -> bool:
    """Somewhere in the memory of the process that can be written, or in its /proc entry, is the word."""
    place = Path(f"/proc/{pid}")
    try:
        if any(word in (place / name).read_bytes() for name in ("environ", "cmdline")):
            return True
    except (FileNotFoundError, ProcessLookupError):
        return False  # it has ended meanwhile
    with (place / "mem").open("rb", buffering=0) as memory:
        for line in (place / "maps").read_text().splitlines():
            area, rights, *_ = line.split()
            if not rights.startswith("rw"):
                continue
            start, end = (int(number, 16) for number in area.split("-"))
            try:
                memory.seek(start)
                while start < end and (piece := memory.read(min(end - start, 16 * 1024 * 1024))):
                    if word in piece:
                        return True
                    start += len(piece)
            except OSError:
                continue
    return False


@NEEDS_ROOT
def test_a_secret_of_the_server(value: str, fresh_home: Path) -> None:
    with Sandbox() as sandbox:
        isolated = sandbox.create_session("isolated", isolation=True)
        # The probe's own argument has only the name: the value is in no command of ours.
        for shown in (NAME, str(fresh_home)):
            assert not inside(sandbox, ENVIRONMENTS, shown).reached
            assert not inside(isolated, ENVIRONMENTS, shown).reached
            assert outside(ENVIRONMENTS, shown).reached
        sandbox.exec("exit 3")
        agent = agent_pid(fresh_home, sandbox)
        in_room = processes.of_sandbox(fresh_home, sandbox.id)
        server = [pid for pid, command in processes.of_home(fresh_home).items() if "sandcove.server" in command]
        assert agent in in_room
        word = value.encode()
        assert [pid for pid in sorted(in_room) if _holds(pid, word)] == []
        # The control: the server has it, and the same search finds it there.
        assert [pid for pid in server if _holds(pid, word)] == server
        patterns = ("*.log", "sandboxes/*/*.log", "sandboxes/*/memory", "registry.db*")
        logs = [path for pattern in patterns for path in fresh_home.glob(pattern)]
        assert len(logs) >= 2
        assert not [path for path in logs if word in path.read_bytes()]
