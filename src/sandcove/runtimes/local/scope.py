"""A control group of its own for a server that an ordinary user starts: a scope of that user's systemd.

A session's group (of a login by ssh, of a terminal) belongs to root. The user's systemd gives any of the user's
processes a group that is theirs, and asks the system's to move them there. Sources: systemd.scope(5),
org.freedesktop.systemd1(5), busctl(1).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Collection
from pathlib import Path

__all__ = ["move_to_own_scope"]

SECONDS = 5.0
"""What it may take; some 30 ms are usual."""
MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")


def move_to_own_scope(pids: Collection[int]) -> bool:
    """Has the user's systemd move these processes, this one among them, into a new group that belongs to the user.

    Returns:
        Whether it did. It is not asked for root, or where none runs: False at once.
    """
    runtime = Path(f"/run/user/{os.getuid()}")
    busctl = shutil.which("busctl", path="/usr/bin:/bin")
    if os.geteuid() == 0 or busctl is None or not (runtime / "bus").is_socket():
        return False
    name = f"sandcove-{os.getpid()}-{time.monotonic_ns()}.scope"
    command = [busctl, "--user", f"--timeout={SECONDS:.0f}", "--quiet", "call", *MANAGER, "StartTransientUnit"]
    # Its name; it must be new; three properties; no other units.
    command += ["ssa(sv)a(sa(sv))", name, "fail", "3"]
    command += ["Description", "s", "Sandcove", "Delegate", "b", "true"]
    command += ["PIDs", "au", str(len(pids)), *map(str, pids), "0"]
    environment = {"XDG_RUNTIME_DIR": str(runtime), "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime}/bus"}
    until = time.monotonic() + SECONDS
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS + 1, check=False
        )
        # The call only puts a job into systemd's queue. One that can't be moved would undo it all.
        while done.returncode == 0 and time.monotonic() < until:
            if all(Path(f"/proc/{pid}/cgroup").read_text().rstrip().endswith(f"/{name}") for pid in pids):
                return True
            time.sleep(0.005)
    except (OSError, subprocess.TimeoutExpired):
        pass
    return False
