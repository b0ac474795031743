"""The zygote: a warm, single-threaded process that forks agents into rooms; and the server's handle on it.

It imports the agent's code once; a fork shares it all. For each sandbox the server passes it a channel, the
agent's listening socket and two open files; the fork waits on the channel for the room's pidfd, joins all of its
namespaces at once (only a single-threaded process may join a user namespace), forks once more into the PID
namespace, and that child is the agent. Room and fork are made side by side.

Run as ``python -m sandcove.runtimes.local.zygote FD MODULE``: `FD` is the control socket, on which the folder of all
rooms comes first; `MODULE` has `preload()` and ``main(channel, listener, memory_fd, path, mount)``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import msgspec

from sandcove import linux
from sandcove.errors import SandboxError, ServiceUnavailableError
from sandcove.runtimes.local.plan import Entry

__all__ = ["AGENT_MODULE", "Zygote", "main", "receive", "sweep"]

_ROOM = (
    linux.CLONE_NEWUSER
    | linux.CLONE_NEWPID
    | linux.CLONE_NEWNS
    | linux.CLONE_NEWNET
    | linux.CLONE_NEWIPC
    | linux.CLONE_NEWUTS
    | linux.CLONE_NEWCGROUP
)

AGENT_MODULE = "sandcove.agent.main"


class Zygote:
    """The server's handle: starts the process, and again when it has died."""

    def __init__(self, home: Path, module: str = AGENT_MODULE) -> None:
        self._module = module
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._ready: asyncio.Future[None] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def spawn(self) -> None:
        """Starts the process; needs no loop. It gets ready by itself meanwhile."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Nothing of the server's environment: every agent is a copy of this process.
        env = {"PATH": os.defpath, "LANG": "C.UTF-8"}
        if python_path := os.environ.get("PYTHONPATH"):
            env["PYTHONPATH"] = python_path
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __spec__.name, str(theirs.fileno()), self._module],
                stdin=subprocess.DEVNULL,
                env=env,
                pass_fds=(theirs.fileno(),),
                cwd="/",
            )
        # Not an argument: user code sees those of the process that it has as PID 1.
        ours.send(os.fsencode(self._home))
        ours.setblocking(False)
        self._control = ours

    def start(self) -> None:
        """Spawns the process if that is still to do, and listens to it; `fork` waits until it is ready."""
        if self._control is None:
            self.spawn()
        assert self._control is not None
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        loop.add_reader(self._control.fileno(), self._on_report, self._control, self._ready)

    async def fork(self, channel: socket.socket, listener: socket.socket, memory_fd: int, log_fd: int) -> None:
        """Has an agent forked; it waits on `channel` for its room. The descriptors stay the caller's to close.

        Raises:
            ServiceUnavailableError: the zygote could not be started.
        """
        if self._control is None:
            self.start()
        assert self._ready is not None and self._control is not None
        await asyncio.shield(self._ready)
        try:
            socket.send_fds(self._control, [b"fork"], [channel.fileno(), listener.fileno(), memory_fd, log_fd])
        except (BlockingIOError, OSError) as error:
            raise ServiceUnavailableError(f"the zygote does not answer ({error}); call again", retryAfter=1) from None

    def close(self) -> None:
        """Ends it; agents that it has forked live on in their rooms."""
        self._drop()

    def _on_report(self, control: socket.socket, ready: asyncio.Future[None]) -> None:
        try:
            data = control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data == b"ready":
            if not ready.done():
                ready.set_result(None)
            return
        # End of file: it died. The next fork starts another.
        if not ready.done():
            ready.set_exception(ServiceUnavailableError("the zygote ended while it started; see server.log"))
            ready.exception()
        if self._control is control:
            self._drop()

    def _drop(self) -> None:
        control, self._control = self._control, None
        process, self._process = self._process, None
        if control is not None:
            asyncio.get_running_loop().remove_reader(control.fileno())
            control.close()
        if process is not None:
            process.kill()
            process.wait()


# --- the process ----------------------------------------------------------------------------------------


def main() -> None:
    """Serves forks until the server's end of the control socket is closed."""
    linux.set_dumpable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    home = os.fsdecode(control.recv(4096))
    agent = importlib.import_module(sys.argv[2])
    agent.preload()
    # The fork that enters a room ends when it has forked the agent, and the agent would go to the host's init: the
    # end of its PID namespace waits until that has reaped it, which some inits do late or never. So they come here,
    # and the kernel reaps them.
    linux.become_subreaper()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):  # the server has ended meanwhile
        control.send(b"ready")
    while True:
        data, fds = linux.receive_fds(control, 64, 4)
        if not data:
            sweep(home)
            return
        if len(fds) == 4 and os.fork() == 0:
            control.close()
            _enter(agent, *fds)
        for fd in fds:
            os.close(fd)


def sweep(folder: str) -> None:
    """Ends what is left of bubblewrap for rooms below `folder`, when the server has died or given up on one.

    Bubblewrap ends then by itself, but the process that it forks waits for a word from it, without an end if it ends
    in between.
    """
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit():
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
                program, root = os.path.basename(words[0]), os.fsencode(f"{folder}/")
                if program == b"bwrap" and any(word.startswith(root) for word in words):
                    os.kill(int(name), signal.SIGKILL)


def _enter(agent: ModuleType, channel_fd: int, listener_fd: int, memory_fd: int, log_fd: int) -> NoReturn:
    """In the fork: waits for the room, joins it, and becomes its agent."""
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
        data, fds = linux.receive_fds(channel, 64 * 1024, 1)
        if not fds:
            os._exit(0)
        entry = msgspec.json.decode(data, type=Entry)
        linux.setns(fds[0], _ROOM)
        os.close(fds[0])
        # User code gets no user namespace of its own: in one it would have every capability.
        with open("/proc/sys/user/max_user_namespaces", "w") as limit:
            limit.write("0")
        linux.leave_keyring()
        os.chdir("/")
        os.umask(0o022)
        if os.fork() > 0:
            os._exit(0)
        os.environ.clear()
        agent.main(channel, socket.socket(fileno=listener_fd), memory_fd, entry.path, lambda: _mount(entry))
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


async def receive(channel: socket.socket, timeout: float) -> bytes:
    """The next word of the agent; empty at its end.

    Raises:
        SandboxError: none came within `timeout` seconds.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            return await loop.sock_recv(channel, 4096)
    except TimeoutError:
        raise SandboxError(f"the agent did not start within {timeout:g} s; is the machine overloaded?") from None


if __name__ == "__main__":
    main()
