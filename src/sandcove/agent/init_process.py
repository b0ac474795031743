"""The first process of a PID namespace for user code.

`Init.start` forks it off the agent: PID 1 of a namespace nested in the room's, with its own ``/proc``, no
capabilities, ``no_new_privs``. It is one thread that spawns programs on request, reaps every child and
orphan, tells the agent how they ended, and signals whole process trees. User code sees it as PID 1 and can
neither signal it (it has no handlers but SIGCHLD's) nor trace it (it is not dumpable).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from typing import Any, Literal, NoReturn

from sandcove import linux, seccomp
from sandcove.agent.confines import Confines
from sandcove.agent.init_messages import (
    DATAGRAM,
    Answer,
    ConfineRequest,
    EndRequest,
    Exit,
    InMemfd,
    Request,
    SignalRequest,
    SpawnRequest,
    WatchRequest,
    encode,
    requests,
)

__all__ = ["run", "spawn"]

MOST_CONFINED = 100_000
_MAX_FDS = 16
_CHANNEL = 3
_LOW = 32
_MOST_SHOWN = 1000
_STOPPING = 0.5
"""Seconds that a tree has to stop before it is killed as it is: a parent in vfork stops only when its child runs."""
_LOOK_AGAIN = 0.0005


def run(channel_fd: int, own_mounts: bool, own_run: bool, confines: Confines) -> NoReturn:
    """What the forked process does; it never returns to the agent's code."""
    try:
        signal.set_wakeup_fd(-1)
        os.setsid()
        os.dup2(channel_fd, _CHANNEL, inheritable=False) if channel_fd != _CHANNEL else None
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        confines.enter()
        os.closerange(_CHANNEL + 1, linux.MOST_OPEN_FILES)
        # libuv has a hook in every fork of this process that closes descriptors by numbers which were its own once.
        # Nothing that matters may have a low number: they are taken.
        for fd in range(_CHANNEL + 1, _LOW):
            os.dup2(0, fd, inheritable=False)
        if own_mounts:
            linux.unshare(linux.CLONE_NEWNS)
            linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
        if own_run:
            linux.mount(
                "tmpfs",
                "/run",
                "tmpfs",
                linux.MS_NOSUID | linux.MS_NODEV,
                f"mode=0700,size={confines.confine.shm or '25%'}",
            )
        linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        linux.restrict_proc()
        # Nobody else can open them: this process is not dumpable, and the agent's /proc shows it no longer.
        namespaces = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in linux.NAMESPACES]
        linux.drop_privileges()
        linux.set_dumpable(False)
        seccomp.install()
        for number in signal.valid_signals():
            if signal.getsignal(number) not in (signal.SIG_DFL, None):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        channel = socket.socket(fileno=_CHANNEL)
        try:
            socket.send_fds(channel, [b"ready"], namespaces)
        except OSError:  # user code has as many descriptors on their way as its user may
            channel.send(b"ready")
        for fd in namespaces:
            os.close(fd)
        _serve(channel, confines)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the agent must hear of it
        with contextlib.suppress(OSError):
            os.write(_CHANNEL, f"{error}".encode()[:4096])
    os._exit(1)


def _serve(channel: socket.socket, confines: Confines) -> None:
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    spawned: set[int] = set()
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake_read, 4096)
                _reap(channel, spawned)
                continue
            data, fds = linux.receive_fds(channel, DATAGRAM, _MAX_FDS)
            if not data:
                return
            try:
                request = requests.decode(data)
                if isinstance(request, InMemfd):
                    request = requests.decode(_read_memfd(fds.pop(0)))
                if isinstance(request, ConfineRequest):
                    answer = _confine(request, confines)
                else:
                    answer = _answer(request, fds, null)
                if isinstance(request, SpawnRequest | WatchRequest) and not answer.error:
                    spawned.add(answer.value)
                channel.send(encode(answer))
            finally:
                for passed in fds:
                    os.close(passed)


def _confine(request: ConfineRequest, confines: Confines) -> Answer:
    """Limits this process and all others; what is forked meanwhile is found by looking again."""
    confines.confine = request.confine
    confines.apply(0)
    done: set[int] = set()
    while new := _processes().keys() - done - {1}:
        for pid in new:
            with contextlib.suppress(OSError):
                confines.apply(pid)
        done |= new
        if len(done) > MOST_CONFINED:
            break
    return Answer(request.ref, value=len(done))


def _read_memfd(fd: int) -> bytes:
    with open(fd, "rb") as file:
        file.seek(0)
        return file.read()


