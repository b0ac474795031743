"""Runs the agent's code in the zygote before any fork of it does.

Python writes into a function's code while it specialises it, and frameworks build tables with their first request: in
a fork each such write copies a page and takes time. What has run here, all agents share.

Nothing of a sandbox exists yet. The one shell that runs here is the host's own bash in a temporary folder, given only
text of ours, and it is gone before the first fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sandcove.agent.app import Agent
from sandcove.agent.confines import Confines
from sandcove.agent.contexts import Contexts
from sandcove.agent.init import Exit, Init
from sandcove.agent.init_messages import SignalRequest, spawn_request
from sandcove.agent.init_process import spawn
from sandcove.agent.kernel_start import Kernels
from sandcove.agent.memory import Memory
from sandcove.agent.processes import Processes
from sandcove.agent.sessions import Sessions
from sandcove.asgi import Listener, run

__all__ = ["warm_up"]

_ROUNDS = 24
"""More than the interpreter needs to have specialised what it runs."""
_CALLS = (
    ("GET", "/api/ping", b""),
    ("GET", "/api/activity", b""),
    ("POST", "/api/execute", b'{"command":"true"}'),
    ("POST", "/api/execute", b'{"command":["true"],"id":"none"}'),
    ("POST", "/api/exists", b'{"path":"/"}'),
)


class _HostInit(Init):
    """Spawns beside this process instead of in a namespace."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.confines = Confines()

    async def spawn(
        self, argv: Sequence[str], *, env: dict[str, str], cwd: str, fds: dict[int, int], adopts: bool = False
    ) -> tuple[int, asyncio.Future[Exit]]:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        answer = spawn(spawn_request(0, argv, env=env, cwd=cwd, fds=list(fds)), list(fds.values()), null)
        os.close(null)
        self.pids.append(answer.value)
        return answer.value, asyncio.get_running_loop().create_future()

    async def signal(self, pid: int, signal: int, *, spare: Sequence[int] = (), since: int = 0) -> int:
        request = SignalRequest(0, pid, signal, list(spare), since)
        return request.ref


async def _call(listener: Listener) -> None:
    ours, theirs = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(listener.protocol, theirs)
    reader, writer = await asyncio.open_connection(sock=ours)
    for _ in range(_ROUNDS):
        for method, path, body in _CALLS:
            head = f"{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(answer.partition(b"content-length: ")[2].split()[0]))
    writer.close()


def warm_up(agent: Agent, listener: Listener, env: dict[str, str], place: Path | None) -> None:
    """Serves the commonest calls to itself a few times, on a loop that is closed again.

    Args:
        place: has what is being deleted, and a folder of this one's meanwhile: it is locked, so who empties it waits.
    """
    init = _HostInit()

    async def serve(folder: Path) -> None:
        with open(folder / "memory", "w+b") as memory:
            sessions = Sessions(
                Memory(memory.fileno()), env, init, run=folder, state=folder / "state", confines=Confines()
            )
            async with asyncio.TaskGroup() as group:
                agent.begin(
                    sessions,
                    Processes(group),
                    Contexts(sessions, Kernels(None)),
                    init,
                    env,
                    refuse=listener.refuse,
                )
                await _call(listener)
            await sessions.take("default").end()

    before = os.getcwd()
    with contextlib.ExitStack() as stack:
        if place is not None:
            lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_SH)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sandcove-", dir=place))
        run(lambda: serve(Path(folder)))
    os.chdir(before)
    for pid in init.pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
