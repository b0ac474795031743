"""The kernel's end of the channel: requests come in, messages go out, acknowledgements are waited for.

Any thread may send. A process that the user forked never does: in it the channel is closed.
"""

from __future__ import annotations

import array
import fcntl
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import NoReturn

from sandcove.kernels.python.interrupts import Interrupts

__all__ = ["Channel", "end", "high"]

_READ = 65536
_MAX_FDS = 16
_FDS = socket.CMSG_LEN(_MAX_FDS * array.array("i").itemsize)


def high(fd: int) -> int:
    """Moves a descriptor to a number that programs do not choose or close by accident; closed on exec."""
    for at_least in (960, 200, 20):
        try:
            moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, at_least)
        except OSError:
            continue  # beyond what the process may open
        os.close(fd)
        return moved
    os.set_inheritable(fd, False)
    return fd


def end() -> NoReturn:
    """Ends the process at once: nobody listens any more."""
    os._exit(0)


class Channel:
    """Takes over the two descriptors."""

    def __init__(self, channel_fd: int, acks_fd: int, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._lock = threading.RLock()
        self.settled: Callable[[], None] = lambda: None
        """Called when all that was printed so far has been read."""
        self._buffer = bytearray()
        self._open(channel_fd, acks_fd)

    def _open(self, channel_fd: int, acks_fd: int) -> None:
        self._socket = socket.socket(fileno=high(channel_fd))
        self._socket.settimeout(None)  # whatever `socket.setdefaulttimeout` says
        self._acks = high(acks_fd)
        os.set_blocking(self._acks, False)
        self._wanted = self._caught_up = 0
        self._given: list[bytes] = []
        self._buffer.clear()
        self.pid = os.getpid()

    def reopen(self, channel_fd: int, acks_fd: int) -> None:
        """In a copy of the kernel: goes on over these descriptors."""
        self._lock = threading.RLock()
        old, old_acks = self._socket, self._acks
        self._open(channel_fd, acks_fd)
        old.close()
        os.close(old_acks)

    def fileno(self) -> int:
        return self._socket.fileno()

    def is_ours(self) -> bool:
        """False in a process that the user forked."""
        return os.getpid() == self.pid

    def leave(self) -> None:
        """In a process that the user forked: the channel must end when the kernel does, not with this process."""
        for close in (self._socket.close, lambda: os.close(self._acks)):
            try:
                close()
            except OSError:
                pass  # the user has closed it before
        self._lock = threading.RLock()  # another thread may have held it

    def receive(self) -> tuple[bytes, list[int]] | None:
        """The next request and the descriptors beside it; None at the channel's end."""
        fds: list[int] = []
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if found:
                self._buffer = rest
                return bytes(line), fds
            try:
                data, ancillary, _, _ = self._socket.recvmsg(_READ, _FDS, socket.MSG_CMSG_CLOEXEC)
            except OSError:
                return None
            for level, kind, numbers in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    passed = array.array("i")
                    passed.frombytes(numbers[: len(numbers) - len(numbers) % passed.itemsize])
                    fds.extend(passed)
            if not data:
                return None
            self._buffer += data

    def tell(self, message: bytes) -> None:
        """Sends one line."""
        if not self.is_ours():
            return
        with self._lock:
            self._send(message)
        self._interrupts.after()

    def ask(self, message: bytes) -> None:
        """Sends one line and waits for its acknowledgement. An interrupt ends the wait."""
        if self.is_ours():
            self.ask_ahead(message)
            self.catch_up()

    def ask_ahead(self, message: bytes) -> None:
        """Sends one line whose acknowledgement `catch_up` waits for."""
        if not self.is_ours():
            return
        with self._lock:
            # An interrupt between the two would leave one to wait for that nobody has been asked for.
            self._interrupts.hold()
            try:
                self._wanted += 1
                self._send(message)
            finally:
                self._interrupts.release()
        self._interrupts.after()

    @property
    def asked(self) -> bool:
        """Whether there may be something to `catch_up` with."""
        return self._wanted > self._caught_up

    def catch_up(self) -> None:
        """Waits for all acknowledgements that were asked for."""
        if not self.is_ours():
            return
        with self._lock:
            # A nested call, by a signal handler or a finalizer, may wait for more than this and read them all.
            wanted = self._wanted
            self._interrupts.after()
            while sum(map(len, self._given)) < wanted:
                self._wait()
            self._caught_up = max(self._caught_up, wanted)
            self.settled()

    def _send(self, message: bytes) -> None:
        self._interrupts.hold()
        try:
            self._socket.sendall(message)
        except OSError:
            end()
        finally:
            self._interrupts.release()

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._acks, select.POLLIN)
        poll.poll()
        self._interrupts.hold()
        try:
            # Read and noted by one call into C: no handler of a signal can come between.
            self._given.extend(map(os.read, (self._acks,), (_READ,)))
            if not self._given[-1]:
                end()
            if len(self._given) > 1000:
                self._given[:] = [b"".join(self._given)]
        except BlockingIOError:
            pass  # a nested call, by a signal handler or a finalizer, has read it meanwhile
        except OSError:
            end()
        finally:
            self._interrupts.release()
