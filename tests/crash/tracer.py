"""Stops a process at each system call that changes something, and kills it there: ptrace(2), by one thread of the test.

The process is killed as it enters the call, which is not done then. Only threads of that process count, not what it
forks. What only itself can see (memory, its own descriptors) ends with it, so the calls for that are no steps.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import re
import signal
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["CAN_TRACE", "At", "Tracer"]

_SEIZE, _INTERRUPT, _LISTEN = 0x4206, 0x4207, 0x4208
_SYSCALL, _DETACH, _GET_SYSCALL_INFO = 24, 17, 0x420E
_EXIT_KILL, _TRACE_CLONE, _MARK_SYSCALLS = 1 << 20, 1 << 3, 1
_EVENT_STOP = 128
_WALL, _NO_THREAD = 0x40000000, 0x20000000
_AT_ENTRY = 1
_FILLING = 150
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

# Which argument tells what a call is about: one that is a path, the first that is a descriptor, or none.
_PATH, _SECOND, _THIRD, _FD, _PLAIN = range(5)
_AT = _SECOND
_ALIKE = {
    "pidfd_send_signal": (424, _PLAIN),
    "open_tree": (428, _AT),
    "move_mount": (429, _PLAIN),
    "mount_setattr": (442, _PLAIN),
    "fchmodat2": (452, _AT),
}
_CALLS: dict[str, dict[str, tuple[int, int]]] = {
    "x86_64": {
        "write": (1, _FD),
        "open": (2, _PATH),
        "pwrite": (18, _FD),
        "writev": (20, _FD),
        "connect": (42, _PLAIN),
        "sendto": (44, _FD),
        "sendmsg": (46, _FD),
        "bind": (49, _PLAIN),
        "listen": (50, _PLAIN),
        "fork": (57, _PLAIN),
        "vfork": (58, _PLAIN),
        "kill": (62, _PLAIN),
        "flock": (73, _FD),
        "fsync": (74, _FD),
        "fdatasync": (75, _FD),
        "truncate": (76, _PATH),
        "ftruncate": (77, _FD),
        "rename": (82, _PATH),
        "mkdir": (83, _PATH),
        "rmdir": (84, _PATH),
        "link": (86, _PATH),
        "unlink": (87, _PATH),
        "symlink": (88, _SECOND),
        "chmod": (90, _PATH),
        "fchmod": (91, _FD),
        "chown": (92, _PATH),
        "fchown": (93, _FD),
        "lchown": (94, _PATH),
        "mount": (165, _PATH),
        "umount2": (166, _PATH),
        "tgkill": (234, _PLAIN),
        "openat": (257, _AT),
        "mkdirat": (258, _AT),
        "fchownat": (260, _AT),
        "unlinkat": (263, _AT),
        "renameat": (264, _AT),
        "linkat": (265, _AT),
        "symlinkat": (266, _THIRD),
        "fchmodat": (268, _AT),
        "renameat2": (316, _AT),
        "copy_file_range": (326, _PLAIN),
        "sendfile": (40, _FD),
        **_ALIKE,
    },
    "aarch64": {
        "flock": (32, _FD),
        "mkdirat": (34, _AT),
        "unlinkat": (35, _AT),
        "symlinkat": (36, _THIRD),
        "linkat": (37, _AT),
        "renameat": (38, _AT),
        "umount2": (39, _PATH),
        "mount": (40, _PATH),
        "truncate": (45, _PATH),
        "ftruncate": (46, _FD),
        "fchmod": (52, _FD),
        "fchmodat": (53, _AT),
        "fchownat": (54, _AT),
        "fchown": (55, _FD),
        "openat": (56, _AT),
        "write": (64, _FD),
        "writev": (66, _FD),
        "pwrite": (68, _FD),
        "sendfile": (71, _FD),
        "fsync": (82, _FD),
        "fdatasync": (83, _FD),
        "kill": (129, _PLAIN),
        "tgkill": (131, _PLAIN),
        "bind": (200, _PLAIN),
        "listen": (201, _PLAIN),
        "connect": (203, _PLAIN),
        "sendto": (206, _FD),
        "sendmsg": (211, _FD),
        "renameat2": (276, _AT),
        "copy_file_range": (285, _PLAIN),
        **_ALIKE,
    },
}
_KNOWN = {number: (name, kind) for name, (number, kind) in _CALLS.get(platform.machine(), {}).items()}
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_MADE_UP = re.compile(r"[0-9a-f]{12,}|\[\d+\]|/proc/\d+")

At = int | str | None
"""A step: its number, from 1, or what its words begin with; None for none."""
CAN_TRACE = bool(_KNOWN)
"""The numbers of this machine's system calls are known here."""


def _ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> int:
    done: int = _libc.ptrace(
        ctypes.c_long(request), ctypes.c_long(tid), ctypes.c_void_p(address), ctypes.c_void_p(data)
    )
    if done < 0 and (number := ctypes.get_errno()) != 0:
        raise OSError(number, os.strerror(number))
    return done


