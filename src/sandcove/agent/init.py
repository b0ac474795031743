"""The agent's handle on the first process of a PID namespace for user code; see `init_process`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Sequence

from sandcove import linux
from sandcove.agent.confines import Confines
from sandcove.agent.init_messages import (
    DATAGRAM,
    LONGEST_REQUEST,
    ConfineRequest,
    EndRequest,
    Exit,
    InMemfd,
    SignalRequest,
    SpawnRequest,
    WatchRequest,
    encode,
    reports,
    spawn_request,
)
from sandcove.agent.init_process import run
from sandcove.errors import ContainerNotReadyError, SandboxError
from sandcove.waiting import writable

__all__ = ["Exit", "Init"]

AT_ONCE = 16
"""Requests that are not answered yet; others wait. So neither side ever waits for the other to read."""


class Init:
    """The agent's handle. Made before the event loop or inside it; `attach` begins the talk.

    Attributes:
        confines: what user code may use.
        namespaces: descriptors by which others can join those that it is in, as `sandcove.linux.NAMESPACES`; or none.
        ended: done when the namespace is gone.
    """

    def __init__(self, channel: socket.socket, pid: int, confines: Confines) -> None:
        self.confines = confines
        self.namespaces: list[int] = []
        self._channel = channel
        self._pid = pid
        self._refs = 0
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._sending = asyncio.Lock()
        self._answers: dict[int, asyncio.Future[int]] = {}
        self._exits: dict[int, asyncio.Future[Exit]] = {}
        self._early: dict[int, Exit] = {}
        self.ended: asyncio.Future[None] | None = None

    @classmethod
    def start(cls, *, own_mounts: bool, confines: Confines, own_run: bool = False) -> Init:
        """Forks the namespace's first process.

        With `own_mounts` it gets a mount namespace of its own too (an isolated session); without, the ``/proc``
        that it mounts is the one that the whole room sees, the agent included, whose own is thereby hidden:
        a file path can't lead the agent to itself. With `own_run` an empty ``/run`` too, which no other process sees.
        `confines` are those of all in it.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own_namespace = os.pidfd_open(os.getpid())
        try:
            linux.unshare(linux.CLONE_NEWPID)
            pid = os.fork()
            if pid == 0:
                run(theirs.fileno(), own_mounts, own_run, confines)
            linux.setns(own_namespace, linux.CLONE_NEWPID)
        finally:
            os.close(own_namespace)
        theirs.close()
        return cls(ours, pid, confines)

    def attach(self) -> None:
        """Waits for the process to be set up, then reads its answers on the running loop.

        Raises:
            SandboxError: it could not be set up. Nothing of user code has run then.
        """
        word, self.namespaces = linux.receive_fds(self._channel, 8192, len(linux.NAMESPACES))
        if word != b"ready":
            self._channel.close()
            os.waitpid(self._pid, 0)
            raise SandboxError(f"the PID namespace for user code could not be set up: {word.decode(errors='replace')}")
        self._channel.setblocking(False)
        loop = asyncio.get_running_loop()
        self.ended = loop.create_future()
        loop.add_reader(self._channel.fileno(), self._on_report)

    async def spawn(
        self, argv: Sequence[str], *, env: dict[str, str], cwd: str, fds: dict[int, int], adopts: bool = False
    ) -> tuple[int, asyncio.Future[Exit]]:
        """Starts a program as the leader of a session and process group of its own.

        Args:
            argv: the program's absolute path, then its arguments.
            adopts: its descendants' orphans become its children; costs a millisecond.
            fds: descriptor number in the program -> descriptor here. 0, 1 and 2 are /dev/null if not named.

        Returns:
            Its pid in the namespace, and the future of its end.

        Raises:
            SandboxError: it could not be started; the message has the system's reason.
        """
        self._refs += 1
        request = spawn_request(self._refs, argv, env=env, cwd=cwd, fds=list(fds), adopts=adopts)
        pid = await self._ask(self._refs, request, list(fds.values()))
        return pid, self._end_of(pid)

    async def watch(self, pid: int) -> asyncio.Future[Exit]:
        """The future of the end of a process that was not spawned here, but is an orphan of the namespace, or will be.

        Raises:
            SandboxError: there is no such process, or it is watched already.
        """
        if pid in self._exits:
            raise SandboxError(f"process {pid} is not what it says it is")
        self._refs += 1
        return self._end_of(await self._ask(self._refs, WatchRequest(self._refs, pid), []))

    async def confine(self) -> None:
        """Puts `confines`, which have changed, in force for all that runs, and what starts from now on."""
        self._refs += 1
        with contextlib.suppress(SandboxError):
            await self._ask(self._refs, ConfineRequest(self._refs, self.confines.confine), [])

    def _end_of(self, pid: int) -> asyncio.Future[Exit]:
        end: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        if (early := self._early.pop(pid, None)) is not None:
            end.set_result(early)
        else:
            self._exits[pid] = end
        return end

    async def signal(self, pid: int, signal: int, *, spare: Sequence[int] = (), since: int = 0) -> int:
        """Signals a process and all that came from it; see `SignalRequest`. Returns how many got it."""
        self._refs += 1
        return await self._ask(self._refs, SignalRequest(self._refs, pid, signal, list(spare), since), [])

    async def ask_to_end(self, grace: float) -> None:
        """Sends SIGTERM to every process of the namespace, and waits at most `grace` seconds until none is left."""
        self._refs += 1
        await self._ask(self._refs, EndRequest(self._refs, int(grace * 1000)), [])

    async def end(self) -> None:
        """Kills the namespace with everything in it, and reaps its first process."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        if self.ended is not None:
            await asyncio.shield(self.ended)

    async def _ask(
        self,
        ref: int,
        request: SpawnRequest | SignalRequest | WatchRequest | EndRequest | ConfineRequest,
        fds: list[int],
    ) -> int:
        async with self._slots:
            if self.ended is None or self.ended.done():
                raise ContainerNotReadyError("the sandbox is ending; call again")
            answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self._answers[ref] = answer
            data = encode(request)
            memfd = -1
            if len(data) > LONGEST_REQUEST:
                memfd = os.memfd_create("request", os.MFD_CLOEXEC)
                os.write(memfd, data)
                data, fds = encode(InMemfd()), [memfd, *fds]
            try:
                await self._send(data, fds)
            except OSError as error:
                self._answers.pop(ref, None)
                raise ContainerNotReadyError(f"the sandbox is ending ({error}); call again") from None
            finally:
                if memfd >= 0:
                    os.close(memfd)
            return await answer

    async def _send(self, data: bytes, fds: list[int]) -> None:
        async with self._sending:
            while True:
                try:
                    socket.send_fds(self._channel, [data], fds)
                except BlockingIOError:
                    await writable(self._channel.fileno())
                else:
                    return

    def _on_report(self) -> None:
        while True:
            try:
                data = self._channel.recv(DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._on_end()
                return
            report = reports.decode(data)
            if isinstance(report, Exit):
                waiting = self._exits.pop(report.pid, None)
                if waiting is None:
                    self._early[report.pid] = report
                elif not waiting.done():
                    waiting.set_result(report)
                continue
            answer = self._answers.pop(report.ref, None)
            if answer is not None and not answer.done():
                if report.error:
                    answer.set_exception(SandboxError(report.error))
                else:
                    answer.set_result(report.value)

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        for fd in self.namespaces:
            os.close(fd)
        self.namespaces = []
        self._channel.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ContainerNotReadyError("the sandbox ended during the call; call again"))
        for pid, exit_ in self._exits.items():
            if not exit_.done():
                exit_.set_result(Exit(pid, 128 + signal.SIGKILL, signal.SIGKILL))
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(None)
