"""A server that is killed and started again, what its callers know, and what has to hold afterwards."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import processes
from sandcove.runtimes.local.claims import folder_name
from tests.answers import Answer
from tests.crash.tracer import At, Tracer
from tests.server.conftest import ask

__all__ = ["CutError", "Seen", "World", "below", "wait_for"]

Seen = dict[str, Any]
"""What is seen of one sandbox, aspect by aspect; empty when there is none."""

_LOOK = (
    "cd /workspace; for f in $(ls -A); do echo $f $(sha256sum < $f | cut -c1-12); done; echo env $VALUE;"
    "for d in /workspace /tmp /var/tmp /root /usr/local/bin /usr/lib /etc; do"
    " touch $d/.probe && rm $d/.probe || echo bad $d; done;"
    "stat -c 'owner %u:%g %n' / /* /usr/* /usr/local/* /var/* | grep -v '^owner 0:0' | grep -v /proc"
)
_ALWAYS = {
    *("audit.log", "cgroups", "egress.log", "previews.port", "registry.db", "registry.db-shm", "registry.db-wal"),
    *("run", "sandboxes", "server.lock", "server.log", "server.sock", "spare", "templates", "token.secret", "trash"),
}


class CutError(Exception):
    """The server ended during a call."""


class World:
    """One Sandcove folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = home / "server.sock"
        self.pid = 0
        self.tracer: Tracer | None = None
        self._ready = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._before: dict[int, int] = {}
        self._parents: set[Path] = set()

    # --- the server -------------------------------------------------------------------------------------

    def launch(self, kill_at: At = None, number: int = signal.SIGKILL, *, traced: bool = False) -> None:
        """Starts one, and does not wait for it; traced from its first breath if it shall be killed."""
        ours, theirs = os.pipe()
        with (self.home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sandcove.server", f"--ready-fd={theirs}", "--stop-grace=0.2"],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=os.environ | {"SANDCOVE_HOME": str(self.home)},
                pass_fds=[theirs],
            )
        os.close(theirs)
        self.pid, self._ready = self._process.pid, ours
        if traced:
            self.trace(kill_at, number)

    def wait_until_ready(self) -> bool:
        """False: it ended before."""
        with open(self._ready, encoding="utf-8") as told:
            line = told.readline()
        if line:
            assert json.loads(line).get("ready"), line
        return bool(line)

    def trace(self, kill_at: At = None, number: int = signal.SIGKILL, of: str | None = None) -> None:
        """The server's steps, or those of a sandbox's agent."""
        self.tracer = Tracer(self.pid if of is None else self._agent(of), self.home, kill_at, number)

    def _agent(self, name: str) -> int:
        found = processes.agents(processes.of_sandbox(self.home, name))
        (agent,) = [pid for pid in found if _parent(pid) not in found]
        return agent

    def kill_agent(self, name: str) -> None:
        """Ends the agent that is traced, if it is there still, and returns when its sandbox is asleep."""
        assert self.tracer is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.tracer.pid, signal.SIGKILL)
        self.tracer.join()
        self.tracer = None
        wait_for(lambda: name not in self.awake())

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Ends the server if it runs still, and returns when it has ended. Its children may live on for a moment.

        With another `number` than SIGKILL, one that is traced has been told already.
        """
        for pid in below(self.pid) - self._before.keys():
            with contextlib.suppress(ProcessLookupError):
                self._before[pid] = os.pidfd_open(pid)
        if self.tracer is None or number == signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
        if self.tracer is not None:
            self.tracer.join()
            self.tracer = None
        assert self._process is not None
        self._process.wait(30)

    def start(self) -> None:
        """Starts one at once after another, and checks that no room of that one's is left."""
        self.launch()
        assert self.wait_until_ready(), self.log()
        rooms = [pid for pid, handle in self._before.items() if not _ended(handle, 0) and self._is_in_room(pid)]
        assert not rooms, f"{rooms} are in rooms of the server before"

    def settle(self) -> None:
        """Returns when the next room has been made ahead, and nothing of the server before is left."""
        wait_for(lambda: any((self.home / "spare").glob("*/agent.log")))
        wait_for(lambda: len(self.rooms()) == len(self.awake()) + 1)
        for pid, handle in self._before.items():
            assert _ended(handle, 10), f"{pid} of the server before has not ended: {_command(pid)}"
            os.close(handle)
        self._before = {}

    def _is_in_room(self, pid: int) -> bool:
        try:
            return f"{self.home}/" in Path(f"/proc/{pid}/mountinfo").read_text()
        except OSError:
            return False

    def log(self) -> str:
        return (self.home / "server.log").read_text(errors="replace")[-3000:]

    # --- calls ------------------------------------------------------------------------------------------

    def ask(self, method: str, target: str, body: Any = None) -> Any:
        """One call; what it answers.

        Raises:
            CutError: the server ended.
        """
        try:
            answer: Answer = ask(self.socket, method, target, body)
        except (OSError, http.client.HTTPException) as error:
            raise CutError from error
        if answer.status == 503:
            raise CutError(answer.body)
        assert answer.status < 300, (method, target, answer.body)
        return answer.json if answer.body else None

    def box(self, name: str, method: str, target: str, body: Any = None) -> Any:
        return self.ask(method, f"/v1/sandboxes/{name}{target}", body)

    def run(self, name: str, command: str) -> str:
        return str(self.box(name, "POST", "/api/execute", {"command": command})["stdout"])

    def create(self, name: str, **options: Any) -> None:
        self.ask("POST", "/v1/sandboxes", {"id": name, **options})

    def names(self) -> set[str]:
        return {info["id"] for info in self.ask("GET", "/v1/sandboxes")["sandboxes"]}

    def awake(self) -> set[str]:
        listed = self.ask("GET", "/v1/sandboxes")["sandboxes"]
        return {info["id"] for info in listed if info["state"] == "running"}

    # --- what is there ----------------------------------------------------------------------------------

    def look(self, name: str) -> Seen:
        """All that a caller can see of a sandbox, which is awake afterwards."""
        if name not in self.names():
            return {}
        shell = self.run(name, _LOOK)
        info = self.box(name, "GET", "")
        ports = self.box(name, "GET", "/ports")["ports"]
        return {
            "shell": shell,
            "labels": info["labels"],
            "egress": info["egress"],
            "limits": info["limits"],
            "keep alive": info["keepAlive"],
            "ends": info["expiresAt"] is not None,
            "ports": sorted(urlsplit(port["url"]).netloc.split(".")[0] for port in ports),
        }

    def keys(self) -> dict[str, bool]:
        """Keys by name, and whether they are revoked."""
        return {key["name"]: key["revokedAt"] is not None for key in self.ask("GET", "/v1/keys")["keys"]}

    def rooms(self) -> set[str]:
        """The folders of rooms that stand: of those processes that are the first in theirs."""
        firsts = (int(pid) for pid in os.listdir("/proc") if pid.isdecimal())
        return {room for pid in firsts if (room := self._room(pid))}

    def is_first(self, pid: int) -> bool:
        """The process is the first in a room of this folder."""
        return bool(self._room(pid))

    def _room(self, pid: int) -> str:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
            if words[0].startswith("/proc/self/fd/") and len(words) > 1 and words[1].startswith(f"{self.home}/"):
                return words[1]
        return ""

    def groups(self) -> list[str]:
        """Control groups of rooms of this folder."""
        with contextlib.suppress(OSError):
            self._parents |= {Path(line).parent for line in (self.home / "cgroups").read_text().splitlines()}
        tops = [top for parent in self._parents for top in parent.glob(f"{folder_name(self.home)}*")]
        return sorted(folder for top in tops for folder, _, _ in os.walk(top))

    def check_stopped(self) -> None:
        """What holds when the server has ended as it was told to."""
        assert processes.all_gone(self.home, within=10) == {}
        assert self.groups() == []
        left = [path for name in ("run", "spare") for path in (self.home / name).iterdir()]
        assert left == [], self.log()
        assert not self.socket.exists()

    def check(self) -> None:
        """What holds whenever the server is at rest."""
        home = self.home
        names, awake = self.names(), self.awake()
        assert processes.mounts_below(home) == []
        there = {path.name for path in (home / "sandboxes").iterdir()}
        assert awake <= there <= names, (there, awake, names)
        wait_for(lambda: not list((home / "trash").iterdir()))
        spare = {path.name for path in (home / "spare").iterdir()}
        assert len(spare) == 1
        run = {path.name for path in (home / "run").iterdir()}
        assert run == {f"{name}.sock" for name in awake} | {f"spare-{name}.sock" for name in spare}
        assert len(list((home / "templates").iterdir())) == 1
        assert {path.name for path in home.iterdir()} <= _ALWAYS, sorted(path.name for path in home.iterdir())
        if os.geteuid() == 0:
            owners = {
                path: path.lstat().st_uid for path in [*home.glob("sandboxes/*/root"), *home.glob("spare/*/root")]
            }
            # An older version's sandbox is the server's until it wakes.
            assert not [path for path, owner in owners.items() if owner == 0 and path.parent.name not in names - awake]
            given = [owner for owner in owners.values() if owner != 0]
            assert len(set(given)) == len(given), owners
        base, each = _expected(self.groups())
        assert all(count == len(awake) + 1 for count in each.values()), (awake, base, each)
        assert "Traceback" not in self.log(), self.log()


def wait_for(done: Any, seconds: float = 15) -> None:
    """Returns when `done` gives something true; there is no event for what is asked so."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, done
        time.sleep(0.005)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def below(pid: int) -> set[int]:
    """The process and all that descend from it."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(name)] = _parent(int(name))
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _ended(handle: int, within: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(within * 1e3))


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return "(it has just ended)"


def _expected(groups: list[str]) -> tuple[list[str], dict[str, int]]:
    """The groups of all rooms together, and how many rooms have groups by controller."""
    base: list[str] = []
    rooms: dict[str, int] = {}
    for group in groups:
        path = Path(group)
        if path.name in ("user", "agent") or path.name.endswith("-agent"):
            continue
        if path.name.startswith("sandcove-") and path.name.count("-") == 1:
            base.append(group)
            rooms.setdefault(group, 0)
        else:
            parent = str(path.parent) if path.parent.name.startswith("sandcove-") else group.rpartition("-")[0]
            rooms[parent] = rooms.get(parent, 0) + 1
    return base, rooms