class Tracer:
    """Traces a process until that ends: by itself, by the test, or sent a signal at step `kill_at`.

    Attributes:
        steps: what it has done since it was traced, in words; the last is not done if it was killed there.
        signalled: it has been ended by a signal.
    """

    def __init__(self, pid: int, home: Path, kill_at: At = None, number: int = signal.SIGKILL) -> None:
        self.pid = pid
        self.steps: list[str] = []
        self.killed = self.signalled = False
        self._home = f"{home}/"
        self._kill_at = kill_at
        self._number = number
        self._changed = threading.Condition()
        self._attached = threading.Event()
        self._error: BaseException | None = None
        self._ended = False
        self._filling = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._attached.wait(20)
        if self._error is not None:
            raise self._error

    def wait_for_silence(self, seconds: float) -> bool:
        """Returns when it has done no step for so long, or has ended: False then."""
        with self._changed:
            count = -1
            while not self._ended and count != len(self.steps):
                count = len(self.steps)
                self._changed.wait_for(lambda: self._ended or len(self.steps) != count, seconds)  # noqa: B023
            return not self._ended

    def wait_until(self, done: Callable[[], bool], seconds: float = 20.0) -> None:
        """Returns when `done` is true, which is asked after each step, or it has ended."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._ended and not done():
                assert time.monotonic() < deadline, self.steps
                self._changed.wait(0.02)

    def join(self) -> None:
        """Returns when the process has ended."""
        self._thread.join(60)
        assert not self._thread.is_alive(), self.steps[-3:]
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._attach()
        except BaseException as error:  # noqa: BLE001 - whoever made this raises it
            self._error = error
            self._attached.set()
            return
        self._attached.set()
        try:
            self._trace()
        except BaseException as error:  # noqa: BLE001 - `join` raises it
            self._error = error
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _attach(self) -> None:
        known: set[int] = set()
        while new := {int(name) for name in os.listdir(f"/proc/{self.pid}/task")} - known:
            for tid in new:
                with contextlib.suppress(ProcessLookupError):
                    _ptrace(_SEIZE, tid, 0, _EXIT_KILL | _TRACE_CLONE | _MARK_SYSCALLS)
                    _ptrace(_INTERRUPT, tid)
            known |= new

    def _trace(self) -> None:
        while True:
            try:
                tid, status = os.waitpid(-1, _WALL | _NO_THREAD)
            except ChildProcessError:
                return
            if not os.WIFSTOPPED(status):
                if tid == self.pid:
                    self.signalled = os.WIFSIGNALED(status)
                    return
                continue
            number, event = os.WSTOPSIG(status), status >> 16
            deliver, how = 0, _SYSCALL
            if number == signal.SIGTRAP | 0x80:
                self._at_call(tid)
            elif event == _EVENT_STOP:
                if number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
                    how = _LISTEN
            elif event == 0:
                deliver = number
            with contextlib.suppress(ProcessLookupError):
                _ptrace(how, tid, 0, deliver)

    def _at_call(self, tid: int) -> None:
        info = ctypes.create_string_buffer(88)
        try:
            _ptrace(_GET_SYSCALL_INFO, tid, 88, ctypes.addressof(info))
        except OSError as error:
            if error.errno == errno.ESRCH:
                return
            raise
        if info.raw[0] != _AT_ENTRY:
            return
        call, *arguments = struct.unpack_from("<7Q", info.raw, 24)
        if (known := _KNOWN.get(call)) is None or (step := self._step(*known, arguments)) is None:
            return
        with self._changed:
            self.steps.append(step)
            at = self._kill_at
            if not self.killed and (step.startswith(at) if isinstance(at, str) else len(self.steps) == at):
                self.killed = True
                os.kill(self.pid, self._number)
            self._changed.notify_all()

    def _step(self, name: str, kind: int, arguments: list[int]) -> str | None:
        """The call in words; None if it changes nothing that others see."""
        if (name == "open" and not arguments[1] & _WRITES) or (name == "openat" and not arguments[2] & _WRITES):
            return None
        subject = ""
        if kind <= _THIRD:
            subject = self._text(arguments[kind])
            if kind > _PATH and not subject.startswith("/") and arguments[kind - 1] < 2**31:
                subject = f"{self._file(arguments[kind - 1])}/{subject}"
        elif kind == _FD:
            subject = self._file(arguments[0])
            if subject.startswith(("anon_inode:", "/dev/", "/memfd:")) or subject == self._file(2):
                return None
            if name == "sendto" and arguments[2] == 1:
                return None  # a thread wakes the loop
        if "/templates/" in subject and subject.partition("/templates/")[2].count("/") > 1:
            # A layer that is being filled, or emptied, is half full at each of a thousand steps.
            self._filling += 1
            if self._filling % _FILLING:
                return None
        return f"{name} {_MADE_UP.sub('*', subject.removeprefix(self._home))}".strip()

    def _text(self, address: int) -> str:
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(256).split(b"\0")[0].decode(errors="replace")

    def _file(self, fd: int) -> str:
        try:
            return os.readlink(f"/proc/{self.pid}/fd/{fd}")
        except OSError:
            return ""
