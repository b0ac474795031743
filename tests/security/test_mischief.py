"""What a sandbox does to its own files harms neither the server nor whoever wants to get rid of it."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import processes
from sandcove import Sandbox
from sandcove.errors import SandboxError
from tests.conftest import COMMAND, sandcove_home
from tests.security.probes import inside, outside

LIMIT = 15.0
"""Seconds after which a call counts as hung."""
DEEP = """
os.chdir(args[0])
for _ in range(int(args[1])):
    os.mkdir("d")
    os.chdir("d")
"""
SWAP = """
import os, shutil, sys
# Every name that the agent or bash uses there, and some that they might.
names = ["state.0", "state.1", "state.exit", "jobs", "boot", "saved", "saving", "env", "1.command", "2.command"]
for folder in sys.argv[3:]:
    if sys.argv[1] == "whole":
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        os.mkfifo(folder) if sys.argv[2] == "fifo" else os.symlink(sys.argv[2], folder)
        continue
    os.makedirs(folder, exist_ok=True)
    for name in names:
        path = f"{folder}/{name}"
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        os.mkfifo(path) if sys.argv[2] == "fifo" else os.symlink(sys.argv[2], path)
"""
FOLDERS = ["/run/sandcove/1", "/var/lib/sandcove/sessions/default"]


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """What the call gives, or the `SandboxError` that it raises; it fails when it takes longer."""
    answer: list[Any] = []

    def run() -> None:
        try:
            answer.append(call())
        except SandboxError as error:
            answer.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"no answer within {seconds:g} s"
    return answer[0]


@pytest.fixture(scope="module")
def server_home(home: Path) -> Iterator[Path]:
    """A server for this file alone, that must stop when it is told to, whatever was done to it."""
    with sandcove_home() as own:
        yield own
        try:
            stopped = subprocess.run([COMMAND, "stop"], check=False, capture_output=True, text=True, timeout=LIMIT)
            assert stopped.returncode == 0, stopped.stderr
        finally:
            for pid, command in processes.of_home(own).items():
                if "sandcove.server" in command:
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("how", ["fifo", "/dev/zero", "/proc/1/mem", "/proc/self/comm", "/nothing"])
@pytest.mark.parametrize("what", ["each", "whole"])
def test_the_agents_scratch_files(server_home: Path, what: str, how: str) -> None:
    """Pipes that nobody writes, files without end, links to elsewhere: the agent neither waits nor reads on."""
    with Sandbox() as other:
        other.ping()
        name = f"mischief-{secrets.token_hex(4)}"
        sandbox = Sandbox(name)
        spoiled = _within(LIMIT, lambda: sandbox.exec(["python3", "-c", SWAP, what, how, *FOLDERS], timeout=10))
        assert not isinstance(spoiled, SandboxError)
        for call in (
            lambda: sandbox.set_env_vars({"A": "1"}),
            lambda: sandbox.exec("exit 3", timeout=2),
            lambda: sandbox.exec("echo again", timeout=2),
            sandbox.list_sessions,
            sandbox.sleep,
            lambda: sandbox.exec("echo awake", timeout=2),
        ):
            _within(LIMIT, call)
        assert _within(LIMIT, lambda: other.exec("echo alive")).stdout == "alive\n"
        assert _within(LIMIT, sandbox.destroy) is None
        assert not (server_home / "sandboxes" / name).exists()


def test_a_tree_deeper_than_the_stack(server_home: Path, tmp_path: Path) -> None:
    """It is deleted whole, and the server starts again after it. Neither recursion nor a path name gets that far."""
    sandbox = Sandbox("deep")
    assert inside(sandbox, DEEP, "/workspace", 5000).reached
    sandbox.exec("cd /workspace && mkdir -p shut/below && touch shut/below/file && chmod 0 shut/below shut")
    assert _within(LIMIT, sandbox.destroy) is None
    assert not (server_home / "sandboxes" / "deep").exists()
    assert os.listdir(server_home / "trash") == []
    with Sandbox() as anonymous:
        assert inside(anonymous, DEEP, "/tmp", 3000).reached
        server = [pid for pid, command in processes.of_home(server_home).items() if "sandcove.server" in command]
        os.kill(server[0], signal.SIGKILL)
        assert processes.all_gone(server_home, within=10) == {}
    with Sandbox() as after:
        assert after.exec("echo alive").stdout == "alive\n"
    # The control: the standard library's way gives up on such a tree.
    deep = tmp_path / "deep"
    deep.mkdir()
    assert outside(DEEP, deep, 5000).reached
    script = "import shutil, sys; shutil.rmtree(sys.argv[1])"
    argv = [sys.executable, "-c", script, str(deep)]
    failed = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=20)
    subprocess.run(["rm", "-rf", deep], check=True, timeout=20)
    if sys.version_info < (3, 13):
        assert "RecursionError" in failed.stderr


def test_a_deep_tree_that_the_agent_deletes(cell: Sandbox) -> None:
    assert inside(cell, DEEP, "/tmp", 3000).reached
    answer = _within(LIMIT, lambda: cell.delete_file("/tmp/d", recursive=True))
    assert answer is None, answer
    assert not cell.exists("/tmp/d")


@pytest.mark.parametrize("target", ["/proc", "/run", "/dev", "/", "/nothing/there", "/etc/passwd"])
def test_a_mount_point_that_became_a_link(server_home: Path, target: str) -> None:
    """The copy-on-write Python goes where it belongs when the room opens again, or the sandbox does not open."""
    sandbox = Sandbox(f"moved-{secrets.token_hex(4)}")
    folder = Path(sys.prefix)
    script = 'mv "/$2" "/old-$2" && mkdir -p "$(dirname "$1")" && ln -s "$3" "$1"'
    moved = sandbox.exec(["sh", "-c", script, "sh", str(folder), folder.parts[1], target])
    if not moved.success:
        pytest.skip(f"{folder} can't be moved in the sandbox: {moved.stderr}")
    assert sandbox.exec(["readlink", str(folder)]).stdout.strip() == target
    _within(LIMIT, sandbox.sleep)
    answer = _within(LIMIT, lambda: sandbox.exec("cat /proc/self/mounts; cat /proc/self/status", timeout=2))
    if not isinstance(answer, SandboxError):
        mounts = [line.split()[1] for line in answer.stdout.splitlines() if line.startswith("overlay ")]
        assert target not in mounts
        assert str(folder) in mounts
        assert "NoNewPrivs:\t1" in answer.stdout
        assert "ExecutionTimeoutError" in type(_within(LIMIT, lambda: sandbox.exec("sleep 30", timeout=0.2))).__name__
    assert _within(LIMIT, sandbox.destroy) is None


def test_a_folder_whose_name_is_no_text(cell: Sandbox) -> None:
    cell.exec(r"mkdir -p /tmp/$'\xff' && cd /tmp/$'\xff'")
    try:
        assert "default" in cell.list_sessions()
        with pytest.raises(SandboxError, match="does not exist"):
            cell.read_file("nothing")
        assert cell.list_files("/tmp", include_hidden=True)
    finally:
        cell.exec("cd /")


def test_forged_words_to_the_agent(home: Path) -> None:
    """Bash's descriptors lie open beside a command that bash runs itself; what is written there harms itself only."""
    forge = r"""
for fd in /proc/$$/fd/*; do
  case $(readlink "$fd") in pipe:*) for word in 'garbage' '0 0' '999999999999999999999 0 /' '1 x /' '1 0 '; do
    printf '%s\0' "$word" 2>/dev/null >"$fd" & done;; esac
done; sleep 0.2; kill $(jobs -p) 2>/dev/null; head -c 3000000 /dev/zero | tr '\0' x >/dev/null; true
"""
    with Sandbox() as sandbox:
        _within(LIMIT, lambda: sandbox.exec(forge, timeout=2))
        _within(LIMIT, lambda: sandbox.exec("exit 1", timeout=2))
        # The session may go on lying about itself; another one of the same sandbox is not touched.
        other = sandbox.create_session("other", isolation=True)
        assert _within(LIMIT, lambda: other.exec("echo alive", timeout=2)).stdout == "alive\n"
