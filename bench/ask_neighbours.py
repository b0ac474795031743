"""What one sandbox's excess costs its neighbours: their execs while it floods, forks, fills and spins."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.harness import Options, Row, Samples
from bench.rooms import own_home
from sandcove import Sandbox

QUESTION = "exec in a sandbox while a neighbour attacks"

BAR = 3.0
EXECS = 200
LIMITS: dict[str, float | str] = {"memory": "256m", "processes": 256, "disk": "2g", "logs": "64m"}
# Each ends by itself, and is bounded where nothing limits it: some hundred processes, some hundred megabytes.
ATTACKS = {
    "a CPU hog": """
import os, time
end = time.time() + 60
for _ in range(15):
    if os.fork() == 0:
        break
while time.time() < end:
    pass
""",
    "a fork bomb": """
import os, time
end = time.time() + 60
alive = 0
while time.time() < end:
    try:
        if os.fork() == 0:
            time.sleep(0.2)
            os._exit(0)
        alive += 1
    except OSError:
        alive += 1000
    while alive > 400:
        try:
            alive = alive - 1 if os.waitpid(-1, os.WNOHANG)[0] else 300
        except ChildProcessError:
            alive = 0
""",
    "a memory hog": """
import os, time
end = time.time() + 60
while time.time() < end:
    if os.fork() == 0:
        held = []
        for _ in range(512):
            held.append(bytearray(os.urandom(4096) * 256))
        os._exit(0)
    os.wait()
""",
    "a disk filler": """
import os, time
end = time.time() + 60
block = os.urandom(1 << 20)
while time.time() < end:
    with open("/workspace/full", "wb") as file:
        for _ in range(1024):
            file.write(block)
    os.unlink("/workspace/full")
""",
    "many files": """
import os, time
end = time.time() + 60
while time.time() < end:
    os.makedirs("/workspace/many", exist_ok=True)
    for number in range(20000):
        open(f"/workspace/many/{number}", "w").close()
    for number in range(20000):
        os.unlink(f"/workspace/many/{number}")
""",
    "a log flood": """
import os, time
end = time.time() + 60
while time.time() < end:
    os.write(1, b"flood" * 13000)
""",
    "syncs": """
import os, time
end = time.time() + 60
for _ in range(3):
    if os.fork() == 0:
        break
file = open(f"/workspace/synced{os.getpid()}", "wb")
while time.time() < end:
    os.pwrite(file.fileno(), os.urandom(65536), 0)
    os.fsync(file.fileno())
    os.sync()
""",
    "full pipes": """
import fcntl, os, time
end = time.time() + 60
while time.time() < end:
    pipes = []
    try:
        for _ in range(400):
            pipes.append(os.pipe2(os.O_NONBLOCK))
            try:
                fcntl.fcntl(pipes[-1][1], 1031, 1 << 20)
            except OSError:
                pass
            try:
                os.write(pipes[-1][1], bytes(1 << 20))
            except OSError:
                pass
    finally:
        for pair in pipes:
            os.close(pair[0]), os.close(pair[1])
""",
    "names that are not there": """
import os, time
end = time.time() + 60
number = 0
while time.time() < end:
    for _ in range(1000):
        number += 1
        try:
            os.stat(f"/dev/shm/none-{number}")
        except OSError:
            pass
        try:
            os.stat(f"/workspace/none-{number}")
        except OSError:
            pass
""",
    "many files in memory": """
import os, time
end = time.time() + 60
while time.time() < end:
    made = []
    try:
        for number in range(100000):
            os.close(os.open(f"/dev/shm/{number}", os.O_CREAT | os.O_WRONLY))
            made.append(number)
    except OSError:
        pass
    for number in made:
        os.unlink(f"/dev/shm/{number}")
""",
    "a full /dev/shm": """
