"""What the kernel counts for each user of the machine: a sandbox that takes all of it leaves the others theirs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandcove import Sandbox
from tests.security.probes import NEEDS_ROOT, inside, outside

pytestmark = [NEEDS_ROOT, pytest.mark.local("the control is a user of this machine")]

# Each takes what there is until the kernel gives no more.
TAKE = {
    "inotify instances": """
taken = 0
while taken < 10_000 and libc.inotify_init() >= 0:
    taken += 1
""",
    "queued signals": """
number, taken = signal.SIGRTMIN + 1, 0
signal.pthread_sigmask(signal.SIG_BLOCK, [number])
while taken < 1_000_000 and libc.sigqueue(os.getpid(), number, ctypes.c_void_p()) == 0:
    taken += 1
""",
    "message queues": """
library, taken = ctypes.CDLL("librt.so.1", use_errno=True), 0
while taken < 1000 and library.mq_open(b"/probe-%d" % taken, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600, None) >= 0:
    taken += 1
for made in range(taken):
    library.mq_unlink(b"/probe-%d" % made)
""",
}
# A child takes and keeps; it outlives the probe.
KEEP = """
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    os.setsid()
    for fd in (0, 1, 2):
        os.dup2(os.open("/dev/null", os.O_RDWR), fd)
    exec(args[0])
    os.write(write, str(taken).encode())
    os.close(write)
    while True:
        signal.pause()
os.close(write)
say(os.read(read, 16).decode())
say(pid)
"""
COUNT = "exec(args[0]); say(taken)"
USER = ["setpriv", "--reuid", "12346", "--regid", "12346", "--clear-groups", "unshare", "--user", "--map-root-user"]


@pytest.fixture
def kept() -> Iterator[list[int]]:
    """Processes of controls, to be ended."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("what", TAKE)
def test_what_one_takes_the_other_still_has(home: Path, kept: list[int], what: str) -> None:
    take = TAKE[what]
    with Sandbox() as greedy, Sandbox() as other:
        (before,) = map(int, inside(other, COUNT, take).said)
        taken, _ = map(int, inside(greedy, KEEP, take).said)
        (after,) = map(int, inside(other, COUNT, take).said)
        assert before > 0 < taken
        # Signals are sent to processes for other reasons too.
        assert after >= before * 0.9, f"{what}: {after} are left of {before}"
    # The control: two user namespaces that belong to one user share them.
    python = "/usr/bin/python3"
    if subprocess.run([*USER, python, "-c", ""], check=False, capture_output=True).returncode != 0:
        pytest.skip("ordinary users can't make namespaces here")
    taken, pid = map(int, outside(KEEP, take, wrap=USER, python=python).said)
    kept.append(pid)
    (left,) = map(int, outside(COUNT, take, wrap=USER, python=python).said)
    assert left <= taken * 0.1


IN_FLIGHT = """
taken, kept, own = 0, [], socket.socketpair()
try:
    while taken < 1_000_000:
        kept.append(socket.socketpair())
        for _ in range(50):
            socket.send_fds(kept[-1][0], [b"x"], [own[0].fileno()] * 250)
            taken += 250
except OSError as error:
    if error.errno != errno.ETOOMANYREFS:
        raise
"""


def test_descriptors_that_are_on_their_way_leave_the_agent_its_own(home: Path, kept: list[int]) -> None:
    """The agent has the same user as user code, and starts programs by sending descriptors."""
    with Sandbox() as sandbox:
        taken, _ = map(int, inside(sandbox, KEEP, IN_FLIGHT).said)
        assert taken > 100
        assert sandbox.create_session("after").exec("echo alive").stdout == "alive\n"
    # The control: one process of a user keeps another of his from sending any.
    python = "/usr/bin/python3"
    if subprocess.run([*USER, python, "-c", ""], check=False, capture_output=True).returncode != 0:
        pytest.skip("ordinary users can't make namespaces here")
    _, pid = map(int, outside(KEEP, IN_FLIGHT, wrap=USER, python=python).said)
    kept.append(pid)
    send = "own = socket.socketpair(); socket.send_fds(own[0], [b'x'], [own[0].fileno()])"
    assert outside(send, wrap=USER, python=python).why.startswith("ETOOMANYREFS")


# As many terminals as there are, 1000 at most, from a file system of terminals.
TERMINALS = """
taken = 0
try:
    while taken < 1000:
        os.open(args[0], os.O_RDWR | os.O_NOCTTY)
        taken += 1
except OSError:
    pass
say(taken)
"""
OF_ITS_OWN = f"""
call(libc.mount(b"devpts", b"/mnt", b"devpts", 0, b"ptmxmode=666"))
args[0] = "/mnt/ptmx"
{TERMINALS}
"""


def test_one_takes_few_of_the_machines_terminals(home: Path) -> None:
    with Sandbox() as sandbox:
        (taken,) = map(int, inside(sandbox, TERMINALS, "/dev/ptmx").said)
        assert 64 <= taken <= 256
    # The control: a file system of terminals gives as many as the machine has.
    (taken,) = map(int, outside(OF_ITS_OWN, "", wrap=["unshare", "--mount", "--propagation", "private", "--"]).said)
    assert taken == 1000


# Limits that a server's user may have been given; these come to every process that it starts.
GIVEN = """
import resource
for name in ("RTPRIO", "NICE", "MEMLOCK", "SIGPENDING"):
    say(resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1])
"""


def test_limits_of_the_servers_user_are_not_the_sandboxs(home: Path) -> None:
    with Sandbox() as sandbox:
        priority, nice, locked, signals = map(int, inside(sandbox, GIVEN).said)
        assert (priority, nice) == (0, 0)
        assert 0 <= locked <= 8 << 20
        assert 0 <= signals <= 8192
        cell = sandbox.run_code(GIVEN.replace("say(", "print("))
        assert [int(line) for line in "".join(cell.logs.stdout).split()] == [priority, nice, locked, signals]
    assert int(outside(GIVEN).said[3]) > 8192 or int(outside(GIVEN).said[3]) == -1
