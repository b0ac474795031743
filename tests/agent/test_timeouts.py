"""A timeout, or a caller who leaves, ends a command with all that it started, and nothing else."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path

import pytest

from sandcove import ExecutionTimeoutError, Sandbox, Session

TREES = {
    "a child": "sleep 1001",
    "a background child": "sleep 1001 & wait",
    "a grandchild": "sh -c 'sh -c \"sleep 1001; :\"; :'",
    "an orphan": "(sleep 1001 &); sleep 1001",
    "a daemon": "(setsid sleep 1001 &); sleep 1001",
    "a daemon of a daemon": "(setsid sh -c 'setsid sleep 1001 & setsid sleep 1001 &' &); sleep 1001",
    "one that ignores signals": "trap '' TERM INT HUP; sh -c 'trap \"\" TERM INT HUP; sleep 1001'",
    "a stopped one": "sleep 1001 & kill -STOP $!; wait",
    "a pipeline": "sleep 1001 | sleep 1001 | sleep 1001",
    "the shell's own loop": "sleep 1001 & while :; do :; done",
    "one that forks without end": "while :; do sleep 1001 & sleep 0.01; done",
    "an exec": "exec sleep 1001",
    "a subshell with a folder of its own": "(cd / && sleep 1001)",
}


def left(session: Session) -> str:
    # Killed processes may still be on their way out: that is waited for, that they are killed is not.
    return session.exec("timeout 5 pidwait -f '^sleep 1001'; pgrep -af '^sleep 1001'").stdout


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_a_timeout_ends_all_that_the_command_started(session: Session, tree: str) -> None:
    session.exec("kept=1")
    with pytest.raises(ExecutionTimeoutError) as caught:
        session.exec(f"echo so far; echo warned >&2; {tree}", timeout=0.3)
    assert (caught.value.stdout, caught.value.stderr) == ("so far\n", "warned\n")
    assert left(session) == ""
    assert session.exec("echo $kept").stdout == "1\n"


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_leaving_a_stream_ends_all_that_the_command_started(session: Session, tree: str) -> None:
    for event in session.exec_stream(f"echo so far; {tree}"):
        if event.type == "stdout":
            break
    assert left(session) == ""


def test_no_fork_escapes_a_kill_that_meets_it(shared: Sandbox) -> None:
    # Whoever leaves at the first output meets the shell in the middle of its next fork. A kill that looked at the
    # processes once, while the fork went on, missed the child in every tenth try or so.
    for number in range(100):
        session = shared.create_session(f"fork-{number}")
        for event in session.exec_stream("echo; sleep 1001 & sleep 1001"):
            if event.type == "stdout":
                break
        assert left(session) == "", number
        shared.delete_session(session.id)


def test_earlier_background_commands_live_on(session: Session) -> None:
    session.exec("sleep 1002 & (sleep 1003 &)")
    with pytest.raises(ExecutionTimeoutError):
        session.exec("sleep 1001 & sleep 1001", timeout=0.2)
    seen = session.exec("pgrep -af '^sleep 100'").stdout
    assert sorted(line.split()[-1] for line in seen.splitlines()) == ["1002", "1003"]
    with pytest.raises(ExecutionTimeoutError):
        session.exec("sleep 1001", timeout=0.2)
    assert session.exec("pgrep -cf '^sleep 100[23]'").stdout == "2\n"


def test_a_timeout_of_a_command_with_its_own_folder_or_of_a_list(session: Session) -> None:
    with pytest.raises(ExecutionTimeoutError) as caught:
        session.exec("echo a; sleep 1001 & sleep 1001", timeout=0.2, cwd="/tmp", env={"A": "1"})
    assert caught.value.stdout == "a\n"
    with pytest.raises(ExecutionTimeoutError):
        session.exec(["sleep", "1001"], timeout=0.2)
    assert left(session) == ""


def test_a_timeout_while_it_prints_without_end(session: Session) -> None:
    with pytest.raises(ExecutionTimeoutError) as caught:
        session.exec("yes", timeout=0.2)
    assert isinstance(caught.value.stdout, str) and caught.value.stdout.startswith("y\ny\n")
    with pytest.raises(ExecutionTimeoutError):
        for _ in session.exec_stream("yes", timeout=0.2):
            pass
    assert session.exec("pgrep -c yes").stdout == "0\n"


def test_the_bytes_of_partial_output_are_exact(session: Session) -> None:
    with pytest.raises(ExecutionTimeoutError) as caught:
        session.exec(r"printf 'a\377\0'; printf '\303' >&2; sleep 1001", timeout=0.2, encoding=None)
    assert (caught.value.stdout, caught.value.stderr) == (b"a\xff\0", b"\xc3")


def test_a_command_is_not_run_when_its_caller_left_before_its_turn(shared: Sandbox, session: Session) -> None:
    session.exec("mkfifo /tmp/never")
    running = iter(session.exec_stream("echo up; read line < /tmp/never"))
    while next(running).type != "stdout":
        pass
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(agent_socket(shared)))
        body = json.dumps({"id": session.id, "command": "touch /tmp/ran"}).encode()
        caller.sendall(b"POST /api/execute HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        # It has arrived when the answer to a later request of another caller has.
        assert session.read_file("/etc/hosts")
    shared.exec("echo > /tmp/never")
    for _ in running:
        pass
    assert session.exec("ls /tmp/ran 2>/dev/null").stdout == ""


def agent_socket(sandbox: Sandbox) -> Path:
    return Path(os.environ["SANDCOVE_HOME"], "run", f"{sandbox.id}.sock")


def test_many_timeouts_at_once(session: Session) -> None:
    failures: list[object] = []

    def run() -> None:
        try:
            session.exec("sleep 1001", timeout=0.1)
        except ExecutionTimeoutError as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(failures) == 5
    assert left(session) == ""
    assert session.exec("echo on").stdout == "on\n"