def _reap(channel: socket.socket, spawned: set[int]) -> None:
    """Reaps all that ended; the agent is told of what it had started, not of adopted orphans."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid not in spawned:
            continue
        spawned.discard(pid)
        code = os.waitstatus_to_exitcode(status)
        report = Exit(pid, code, None) if code >= 0 else Exit(pid, 128 - code, -code)
        channel.send(encode(report))


def _answer(request: Request, fds: list[int], null: int) -> Answer:
    if isinstance(request, SpawnRequest):
        return spawn(request, fds, null)
    if isinstance(request, SignalRequest):
        return Answer(request.ref, value=_signal_tree(request))
    if isinstance(request, WatchRequest):
        if request.pid <= 1 or not _kill(request.pid, 0):
            return Answer(request.ref, error=f"there is no process {request.pid}")
        return Answer(request.ref, value=request.pid)
    if isinstance(request, EndRequest):
        return Answer(request.ref, value=_end_all(request.grace))
    raise ValueError("a memfd holds no further memfd")


def spawn(request: SpawnRequest, fds: list[int], null: int) -> Answer:
    """Starts the program; `null` stands in for standard descriptors that were not passed."""
    wanted = {0: null, 1: null, 2: null, **dict(zip(request.fds, fds, strict=True))}
    actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in wanted.items()]
    try:
        os.chdir(request.cwd)
    except (OSError, ValueError) as error:
        return Answer(request.ref, error=f"the working directory {_shown(request.cwd)} can't be entered: {_why(error)}")
    try:
        if request.adopts:
            return Answer(request.ref, value=_fork_adopter(request, wanted))
        pid = os.posix_spawn(
            request.argv[0],
            request.argv,
            request.env,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGCHLD),
        )
    except (OSError, ValueError) as error:
        return Answer(request.ref, error=f"{_shown(request.argv[0])} can't be started: {_why(error)}")
    _kill_first(pid)
    return Answer(request.ref, value=pid)


def _kill_first(pid: int) -> None:
    """When memory runs out the kernel takes the programs of user code, not this process, whose end is the room's."""
    with contextlib.suppress(OSError):
        fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"1000")
        os.close(fd)


def _shown(path: bytes) -> str:
    return path[:_MOST_SHOWN].decode(errors="replace")


def _why(error: OSError | ValueError) -> str:
    """The reason in words. A `ValueError` is Python's for a NUL, or a variable's name that is none."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _fork_adopter(request: SpawnRequest, fds: dict[int, int]) -> int:
    """Starts the program from a fork that makes itself a subreaper first, which lasts over exec."""
    if not os.access(request.argv[0], os.X_OK):
        raise FileNotFoundError(2, "it is not there, or not executable")
    pid = os.fork()
    if pid == 0:
        try:
            linux.become_subreaper()
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGPIPE, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            for target, source in fds.items():
                os.dup2(source, target)
            os.execve(request.argv[0], request.argv, request.env)
        finally:
            os._exit(127)
    return pid


Kin = Literal["parent", "session", "start", "stopped"]


def _processes() -> dict[int, dict[Kin, int]]:
    """Every process of the namespace: its start is in clock ticks after boot; a stopped one does nothing more."""
    found: dict[int, dict[Kin, int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The command in parentheses may hold anything; the numbers follow its last parenthesis.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        found[int(name)] = {
            "parent": int(fields[1]),
            "session": int(fields[3]),
            "start": int(fields[19]),
            "stopped": fields[0] in b"TtZX",
        }
    return found


def _tree(request: SignalRequest, processes: dict[int, dict[Kin, int]]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, kin in processes.items():
        children.setdefault(kin["parent"], []).append(pid)

    def below(roots: list[int], spare: set[int]) -> set[int]:
        seen: set[int] = set()
        while roots:
            pid = roots.pop()
            if pid in seen or pid in spare or pid not in processes:
                continue
            seen.add(pid)
            roots.extend(children.get(pid, ()))
        return seen

    spared = below(list(request.spare), set())
    for child in children.get(request.pid, ()):
        if processes[child]["start"] < request.since:
            spared |= below([child], set())
    # An orphan has another parent, but is in the session still, unless it has left that too.
    members = [pid for pid, kin in processes.items() if kin["session"] == request.pid]
    return below([request.pid, *members], spared) - {1}


def _signal_tree(request: SignalRequest) -> int:
    """Signals the tree. A kill stops it first and looks again until nothing new appears: no fork escapes."""
    if request.signal != signal.SIGKILL:
        return sum(_kill(pid, request.signal) for pid in _tree(request, _processes()))
    done: set[int] = set()
    stopped = False
    deadline = time.monotonic() + _STOPPING
    while True:
        processes = _processes()
        new = _tree(request, processes) - done
        # One that is just forking stops when that is done. Only a look that began when all had stopped sees all
        # that they forked: during a look one may fork after the list was read and stop before its own state is.
        if (stopped and not new) or time.monotonic() > deadline:
            break
        for pid in new:
            _kill(pid, signal.SIGSTOP)
        done |= new
        stopped = not new and all(processes[pid]["stopped"] for pid in done & processes.keys())
        if not new and not stopped:
            time.sleep(_LOOK_AGAIN)
    return sum(_kill(pid, request.signal) for pid in done)


def _end_all(grace: int) -> int:
    """Asks all to end and reaps until they have, or the time is over; gives how many are left."""
    deadline = time.monotonic() + grace / 1000
    for pid in _processes():
        if pid != 1:
            _kill(pid, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    while left := len(_processes()) - 1:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            break
        signal.sigtimedwait([signal.SIGCHLD], remaining)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    return left


def _kill(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
