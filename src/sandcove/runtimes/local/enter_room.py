"""The way of a fork of the zygote into a room that is being made, to be its agent.

It waits on the channel for the room's pidfd, joins all of its namespaces at once, and forks once more into the PID
namespace: that child is the agent.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
from types import ModuleType
from typing import NoReturn

import msgspec

from sandcove import linux, seccomp
from sandcove.runtimes.local.plan import Entry
from sandcove.wire.confine import Confine
from sandcove.wire.egress import PROXY_HOST, PROXY_PORT

__all__ = ["WAY_OUT", "enter"]

WAY_OUT = b"way out"
"""The word on the channel with which the socket comes that the server listens on inside."""
MOST_FDS = 32
"""The room's, its mounts' and its control groups'."""
MOST_INODES = 1_000_000
"""Of a file system in memory, if nobody says how many."""


def enter(agent: ModuleType, channel_fd: int, listener_fd: int, memory_fd: int, log_fd: int) -> NoReturn:
    """In the fork: waits for the room, joins it, and becomes its agent.

    Args:
        agent: has ``main(channel, listener, memory_fd, path, mount, *, confine, resize, enter, oom)``; see
            `sandcove.agent.main`.
    """
    channel = socket.socket(fileno=channel_fd)
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, 0)
        os.dup2(log_fd, 1)
        os.dup2(log_fd, 2)
        os.close(null)
        os.close(log_fd)
        data, fds = linux.receive_fds(channel, 64 * 1024, MOST_FDS)
        if not fds:
            os._exit(0)
        entry = msgspec.json.decode(data, type=Entry)
        room, mounts, groups = fds[0], fds[1 : 1 + len(entry.attach)], fds[1 + len(entry.attach) :]
        into_user, into_agent, sees_oom = entry.groups
        for group in groups[into_user : into_user + into_agent]:
            os.write(group, b"0")
            os.close(group)
        with open("/proc/sys/fs/inotify/max_user_instances") as most:
            watchers = int(most.read())
        linux.setns(room, sum(linux.NAMESPACES.values()))
        os.close(room)
        linux.become_room_root()
        for mount, place in zip(mounts, entry.attach, strict=True):
            linux.attach_mount(mount, place)
            os.close(mount)
        with socket.create_server((PROXY_HOST, PROXY_PORT)) as way_out:
            socket.send_fds(channel, [WAY_OUT], [way_out.fileno()])
        # User code gets no user namespace of its own: in one it would have every capability.
        with open("/proc/sys/user/max_user_namespaces", "w") as limit:
            limit.write("0")
        if not entry.attach:
            # Its user is the server's, for whom the kernel counts these: one room doesn't get all.
            with open("/proc/sys/user/max_inotify_instances", "w") as limit:
                limit.write(f"{watchers // 4}")
        # And it has no capabilities, which ports below 1024 would need.
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w") as first:
            first.write("0")
        with open("/proc/sys/net/ipv4/ping_group_range", "w") as pinging:
            pinging.write("0 0")
        linux.leave_keyring()
        seccomp.install(agent=True)
        os.chdir("/")
        os.umask(0o022)
        if os.fork() > 0:
            os._exit(0)
        os.environ.clear()
        agent.main(
            channel,
            socket.socket(fileno=listener_fd),
            memory_fd,
            entry.path,
            lambda: _mount(entry),
            confine=entry.confine,
            resize=_resize,
            enter=groups[:into_user],
            oom=groups[-1] if sees_oom else -1,
        )
    except BaseException as error:  # noqa: BLE001 - whatever it is, the server must hear of it
        with contextlib.suppress(OSError):
            channel.send(f"error: {error}".encode()[:4096])
    os._exit(1)


def _mount(entry: Entry) -> None:
    """Lays the copy-on-write mounts over their targets, and takes away what they were made from."""
    for overlay in entry.overlays:
        # What a volatile mount leaves to say that it was not synced; the kernel refuses to mount again while it is
        # there. Our promise is to survive a kill of anything, not the loss of power.
        if os.path.lexists(f"{overlay.work}/work/incompat"):
            shutil.rmtree(f"{overlay.work}/work/incompat")
        _enter_target(overlay.target)
        options = f"lowerdir={overlay.lower},upperdir={overlay.upper},workdir={overlay.work},userxattr,volatile"
        linux.mount("overlay", ".", "overlay", linux.MS_NOSUID | linux.MS_NODEV, options)
    os.chdir("/")
    for place in entry.unmount:
        linux.unmount(place)
    linux.restrict_devices()
    _resize(entry.confine, fail=True)


def _resize(confine: Confine, *, fail: bool = False) -> None:
    """Limits the room's file systems in memory. One that holds more already stays as it is, unless that shall fail."""
    for place in ("/dev", "/run"):
        try:
            linux.resize_tmpfs(place, str(confine.shm or "50%"), confine.inodes or MOST_INODES)
        except OSError:
            if fail:
                raise


def _enter_target(target: str) -> None:
    """Makes a mount's target the working directory. The sandbox may have put links in its way: they are removed."""
    folder = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    for name in target.strip("/").split("/"):
        try:
            below = os.open(name, flags, dir_fd=folder)
        except OSError as error:
            if error.errno != errno.ENOENT:
                os.unlink(name, dir_fd=folder)
            os.mkdir(name, 0o755, dir_fd=folder)
            below = os.open(name, flags, dir_fd=folder)
        os.close(folder)
        folder = below
    os.fchdir(folder)
    os.close(folder)
