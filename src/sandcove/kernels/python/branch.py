"""One ``fork`` request: a copy of the kernel that goes on from here by itself, and what it has not got."""

from __future__ import annotations

import os
import socket
import stat
import sys
import threading
from collections.abc import Callable

from sandcove.kernels.python.host import Host, Kit
from sandcove.kernels.python.jsonable import text_of

__all__ = ["fork", "lost"]


def fork(kit: Kit, host: Host, fds: list[int], ready: Callable[[], None]) -> None:
    """Returns twice: in the original, and in the copy, which says that it is ready on its own channel.

    The copy is forked by a process that ends at once, so it is no child of the original's. Random state is the
    original's: both go on from the same.
    """
    if len(fds) != 4:
        for fd in fds:
            os.close(fd)
        _answer(kit, [], f"a fork needs four descriptors, not {len(fds)}")
        return
    kit.streams.flush()
    missing = lost(kit)
    state = _random_state()
    kit.forking = threading.get_ident()
    try:
        between = os.fork()
    except OSError as error:
        kit.forking = None
        for fd in fds:
            os.close(fd)
        _answer(kit, [], f"the kernel can't be forked: {error.strerror}")
        return
    if between == 0:
        try:
            if os.fork():
                os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
        _go_on(kit, host, fds)
        if state is not None:
            sys.modules["random"].setstate(state)
        kit.forking = None
        ready()
        return
    kit.forking = None
    for fd in fds:
        os.close(fd)
    _, status = os.waitpid(between, 0)
    code = os.waitstatus_to_exitcode(status)
    _answer(kit, missing, f"the kernel can't be forked: {os.strerror(code)}" if code else "")


def _random_state() -> object:
    """Of `random`, which takes a new one in every fork."""
    return sys.modules["random"].getstate() if "random" in sys.modules else None


def _answer(kit: Kit, missing: list[str], error: str) -> None:
    told = f'"lost":{text_of(missing)}' + (f',"error":{text_of(error)}' if error else "")
    kit.channel.tell(f'{{"type":"forked",{told}}}\n'.encode())


def _go_on(kit: Kit, host: Host, fds: list[int]) -> None:
    os.setsid()
    channel, acks, out, err = fds
    kit.interrupts.moved()
    kit.channel.reopen(channel, acks)
    kit.streams.move(out, err)
    kit.loop.drop()
    host.forget_threads()
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"]._children.clear()
    if "subprocess" in sys.modules:
        sys.modules["subprocess"]._active.clear()


def lost(kit: Kit) -> list[str]:
    """What the copy has not, or shares with the original, in words."""
    main = threading.main_thread()
    found = [f"thread {thread.name}" for thread in threading.enumerate() if thread is not main]
    if pending := kit.loop.pending():
        found.append(f"{pending} task{'s' * (pending > 1)} of the event loop")
    return found + _children() + _connections(kit)


def _children() -> list[str]:
    found = []
    try:
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
                pids = file.read().split()
            for pid in pids:
                with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                    name, _, rest = file.read().partition("(")[2].rpartition(")")
                if rest.split()[0] != "Z":
                    found.append(f"process {pid} ({name})")
    except OSError:
        pass  # one has ended meanwhile, or this /proc does not list them
    return found


def _connections(kit: Kit) -> list[str]:
    """Sockets of the internet: the copy has them, but both would read from the same."""
    found = []
    for entry in os.listdir("/proc/self/fd"):
        fd = int(entry)
        try:
            if fd == kit.channel.fileno() or not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            with socket.socket(fileno=os.dup(fd)) as twin:
                if twin.family in (socket.AF_INET, socket.AF_INET6):
                    found.append(f"socket {_named(twin)}, shared with the original")
        except OSError:
            continue  # the folder's own descriptor
    return found


def _named(twin: socket.socket) -> str:
    try:
        host, port = twin.getpeername()[:2]
    except OSError:
        host, port = twin.getsockname()[:2]
        return f"on {host}:{port}"
    return f"to {host}:{port}"
