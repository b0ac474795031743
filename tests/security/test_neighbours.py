"""Two sandboxes of one server share nothing: no file, process, socket, memory, queue or key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandcove import Sandbox
from tests.security.probes import inside, program

SHARED = {
    "a file in /tmp": ("open('/tmp/of-a', 'w')", "os.stat('/tmp/of-a')"),
    "a file in /workspace": ("open('/workspace/of-a', 'w')", "os.stat('/workspace/of-a')"),
    "a file in /usr": ("open('/usr/local/of-a', 'w')", "os.stat('/usr/local/of-a')"),
    "a file in /etc": ("open('/etc/of-a', 'w')", "os.stat('/etc/of-a')"),
    "shared memory": ("open('/dev/shm/of-a', 'w')", "os.stat('/dev/shm/of-a')"),
    "System V shared memory": ("call(libc.shmget(0x5a5a, 4096, 0o1666))", "call(libc.shmget(0x5a5a, 4096, 0))"),
    "a System V queue": ("call(libc.msgget(0x5a5a, 0o1666))", "call(libc.msgget(0x5a5a, 0))"),
    "a System V semaphore": ("call(libc.semget(0x5a5a, 1, 0o1666))", "call(libc.semget(0x5a5a, 1, 0))"),
    "a POSIX queue": (
        "call(ctypes.CDLL('librt.so.1', use_errno=True).mq_open(b'/of-a', os.O_CREAT | os.O_RDWR, 0o666, None))",
        "call(ctypes.CDLL('librt.so.1', use_errno=True).mq_open(b'/of-a', os.O_RDWR))",
    ),
    "a terminal": (
        "os.openpty(); os.fork() or (os.setsid(), signal.pause())",
        "os.stat('/dev/pts/0')",
    ),
}
SERVE = """
import os, socket, sys
sockets = [socket.create_server(("127.0.0.1", 3000)), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
sockets[1].bind(chr(0) + "of-a")
sockets[2].bind("/tmp/of-a.sock")
for sock in sockets:
    sock.listen(8)
print("up", flush=True)
if os.fork() == 0:
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 1), os.dup2(null, 2)
    while True:
        sockets[0].accept()
"""
REACH = {
    "a port": "socket.create_connection(('127.0.0.1', 3000), 2)",
    "an abstract socket": "socket.socket(socket.AF_UNIX).connect(chr(0) + 'of-a')",
    "a socket": "socket.socket(socket.AF_UNIX).connect('/tmp/of-a.sock')",
    "a process": """
import glob
any("of-a.so" + "ck" in open(path).read() for path in glob.glob("/proc/[0-9]*/cmdline")
    if int(path.split("/")[2]) != os.getpid()) or refuse("not seen")
""",
}
LOCK = """
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    file = os.open(args[0], os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os._exit(1)
    os.write(write, b"+")
    os.close(write)
    for fd in (0, 1, 2):
        os.dup2(os.open("/dev/null", os.O_RDWR), fd)
    signal.alarm(30)
    signal.pause()
os.close(write)
os.read(read, 1) or refuse("somebody has it locked")
"""
# Says what is done with a file while it watches: IN_OPEN | IN_ACCESS | IN_ATTRIB.
WATCH = """
import select
watch = libc.inotify_init1(0)
call(libc.inotify_add_watch(watch, args[0].encode(), 0x25))
print("watching", flush=True)
print("seen" if select.select([watch], [], [], float(args[1]))[0] else "nothing", flush=True)
"""


def test_a_lock_on_a_shared_program(home: Path) -> None:
    shared = os.path.realpath("/usr/bin/env")
    with Sandbox() as first, Sandbox() as second:
        assert inside(first, LOCK, shared).reached
        assert inside(second, LOCK, shared).reached
        # The control: within one sandbox, it is locked.
        assert not inside(first, LOCK, shared).reached


def test_what_another_does_with_a_shared_program(pair: tuple[Sandbox, Sandbox]) -> None:
    first, second = pair
    shared = os.path.realpath("/usr/bin/env")
    # The control: it sees what its own sandbox does.
    for actor, seconds, expected in ((second, 0.5, "nothing"), (first, 10, "seen")):
        process = first.start_process(["python3", *program(WATCH, shared, seconds)])
        process.wait_for_log("watching", timeout=10)
        assert actor.exec(["/usr/bin/env", "true"]).success
        process.wait(timeout=20)
        assert process.logs().stdout.split()[1] == expected


# Key rings: ADD and JOIN as in add_key(2) and keyctl(2); -3 is the session's ring.
CALLS = """
ADD, KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219)}[os.uname().machine]
JOIN, SEARCH, SESSION = 1, 10, -3
"""
JOIN = "call(libc.syscall(KEYCTL, JOIN, None))"
ADD = "call(libc.syscall(ADD, b'user', args[0].encode(), b'secret', 6, SESSION))"
SEARCH = "call(libc.syscall(KEYCTL, SEARCH, SESSION, b'user', args[0].encode(), 0))"


@pytest.fixture(scope="module")
def pair(home: Path) -> Iterator[tuple[Sandbox, Sandbox]]:
    with Sandbox() as first, Sandbox() as second:
        yield first, second


@pytest.mark.parametrize("what", SHARED)
def test_what_one_makes_the_other_does_not_find(pair: tuple[Sandbox, Sandbox], what: str) -> None:
    first, second = pair
    make, find = SHARED[what]
    made = inside(first, make)
    assert made.reached, made.why
    assert not inside(second, find).reached
    assert inside(first, find).reached


def test_what_one_serves_the_other_does_not_reach(home: Path) -> None:
    with Sandbox() as first, Sandbox() as second:
        assert first.exec(["python3", "-c", SERVE], timeout=20).stdout == "up\n"
        for what, probe in REACH.items():
            assert not inside(second, probe).reached, what
            assert inside(first, probe).reached, what
        assert second.exec(["python3", "-c", SERVE], timeout=20).stdout == "up\n", "the same port is free here"


def test_one_does_not_see_the_files_of_the_other_by_its_id(pair: tuple[Sandbox, Sandbox], home: Path) -> None:
    first, second = pair
    first.write_file("/workspace/mine", "x")
    found = second.exec(["find", "/", "-xdev", "-name", "mine"], timeout=20)
    assert found.stdout == ""
    assert first.exec(["find", "/", "-xdev", "-name", "mine"], timeout=20).stdout == "/workspace/mine\n"


def test_keys(fresh_home: Path) -> None:
    """A server started from a login has that session's keyring; a sandbox has no use of keys at all."""
    probe = f"""
{CALLS}
try:
    {JOIN}
except OSError as error:
    say(error.errno == errno.ENOSYS and "no keys here")
    raise
{ADD}
{SEARCH}
from pathlib import Path
from sandcove import Sandbox
from tests.security.probes import inside
with Sandbox() as sandbox:
    say(inside(sandbox, {CALLS + SEARCH!r}, args[0]).why.split(":")[0])
    say(inside(sandbox, {CALLS + ADD!r}, "of-a").why.split(":")[0])
"""
    argv = [sys.executable, *program(probe, "of-the-host")]
    argv.remove("-I")
    root = Path(__file__).parents[2]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, cwd=root, env=_with_path(root))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    if answer["said"] == ["no keys here"]:
        pytest.skip("this kernel has no keys")
    # In the process that joined the ring the search got there: that is the control.
    assert answer["reached"], answer["why"]
    assert answer["said"] == ["EPERM", "EPERM"]


def _with_path(root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root)}
