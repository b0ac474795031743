"""Control groups of rooms: version 2 where it is delegated to the server, version 1 where its hierarchies are writable.

Each room has a group for user code, which holds memory, processor time and processes; the agent shares the room's
processor time only, so that it is neither killed for what user code takes nor kept from starting a program. What the
agent takes itself is held by a group of its own, of memory: its processes are few, and no one else decides how many.
A process goes into a group by writing "0" to an open `tasks` (version 2: `cgroup.procs`) of it: the descriptors are
opened here, so rooms need not see the file system of groups. Sources: cgroups(7), the kernel's cgroup-v1/memory.rst,
cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from sandcove.runtimes.local.claims import claim, clear, folder_name, removed, sweep
from sandcove.runtimes.local.limits import agent_memory
from sandcove.runtimes.local.scope import move_to_own_scope
from sandcove.wire.confine import oom_kills
from sandcove.wire.limits import ResourceLimits, ResourceUsage

__all__ = ["CONTROLLERS", "Cgroups", "Group", "Hierarchies", "memory_here", "parse_hierarchies"]

CONTROLLERS = ("memory", "cpu", "pids", "cpuacct")
"""The last only counts, and is there in version 1 alone."""
NEEDED = {"memory", "pids"}
"""What the server's group must have that rooms get groups of version 2."""
PERIOD = 100_000
"""Microseconds in which a room gets its share of processor time."""
ALL = 7 / 8
"""Of the machine's memory, that all rooms may have together."""
LEAVING = 1.0
"""Seconds that processes which have been killed may take to leave their groups when all is over."""
UNLIMITED_V1 = "-1"
SOCKETS_V1 = "memory.kmem.tcp.limit_in_bytes"
"""What version 1 counts apart: data in sockets of TCP."""
_EVENTS = {1: "memory.oom_control", 2: "memory.events"}

_log = logging.getLogger("sandcove.runtime")


@dataclass(frozen=True)
class Hierarchies:
    """Where this process's groups are.

    Attributes:
        version: 1 or 2; 0 if there are none.
        own: controller -> the group of this process. With version 2 all are the same.
        top: where version 2's file system is mounted.
    """

    version: int
    own: Mapping[str, Path]
    top: Path = Path("/")

    @classmethod
    def of_this_process(cls) -> Hierarchies:
        """Raises OSError: /proc can't be read."""
        return parse_hierarchies(*(Path(f"/proc/self/{name}").read_text() for name in ("cgroup", "mountinfo")))


@cache
def memory_here() -> int:
    """Bytes of memory that this process and its children can have: the machine's, or what its groups allow if less."""
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError):
        hierarchies = Hierarchies.of_this_process()
        if own := hierarchies.own.get("memory"):
            allowed = (_read(folder, _memory_file(hierarchies.version, 0)[0]) for folder in (own, *own.parents))
            most = min([most, *(size for size in allowed if size is not None)])
    return most


def parse_hierarchies(cgroup: str, mountinfo: str) -> Hierarchies:
    """From the texts of /proc/self/cgroup and /proc/self/mountinfo; see proc(5)."""
    paths: dict[str, str] = {}
    for line in cgroup.splitlines():
        _, names, path = line.split(":", 2)
        paths.update(dict.fromkeys(names.split(","), path))
    found: dict[str, Path] = {}
    unified: tuple[Path, Path] | None = None
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        root, place = (_unescaped(word) for word in fields.split()[3:5])
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup":
            for name in CONTROLLERS:
                if name in options.split(",") and (own := _below(place, root, paths.get(name))) is not None:
                    found.setdefault(name, own)
        elif kind == "cgroup2" and unified is None and (own := _below(place, root, paths.get(""))) is not None:
            unified = own, Path(place)
    if found:
        return Hierarchies(1, found)
    if unified is None:
        return Hierarchies(0, {})
    return Hierarchies(2, dict.fromkeys(CONTROLLERS[:3], unified[0]), unified[1])


def _unescaped(word: str) -> str:
    return word.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def _below(place: str, root: str, path: str | None) -> Path | None:
    """The folder of group `path`, where the mount at `place` shows the groups below `root`."""
    if path is None or "/../" in f"{path}/" or not (path + "/").startswith(root.rstrip("/") + "/"):
        return None
    return Path(place + "/" + path[len(root.rstrip("/")) :].strip("/"))


