"""A warm process as a program, for tests: `python zygote.py FD`, where FD is a Unix socket.

It says ``ready``; then each datagram, ``{"cwd": str, "env": {...}}`` with descriptors beside it, makes a kernel, whose
pid is the answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time

from sandcove.kernels.python.main import preload, serve
from sandcove.kernels.python.preloaded import changed


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    fds_before = sorted(os.listdir("/proc/self/fd"))
    began = time.perf_counter()
    preload()
    took = time.perf_counter() - began
    state = {
        "preload": took,
        "threads": len(os.listdir("/proc/self/task")),
        "leaked": [fd for fd in os.listdir("/proc/self/fd") if fd not in fds_before],
        "main": sys.modules["__main__"].__dict__.get("__file__"),
    }
    control.send(json.dumps(state).encode())
    while True:
        data, fds, _, _ = socket.recv_fds(control, 1 << 16, 16)
        if not data:
            return
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        pid = os.fork()
        if pid == 0:
            control.close()
            os.setsid()
            for number, fd in enumerate(fds):
                os.dup2(fd, number)
            os.closerange(len(fds), 256)
            request = json.loads(data)
            os.chdir(request["cwd"])
            os.environ.clear()
            os.environ.update(request["env"])
            if request.get("changed"):
                began = time.perf_counter()
                name = changed()
                os.write(1, json.dumps([name, time.perf_counter() - began]).encode())
                os._exit(0)
            serve(3, 4)
        for fd in fds:
            os.close(fd)
        control.send(str(pid).encode())


if __name__ == "__main__":
    main()
