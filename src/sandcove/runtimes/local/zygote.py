"""A zygote: a warm, single-threaded process that forks others into rooms; and the server's handle on it.

It imports once what its forks need; they share it all. There are two: one forks the agent of each new room, one the
Python kernels of code contexts. On a request it forks, and the fork does with the descriptors that came along what its
way in says: `enter_room` or `enter_kernel`. Only a single-threaded process may join a user namespace.

Both run from a copy of Python in memory that nobody can write. Code of the user's gets hold of its own program by
``/proc/self/exe``, past every mount of the room, and of that of the process that starts it, by a script whose first
line is ``#!/proc/self/exe`` (as in CVE-2019-5736); it would change the host's file where the server's user may.

Run as ``python -m sandcove.runtimes.local.zygote FD ENTRY MODULE``: `FD` is the control socket, on which the server's
process id and the folder of all rooms come first, or a hyphen; `MODULE` has `preload` and what `ENTRY.enter` asks of
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections import deque
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sandcove import linux
from sandcove.errors import SandboxError, ServiceUnavailableError
from sandcove.runtimes.local.remains import sweep
from sandcove.waiting import readable

__all__ = ["AGENTS", "KERNELS", "Kind", "Zygote", "main", "receive"]


@dataclass(frozen=True)
class Kind:
    """What a zygote forks.

    Attributes:
        entry: the module that has `enter`, of this package.
        module: the module that is imported for it.
        sweeps: it ends what is left of rooms when the server has died, and so is told where they are. What runs code
            of the user's does not even know that.
    """

    entry: str
    module: str
    sweeps: bool


AGENTS = Kind("sandcove.runtimes.local.enter_room", "sandcove.agent.main", sweeps=True)
KERNELS = Kind("sandcove.runtimes.local.enter_kernel", "sandcove.kernels.python.main", sweeps=False)

MOST_FDS = 32
START_WITHIN = 60.0
"""Seconds in which a zygote must be ready."""
FORK_WITHIN = 10.0
"""Seconds in which it must have forked. One that has not is stuck, or stopped (SIGSTOP): another takes its place."""

_log = logging.getLogger("sandcove.runtime")


class Zygote:
    """The server's handle: starts the process, and again when it has died."""

    def __init__(self, home: Path, kind: Kind = AGENTS) -> None:
        self._kind = kind
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._ready: asyncio.Future[None] | None = None
        self._forks: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.TimerHandle | None = None

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
        arguments = [
            sys.executable,
            "-P",
            "-m",
            __spec__.name,
            str(theirs.fileno()),
            self._kind.entry,
            self._kind.module,
        ]
        # A library that lies beside the program is not found beside the copy.
        beside = Path(sys.executable).resolve().parents[1] / "lib"
        env["LD_LIBRARY_PATH"] = f"{sysconfig.get_config_var('LIBDIR') or beside}:{beside}"
        copy = _program()
        with theirs:
            self._process = subprocess.Popen(
                arguments,
                executable=f"/proc/self/fd/{copy}",
                stdin=subprocess.DEVNULL,
                env=env,
                pass_fds=[theirs.fileno(), copy],
                cwd="/",
            )
        # Not an argument: user code sees those of the process that it has as PID 1. What runs code of the user's does
        # not even know it.
        ours.send(b"%d %s" % (os.getpid(), os.fsencode(self._home)) if self._kind.sweeps else b"-")
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
        self._await_word(START_WITHIN)

    async def ready(self) -> None:
        """Returns when it can fork; starts it if need be."""
        if self._control is None:
            self.start()
        assert self._ready is not None
        await asyncio.shield(self._ready)

    async def fork(self, *fds: int) -> asyncio.Future[None]:
        """Has it fork, when it is ready, with these descriptors for `enter`. They stay the caller's to close.

        Returns:
            What is done when it has forked, and cancelled if it never will.

        Raises:
            ServiceUnavailableError: the zygote could not be started.
        """
        await self.ready()
        try:
            if self._control is None:
                raise BrokenPipeError("it ended as it got ready")
            socket.send_fds(self._control, [b"fork"], fds)
        except (BlockingIOError, OSError) as error:
            raise ServiceUnavailableError(f"the zygote does not answer ({error}); call again", retryAfter=1) from None
        forked = asyncio.get_running_loop().create_future()
        self._forks.append(forked)
        if self._alarm is None:
            self._await_word(FORK_WITHIN)
        return forked

    def close(self) -> None:
        """Ends it; what it has forked lives on in its rooms."""
        self._drop()

    def _on_report(self, control: socket.socket, ready: asyncio.Future[None]) -> None:
        try:
            data = control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            if data == b"forked":
                forked = self._forks.popleft()
                if not forked.done():
                    forked.set_result(None)
            elif not ready.done():
                ready.set_result(None)
            self._await_word(FORK_WITHIN if self._forks else None)
            return
        # End of file: it died. The next fork starts another.
        if not ready.done():
            ready.set_exception(ServiceUnavailableError("the zygote ended while it started; see server.log"))
            ready.exception()
        if self._control is control:
            self._drop()

    def _await_word(self, within: float | None) -> None:
        """Its next word comes within so many seconds, or it is given up; None: nothing is awaited."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None if within is None else asyncio.get_running_loop().call_later(within, self._give_up)

    def _give_up(self) -> None:
        _log.warning("zygote %s does not answer: it is killed, and the next fork starts another", self.pid)
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(ServiceUnavailableError("the zygote did not start; call again", retryAfter=1))
            self._ready.exception()
        self._drop()

    def _drop(self) -> None:
        while self._forks:
            self._forks.pop().cancel()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        control, self._control = self._control, None
        process, self._process = self._process, None
        if control is not None:
            asyncio.get_running_loop().remove_reader(control.fileno())
            control.close()
        if process is not None:
            process.kill()
            process.wait()


@cache
def _program() -> int:
    """The copy of Python, which all zygotes of this process share: a descriptor that stays open as long as it runs."""
    return linux.sealed_memfd("python", Path(sys.executable).read_bytes())


# --- the process ----------------------------------------------------------------------------------------


def main() -> None:
    """Serves forks until the server's end of the control socket is closed."""
    linux.set_dumpable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    server, _, home = os.fsdecode(control.recv(4096)).partition(" ")
    # Programs that run from a copy have its descriptor's number as their name.
    linux.set_name("python3")
    entry, module = map(importlib.import_module, sys.argv[2:4])
    module.preload(Path(home, "trash") if home else None)
    # The fork that enters a room ends when it has forked the agent, and the agent would go to the host's init: the
    # end of its PID namespace waits until that has reaped it, which some inits do late or never. So they come here,
    # and the kernel reaps them.
    linux.become_subreaper()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # the server has ended meanwhile
        control.send(b"ready")
    while True:
        data, fds = b"", list[int]()
        with contextlib.suppress(ConnectionError):  # it died before it had read what it was sent
            data, fds = linux.receive_fds(control, 64, MOST_FDS)
        if not data:
            if home:
                sweep(home, int(server))
            return
        read, write = os.pipe()
        if os.fork() == 0:
            control.close()
            # An agent may have passed some whose last close waits (see `linux.close_at_once`): that is not done here.
            os.close(write)
            os.read(read, 1)
            os.close(read)
            entry.enter(module, *fds)
        for fd in (read, *fds, write):
            os.close(fd)
        with contextlib.suppress(OSError):  # the server has ended meanwhile
            control.send(b"forked")


async def receive(channel: socket.socket, timeout: float) -> tuple[bytes, int | None]:
    """The next word of the agent, empty at its end, and the descriptor that came with it.

    Raises:
        SandboxError: none came within `timeout` seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    data, fds = linux.receive_fds(channel, 4096, 1)
                except BlockingIOError:
                    await readable(channel.fileno())
                else:
                    return data, fds[0] if fds else None
    except TimeoutError:
        raise SandboxError(f"the agent did not start within {timeout:g} s; is the machine overloaded?") from None


if __name__ == "__main__":
    main()
