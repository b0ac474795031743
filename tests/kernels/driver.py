"""The agent's side of a kernel's descriptors, for tests of kernels as programs; see `sandcove.kernels.messages`."""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

__all__ = ["Cell", "Driver"]

AGAIN = 0.5
WITHIN = 60.0
"""Seconds that a test waits for one answer; far longer than any takes."""


@dataclass
class Cell:
    """What one cell gave. `events` has all of it in order: ("stdout", text), ("result", {...}), ..."""

    events: list[tuple[str, Any]] = field(default_factory=list)

    def _text(self, name: str) -> str:
        return "".join(value for kind, value in self.events if kind == name)

    @property
    def stdout(self) -> str:
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        return self._text("stderr")

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [value for name, value in self.events if name == kind]

    @property
    def results(self) -> list[dict[str, Any]]:
        return self.all("result")

    @property
    def result(self) -> dict[str, Any]:
        """The only result."""
        (one,) = self.results
        return one

    @property
    def error(self) -> dict[str, Any] | None:
        found = self.all("error")
        assert len(found) <= 1
        return found[0] if found else None


class Driver:
    """A kernel that runs: started with `argv`, ready when this returns."""

    def __init__(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        acks, self._acks = os.pipe2(os.O_CLOEXEC)
        self._out, out = os.pipe2(os.O_CLOEXEC)
        self._err, err = os.pipe2(os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        # Numbers above those that they become: none is overwritten before it is used.
        passed = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in (null, out, err, theirs.fileno(), acks)]
        try:
            self.pid = self._start(argv, passed, cwd, env)
        finally:
            for fd in (*passed, acks, out, err, null):
                os.close(fd)
            theirs.close()
        self._begin(ours)

    def _start(self, argv: Sequence[str], fds: Sequence[int], cwd: Path, env: Mapping[str, str]) -> int:
        """Starts the program in a session of its own, with `fds` as descriptors 0 and following; gives its pid."""
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(fds)]
        before = os.getcwd()
        os.chdir(cwd)
        try:
            return os.posix_spawn(argv[0], list(argv), dict(env), file_actions=actions, setsid=True)
        finally:
            os.chdir(before)

    def _begin(self, channel: socket.socket) -> None:
        self._channel = channel
        self._buffer = b""
        self._complaints = ""  # the last that it printed to standard error, for the test that it fails
        kind, self.ready = self._message(time.monotonic() + WITHIN)
        assert kind == "ready", self.ready

    def run(
        self,
        code: str,
        *,
        env: Mapping[str, str] | None = None,
        on_event: Callable[[str, Any], None] | None = None,
        within: float = WITHIN,
    ) -> Cell:
        """Runs a cell to its end. `on_event` is called with each event as it comes; it may `interrupt`.

        Raises:
            EOFError: the kernel ended.
            TimeoutError: the cell did not end.
        """
        request: dict[str, Any] = {"op": "run", "code": code}
        if env is not None:
            request["env"] = dict(env)
        self._channel.sendall(json.dumps(request).encode() + b"\n")
        cell = Cell()

        def add(kind: str, value: Any) -> None:
            cell.events.append((kind, value))
            if on_event is not None:
                on_event(kind, value)

        deadline = time.monotonic() + within
        self._interrupting = False
        while True:
            kind, message = self._message(deadline, add)
            if kind == "done":
                self._interrupting = False
                add("done", message)
                return cell
            if kind != "sync":
                add(kind, message)
            if kind in ("result", "clear_output", "sync"):
                os.write(self._acks, b".")

    def fork(self) -> Driver:
        """A copy of the kernel. `lost` on it is what the kernel said that the copy has not."""
        ours, theirs = socket.socketpair()
        acks, our_acks = os.pipe2(os.O_CLOEXEC)
        our_out, out = os.pipe2(os.O_CLOEXEC)
        our_err, err = os.pipe2(os.O_CLOEXEC)
        fds = array.array("i", [theirs.fileno(), acks, out, err])
        self._channel.sendmsg([b'{"op":"fork"}\n'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        theirs.close()
        for fd in (acks, out, err):
            os.close(fd)
        kind, message = self._message(time.monotonic() + WITHIN)
        if kind != "forked" or message.get("error"):
            ours.close()
            for fd in (our_acks, our_out, our_err):
                os.close(fd)
            raise RuntimeError(message.get("error") or kind)
        copy = Driver.__new__(Driver)
        copy._acks, copy._out, copy._err = our_acks, our_out, our_err
        copy._begin(ours)
        copy.pid = copy.ready["pid"]
        copy.lost = message["lost"]
        return copy

    lost: list[str]

    def interrupt(self) -> None:
        """SIGINT, and again when nothing comes of it within a moment, as the agent does."""
        self._interrupting = True
        os.kill(self.pid, signal.SIGINT)

    _interrupting = False

    reads_late = 0.0
    """Seconds that it lets pass before it reads what has come, as an agent with other work does."""

    def interrupt_tree(self) -> None:
        """As the agent does: the kernel and what its cell has started."""
        os.killpg(self.pid, signal.SIGINT)

    def end(self) -> None:
        """Kills it, if it still runs, and all in its session."""
        self._channel.close()
        for fd in (self._acks, self._out, self._err):
            os.close(fd)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _message(self, deadline: float, add: Callable[[str, Any], None] | None = None) -> tuple[str, dict[str, Any]]:
        """The next message; what was printed before it is told to `add` first."""
        channel = self._channel.fileno()
        while b"\n" not in self._buffer:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("the kernel did not answer")
            ready, _, _ = select.select([channel, self._out, self._err], [], [], min(remaining, AGAIN))
            if not ready and self._interrupting:
                os.kill(self.pid, signal.SIGINT)
            time.sleep(self.reads_late)
            if channel in ready:
                data = self._channel.recv(1 << 20)
                if not data:
                    self._drain(add)
                    raise EOFError(f"the kernel ended\n{self._complaints}")
                self._buffer += data
            else:
                self._drain(add)
        self._drain(add)
        line, _, self._buffer = self._buffer.partition(b"\n")
        assert line.isascii(), line[:200]
        message: dict[str, Any] = json.loads(line, parse_constant=_no_constant)
        return message["type"], message

    def _drain(self, add: Callable[[str, Any], None] | None) -> None:
        for name, fd in (("stdout", self._out), ("stderr", self._err)):
            waiting = array.array("i", [0])
            fcntl.ioctl(fd, termios.FIONREAD, waiting)
            if waiting[0]:
                text = os.read(fd, waiting[0]).decode(errors="replace")
                self._complaints = (self._complaints + text)[-10_000:] if name == "stderr" else self._complaints
                if add is not None:
                    add(name, text)
            elif select.select([fd], [], [], 0)[0]:
                pass  # end of file: the kernel is ending, which its channel tells


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")