import os, time
end = time.time() + 60
while time.time() < end:
    with open("/dev/shm/full", "wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 20)):
                pass
        except OSError:
            pass
    os.unlink("/dev/shm/full")
""",
    "signals": """
import os, signal, time
end = time.time() + 60
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
pids = [os.getpid()]
for _ in range(6):
    pid = os.fork()
    if pid == 0:
        break
    pids.append(pid)
while time.time() < end:
    for pid in pids:
        for number in range(34, 60):
            try:
                os.kill(pid, number)
            except OSError:
                pass
""",
    "large mappings": """
import mmap, os, time
end = time.time() + 60
with open("/workspace/sparse", "wb+") as file:
    file.truncate(1 << 30)
    while time.time() < end:
        with mmap.mmap(file.fileno(), 1 << 30) as view:
            for at in range(0, 1 << 30, 4096 * 4):
                view[at]
        for _ in range(2000):
            mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE).close()
""",
    "watches": """
import ctypes, os, time
end = time.time() + 60
libc = ctypes.CDLL(None)
os.makedirs("/workspace/watched", exist_ok=True)
for number in range(2000):
    os.makedirs(f"/workspace/watched/{number}", exist_ok=True)
while time.time() < end:
    fds = [libc.inotify_init1(0) for _ in range(100)]
    for fd in fds:
        for number in range(2000):
            if fd < 0 or libc.inotify_add_watch(fd, b"/workspace/watched/%d" % number, 0xFFF) < 0:
                break
    for fd in fds:
        if fd >= 0:
            os.close(fd)
""",
    "full sockets": """
import os, socket, time
end = time.time() + 60
while time.time() < end:
    held = []
    try:
        for _ in range(10):
            for pair in (socket.socketpair(), socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)):
                held += pair
                pair[0].setblocking(False)
                pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)
                try:
                    while pair[0].send(bytes(60000)):
                        pass
                except OSError:
                    pass
    except OSError:
        pass
    for each in held:
        each.close()
""",
    "many threads": """
import threading, time
end = time.time() + 60
def spin():
    while time.time() < end:
        pass
made = []
while time.time() < end:
    try:
        thread = threading.Thread(target=spin, daemon=True)
        thread.start()
        made.append(thread)
    except RuntimeError:
        time.sleep(0.01)
""",
    "large arguments": """
import os, time
end = time.time() + 60
arguments = ["true"] + ["x" * 131000] * 14
while time.time() < end:
    if (pid := os.fork()) == 0:
        try:
            os.execv("/bin/true", arguments)
        finally:
            os._exit(1)
    os.waitpid(pid, 0)
""",
    "timers and descriptors": """
import ctypes, os, select, struct, time
end = time.time() + 60
libc = ctypes.CDLL(None)
poll = select.epoll()
fds = []
for _ in range(3000):
    fd = libc.timerfd_create(1, 2048)
    if fd < 0:
        break
    libc.timerfd_settime(fd, 0, struct.pack("qqqq", 0, 50000, 0, 1), None)
    fds.append(fd)
    poll.register(fd, select.EPOLLIN | select.EPOLLET)
try:
    while True:
        fds.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
while time.time() < end:
    for fd, _ in poll.poll():
        try:
            os.read(fd, 8)
        except OSError:
            pass
""",
}


def ask(options: Options) -> Iterator[Row]:
    rounds = options.times(5, 2)
    with own_home(), Sandbox(limits=LIMITS) as neighbour, Sandbox(limits=LIMITS) as attacker:
        p99s(neighbour, 1)
        for what, program in ATTACKS.items():
            quiet: list[float] = []
            loud: list[float] = []
            for _ in range(rounds):
                quiet += p99s(neighbour, 1)
                process = attacker.start_process(["python3", "-c", program])
                time.sleep(1)  # it is to be at its height
                loud += p99s(neighbour, 1)
                process.refresh()
                assert process.status == "running", f"{what} ended early: {process.logs().stderr[-500:]}"
                process.kill("SIGKILL")
                attacker.kill_all_processes()
                attacker.exec("rm -rf /workspace/* /dev/shm/*")
            note = f"p99 of {EXECS} execs each"
            yield Row(f"{QUESTION}: {what}", "ms", Samples(loud), "quiet", Samples(quiet), most_ratio=BAR, note=note)


def p99s(sandbox: Sandbox, times: int) -> list[float]:
    """The 99th percentile of some execs, as often as asked, in ms."""
    found = []
    for _ in range(times):
        took = []
        for _ in range(EXECS):
            begin = time.perf_counter()
            sandbox.exec("true")
            took.append((time.perf_counter() - begin) * 1e3)
        found.append(Samples(took).percentile(0.99))
    return found
