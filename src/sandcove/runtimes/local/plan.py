"""What a room consists of: decided here from facts about the host, with no I/O, and written as bubblewrap arguments.

Bubblewrap makes the namespaces, the root and everything that isolates. The copy-on-write mounts are made inside by
the fork that enters, because they need overlayfs's ``volatile`` option, which bubblewrap has no word for: without
it the end of every room would write all dirty pages of the disk out. It also keeps the host's paths out of the
room's mount table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sandcove.wire.confine import NO_CONFINES, Confine

__all__ = [
    "LAUNCH_PLACE",
    "ROOT_LINKS",
    "Entry",
    "HostPython",
    "Overlay",
    "RoomPlan",
    "bubblewrap_arguments",
    "plan_room",
    "search_path",
]

ROOT_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Links into /usr on a host with a merged /usr; folders of their own elsewhere."""
_HOSTNAME = "sandbox"
_PLAIN = ("/etc", "/usr", *(f"/{name}" for name in ROOT_LINKS))
LAUNCH_PLACE = "/tmp"
"""Where the launcher shows the sandbox's folder to bubblewrap: a folder that every host has."""
_PARTS = "/run/room"
"""Where bubblewrap shows the parts of the overlays; fixed and plain, so that mount options need no escapes."""
_SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


@dataclass(frozen=True)
class HostPython:
    """The host's Python, which a room sees at the same paths."""

    prefix: str
    base_prefix: str


class Overlay(msgspec.Struct, frozen=True):
    """A host folder seen copy-on-write at `target`, once the room stands: paths as the room has them then.

    `lower` is read, changes go to `upper`; `work` is overlayfs's own.
    """

    lower: str
    upper: str
    work: str
    target: str


class Entry(msgspec.Struct, frozen=True):
    """What the fork that enters a room does there before it is the agent."""

    overlays: tuple[Overlay, ...]
    unmount: tuple[str, ...]
    """Where bubblewrap had put the overlays' parts; gone before user code runs."""
    attach: tuple[str, ...]
    """Where the mounts go whose descriptors come along: the overlays' lower parts."""
    path: str
    """The PATH of user code."""
    confine: Confine = Confine()
    groups: tuple[int, int, int] = (0, 0, 0)
    """How many descriptors come along: to enter the control groups of user code, of the agent, to see out-of-memory."""


@dataclass(frozen=True)
class RoomPlan:
    """A room.

    Attributes:
        folder: the host folder with all that is the sandbox's.
        root: the host folder that is its `/`.
        folders: the host folders that must be there first, parents before children.
        layers: the host folder of the upper layers, and where bubblewrap shows it, writable.
        binds: host folder -> where bubblewrap shows it, read-only.
        entry: what is left to do inside.
        mapped: its users are others on the host than the server's.
    """

    folder: str
    root: str
    folders: tuple[str, ...]
    layers: tuple[str, str]
    binds: tuple[tuple[str, str], ...]
    entry: Entry
    mapped: bool


def plan_room(
    folder: Path, etc: Path, copied: Iterable[str], path: str, confine: Confine = NO_CONFINES, *, mapped: bool
) -> RoomPlan:
    """The plan of a sandbox's room.

    Args:
        folder: where the sandbox's files are kept.
        etc: the lower layer of ``/etc``.
        copied: see `copied_folders`.
        path: the PATH of user code.
        confine: its limits.
        mapped: see `RoomPlan`.
    """
    overlays, binds, folders = [], [], [str(folder / "root"), str(folder / "layers")]
    for number, (lower, target) in enumerate([(str(etc), "/etc"), *((path, path) for path in copied)]):
        # Plain and short whatever the host's path is: the name stands in mount options.
        name = target[1:] if target in _PLAIN else hashlib.sha256(target.encode()).hexdigest()[:16]
        shown = f"{_PARTS}/{number}"
        binds.append((lower, shown))
        folders += [str(folder / "layers" / name / part) for part in ("", "upper", "work")]
        layer = f"{_PARTS}/layers/{name}"
        overlays.append(Overlay(shown, f"{layer}/upper", f"{layer}/work", target))
    layers = (str(folder / "layers"), f"{_PARTS}/layers")
    unmount = (*(shown for _, shown in binds), layers[1])
    entry = Entry(tuple(overlays), unmount, tuple(shown for _, shown in binds) if mapped else (), path, confine)
    return RoomPlan(str(folder), str(folder / "root"), tuple(folders), layers, tuple(binds), entry, mapped)


def bubblewrap_arguments(plan: RoomPlan, *, info_fd: int, holder_fd: int, server: int) -> list[str]:
    """Arguments for bwrap 0.11: new namespaces of every kind, loopback alone as network, the plan's mounts.

    In a mapped room bubblewrap runs in its user namespace already, and sees nothing of the host's but what everybody
    may: the sandbox's folder is at `LAUNCH_PLACE`, and the parts of the overlays come later, by descriptors. `server`
    is the process that the room is of.
    """
    own_user = [] if plan.mapped else ["--unshare-user", "--uid", "0", "--gid", "0"]
    arguments = [
        *own_user,
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--hostname",
        _HOSTNAME,
        "--die-with-parent",
        "--as-pid-1",
        "--clearenv",
        "--cap-drop",
        "ALL",
        "--info-fd",
        str(info_fd),
    ]

    def seen(path: str) -> str:
        return LAUNCH_PLACE + path.removeprefix(plan.folder) if plan.mapped else path

    arguments += ["--bind", seen(plan.root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run"]
    arguments += ["--bind", seen(plan.layers[0]), plan.layers[1]]
    for folder, shown in plan.binds:
        arguments += ["--dir", shown] if plan.mapped else ["--ro-bind", folder, shown]
    arguments += ["--chdir", "/"]
    # The holder takes no arguments: these are there for whoever looks for the room's processes; see `remains`.
    arguments += ["--", f"/proc/self/fd/{holder_fd}", plan.root, str(server)]
    return arguments


def search_path(python: HostPython) -> str:
    """The PATH of user code: the Python environment's programs first."""
    own = [f"{prefix}/bin" for prefix in (python.prefix, python.base_prefix) if f"{prefix}/bin" not in _SYSTEM_PATH]
    return ":".join(dict.fromkeys([*own, *_SYSTEM_PATH]))