@dataclass
class Group:
    """The groups of one room.

    Attributes:
        folders: all of them, parents first.
        user: controller -> the group of user code.
        agent: the one that counts the agent's memory.
        enter, enter_agent: descriptors; what a process writes "0" to, to be in the group of user code, or the agent's.
        oom: see `sandcove.wire.confine.oom_kills`.
    """

    version: int
    folders: list[Path] = field(default_factory=list)
    user: dict[str, Path] = field(default_factory=dict)
    agent: Path | None = None
    enter: list[int] = field(default_factory=list)
    enter_agent: list[int] = field(default_factory=list)
    oom: int = -1

    def set(self, limits: ResourceLimits) -> None:
        """Puts limits in force.

        Raises:
            OSError: the kernel refuses one: EBUSY if the room has more memory in use than it should have.
        """
        if self.version == 2 and limits.memory and (memory := self.user.get("memory")) is not None:
            # This version would end programs until they fit.
            with contextlib.suppress(OSError):
                _write(memory / "memory.reclaim", str(max(0, (_read(memory, "memory.current") or 0) - limits.memory)))
            if (_read(memory, "memory.current") or 0) > limits.memory:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        for controller, name, value in _files(self.version, limits):
            if controller in self.user:
                _write(self.user[controller] / name, value)
                if name == "memory.limit_in_bytes":
                    with contextlib.suppress(OSError):  # this kernel has none
                        _write(self.user[controller] / SOCKETS_V1, value)
        if self.agent is not None and limits.memory is not None:
            with contextlib.suppress(OSError):  # it has more at this moment, and keeps the limit that it has
                name, value = _memory_file(self.version, agent_memory(limits))
                _write(self.agent / name, value)

    def agent_ran_out(self) -> bool:
        """The kernel has killed the agent for want of memory."""
        if self.agent is None:
            return False
        try:
            fd = os.open(self.agent / _EVENTS[self.version], os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return oom_kills(fd) > 0
        finally:
            os.close(fd)

    def usage(self) -> ResourceUsage:
        """What its programs use now."""
        v2 = self.version == 2
        memory, cpu, pids, cpuacct = (self.user.get(name) for name in CONTROLLERS)
        return ResourceUsage(
            memory=_read(memory, "memory.current" if v2 else "memory.usage_in_bytes"),
            memory_peak=_read(memory, "memory.peak" if v2 else "memory.max_usage_in_bytes"),
            cpu_seconds=_cpu_seconds(cpu) if v2 else _in_seconds(_read(cpuacct, "cpuacct.usage")),
            processes=_read(pids, "pids.current"),
            out_of_memory=oom_kills(self.oom) if self.oom >= 0 else None,
        )

    def pids(self) -> list[int]:
        """The processes of user code, as this process sees them."""
        for folder in self.user.values():
            with contextlib.suppress(OSError):
                return [int(word) for word in (folder / "cgroup.procs").read_text().split()]
        return []

    def every_pid(self) -> list[int]:
        """The processes of user code, and the agent's."""
        pids = self.pids()
        if self.agent is not None:
            with contextlib.suppress(OSError):
                pids += [int(word) for word in (self.agent / "cgroup.procs").read_text().split()]
        return pids

    def close(self) -> None:
        """Closes the descriptors."""
        for fd in (*self.enter, *self.enter_agent, *([self.oom] if self.oom >= 0 else [])):
            os.close(fd)
        self.enter, self.enter_agent, self.oom = [], [], -1

    def remove(self) -> bool:
        """Removes the groups; False if a process has not left one yet."""
        self.close()
        gone = [removed(folder) for folder in reversed(self.folders)]
        return all(gone)


def _files(version: int, limits: ResourceLimits) -> Iterator[tuple[str, str, str]]:
    """Controller, file and text of each limit."""
    if limits.memory is not None:
        yield "memory", *_memory_file(version, limits.memory)
    if limits.cpus is not None:
        quota = max(1000, int(limits.cpus * PERIOD)) if limits.cpus else 0
        if version == 2:
            yield "cpu", "cpu.max", f"{quota or 'max'} {PERIOD}"
        else:
            yield "cpu", "cpu.cfs_quota_us", str(quota or UNLIMITED_V1)
    if limits.processes is not None:
        yield "pids", "pids.max", str(limits.processes or "max")


def _memory_file(version: int, size: int) -> tuple[str, str]:
    """What limits memory, and what to write into it; 0 bytes are no limit."""
    return ("memory.max", str(size or "max")) if version == 2 else ("memory.limit_in_bytes", str(size or UNLIMITED_V1))


class Cgroups:
    """The groups of all rooms of one server.

    Args:
        base: controller -> the folder in which each room gets groups; without any there are none to be had.
        why: what is missing, in words.
        claims: descriptors that say that a server lives to which these folders belong.
    """

    def __init__(self, version: int, base: Mapping[str, Path], why: str = "", claims: Iterable[int] = ()) -> None:
        self.version = version
        self.base = dict(base)
        self.why = why
        self._left: list[Group] = []
        self._claims = list(claims)

    @classmethod
    def off(cls, why: str) -> Cgroups:
        """There are none, for this reason."""
        return cls(0, {}, why)

    @classmethod
    def find(cls, home: Path, *, trial: bool = False) -> Cgroups:
        """Makes what groups of rooms this process can have, and removes what servers have left that are dead.

        An ordinary user's process, and its children, may be moved into a group that is theirs.

        Args:
            home: whose rooms they are; its file ``cgroups`` notes the folders.
            trial: no groups for rooms are made.
        """
        try:
            hierarchies = Hierarchies.of_this_process()
        except OSError as error:
            return cls.off(f"/proc can't be read: {error.strerror}")
        name = folder_name(home)
        with contextlib.suppress(OSError):
            # Another server of this home may have run elsewhere.
            for line in (home / "cgroups").read_text().splitlines():
                if "cgroup" in line and line.endswith(f"/{name}"):
                    clear(Path(line))
        sweep(set(hierarchies.own.values()))
        if hierarchies.version == 0:
            return cls.off("no cgroup file system is mounted")
        parents = dict(hierarchies.own)
        if hierarchies.version == 2:
            delegated = _delegated(hierarchies, name, trial=trial)
            with contextlib.suppress(OSError):  # not every kernel tells a process's children
                if delegated is None and move_to_own_scope(_own_processes()):
                    delegated = _delegated(Hierarchies.of_this_process(), name, trial=trial)
            if delegated is None:
                return cls.off(
                    "the server's cgroup is not its own: run it as a service with Delegate=yes "
                    "(systemd-run --user --scope -p Delegate=yes sandcove serve)"
                )
            controllers = _words(delegated / ("cgroup.controllers" if trial else "cgroup.subtree_control"))
            parents = {controller: delegated for controller in CONTROLLERS if controller in controllers}
        sweep(set(parents.values()) - set(hierarchies.own.values()))
        base, claims, refused = {}, [], ""
        for controller, parent in parents.items():
            folder = parent / name
            try:
                claims.append(claim(folder))
                if not os.access(folder / "cgroup.procs", os.W_OK):
                    raise PermissionError(errno.EACCES, "it is not writable")
            except OSError as error:
                refused = f"{folder} can't be made: {error.strerror}"
                continue
            base[controller] = folder
        if not base:
            for fd in claims:
                os.close(fd)
            return cls.off(refused or "no controller is there")
        try:
            (home / "cgroups").write_text("".join(f"{folder}\n" for folder in dict.fromkeys(base.values())))
        except OSError as error:
            _log.warning("the groups of rooms are not noted (%s); a server started elsewhere won't sweep them", error)
        made = cls(hierarchies.version, base, refused, claims)
        if not trial:
            made._share()
        return made

    def _share(self) -> None:
        """All rooms together leave something to the machine, and have the weight of all its processors."""
        memory = memory_here()
        processors = os.cpu_count() or 1
        files = {
            1: (("memory", "memory.limit_in_bytes", int(memory * ALL)),),
            2: (("memory", "memory.max", int(memory * ALL)), ("cpu", "cpu.weight", min(10_000, 100 * processors))),
        }
        for controller, name, value in files[self.version]:
            if controller in self.base:
                with contextlib.suppress(OSError):
                    _write(self.base[controller] / name, str(value))
        if self.version == 2:
            wanted = " ".join(f"+{controller}" for controller in self.base)
            with contextlib.suppress(OSError):
                _write(next(iter(self.base.values())) / "cgroup.subtree_control", wanted)

    def __contains__(self, controller: object) -> bool:
        return controller in self.base

    @property
    def name(self) -> str:
        return f"cgroup v{self.version}" if self.base else "rlimit"

    def make(self, limits: ResourceLimits) -> Group | None:
        """The groups of a new room; None if there are none to be had.

        Raises:
            OSError: they can't be made.
        """
        if not self.base:
            return None
        self._left = [group for group in self._left if not group.remove()]
        group = Group(self.version)
        try:
            self._fill(group, secrets.token_hex(8))
            group.set(limits)
        except BaseException:
            self.remove(group)
            raise
        return group

    def _fill(self, group: Group, name: str) -> None:
        if self.version == 2:
            room = next(iter(self.base.values())) / name
            _make(group, room)
            _write(room / "cgroup.subtree_control", " ".join(f"+{controller}" for controller in self.base))
            agent, user = _make(group, room / "agent"), _make(group, room / "user")
            group.user = dict.fromkeys(self.base, user)
            group.enter.append(os.open(user / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
            group.enter_agent.append(os.open(agent / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
            group.agent = agent if "memory" in self.base else None
        else:
            for controller, base in self.base.items():
                if (other := next((each for each in group.user if self.base[each] == base), None)) is not None:
                    group.user[controller] = group.user[other]  # mounted together
                    continue
                if controller == "cpu":
                    # Beside the other rooms' and the server's own, not below one group of all rooms: that has spent
                    # its share where one room spins, and then each of the others waits for it.
                    user = _make(group, base.with_name(f"{base.name}-{name}"))
                    group.enter_agent.append(os.open(user / "tasks", os.O_WRONLY | os.O_CLOEXEC))
                    user = _make(group, user / "user")
                else:
                    user = _make(group, base / name)
                if controller == "memory":
                    group.agent = _make(group, base / f"{name}-agent")
                    group.enter_agent.append(os.open(group.agent / "tasks", os.O_WRONLY | os.O_CLOEXEC))
                group.user[controller] = user
                group.enter.append(os.open(user / "tasks", os.O_WRONLY | os.O_CLOEXEC))
        if "memory" in group.user:
            group.oom = os.open(group.user["memory"] / _EVENTS[self.version], os.O_RDONLY | os.O_CLOEXEC)
            if self.version == 2:
                with contextlib.suppress(OSError):  # there is no swap
                    _write(group.user["memory"] / "memory.swap.max", "0")
            else:
                with contextlib.suppress(OSError):
                    _write(group.user["memory"] / "memory.swappiness", "0")

    def remove(self, group: Group) -> None:
        """The room has ended. A group that a process is just leaving is removed with the next."""
        if not group.remove():
            self._left.append(group)

    def close(self) -> None:
        """All rooms have ended. What a process does not leave soon is found by the folder of all: others clear it."""
        for group in self._left:
            group.close()
        for fd in self._claims:
            os.close(fd)
        self._left, self._claims = [], []
        until = time.monotonic() + LEAVING
        for base in dict.fromkeys(self.base.values()):
            while not clear(base) and time.monotonic() < until:
                time.sleep(0.005)


def _make(group: Group, folder: Path) -> Path:
    folder.mkdir()
    group.folders.append(folder)
    return folder


def _delegated(hierarchies: Hierarchies, name: str, *, trial: bool) -> Path | None:
    """The group of version 2 in which rooms can have groups with controllers: ours if it is, else one above."""
    own = next(iter(hierarchies.own.values()))
    if _words(own / "cgroup.controllers") >= NEEDED and os.access(own / "cgroup.subtree_control", os.W_OK):
        leaf = own / f"{name}-server"
        with contextlib.suppress(OSError):
            leaf.mkdir(exist_ok=True)
            # A group with controllers below it holds no processes itself. Those of others are not ours to move.
            mine = _own_processes()
            pids = [int(word) for word in (own / "cgroup.procs").read_text().split()]
            if set(pids) <= mine and trial:
                removed(leaf)
                return own
            if set(pids) <= mine:
                for pid in pids:
                    _write(leaf / "cgroup.procs", str(pid))
                wanted = [f"+{each}" for each in CONTROLLERS if each in _words(own / "cgroup.controllers")]
                _write(own / "cgroup.subtree_control", " ".join(wanted))
                return own
        removed(leaf)
    for above in (own, *own.parents):
        if _words(above / "cgroup.subtree_control") >= NEEDED and os.access(above, os.W_OK):
            return above
        if above == hierarchies.top:
            break
    return None


def _own_processes() -> set[int]:
    """This process and its children."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    return {os.getpid(), *(int(word) for word in children.read_text().split())}


def _words(path: Path) -> set[str]:
    try:
        return set(path.read_text().split())
    except OSError:
        return set()


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _read(folder: Path | None, name: str) -> int | None:
    if folder is None:
        return None
    try:
        return int((folder / name).read_text())
    except (OSError, ValueError):
        return None


def _cpu_seconds(folder: Path | None) -> float | None:
    if folder is None:
        return None
    with contextlib.suppress(OSError):
        for line in (folder / "cpu.stat").read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == "usage_usec":
                return int(number) / 1e6
    return None


def _in_seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9
