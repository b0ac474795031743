"""Sessions: what is theirs alone, what they share, how they end, and that they outlast their processes."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench import processes
from sandcove import (
    ConflictError,
    ContainerNotReadyError,
    InvalidRequestError,
    PathNotFoundError,
    Sandbox,
    Session,
    SessionAlreadyExistsError,
    SessionNotFoundError,
)
from tests.conftest import MakeSandbox

REMEMBER = """
cd /usr; export exported='a b'; plain=1; list=(1 2); fn() { echo fn; }; alias al='echo alias'; set -o pipefail
"""
RECALL = 'echo "$PWD|$exported|$plain|${list[1]}"; fn; al; [ -o pipefail ] && echo set'
RECALLED = "/usr|a b|1|2\nfn\nalias\nset\n"


def test_sessions_keep_what_is_theirs_apart(shared: Sandbox, session: Session) -> None:
    other = shared.create_session("apart")
    session.exec("cd /usr; mine=1; export also=1; f() { echo f; }; umask 077")
    assert other.exec('echo "$PWD|$mine|$also"; type f 2>/dev/null; umask').stdout == "/workspace||\n0022\n"
    shared.delete_session("apart")


def test_sessions_share_the_files(shared: Sandbox, session: Session) -> None:
    session.write_file("/workspace/file", "all")
    assert shared.exec("cat /workspace/file").stdout == "all"


def test_a_session_begins_where_and_with_what_it_is_told(shared: Sandbox) -> None:
    begun = shared.create_session("begun", cwd="/var", env={"A": "1 2", "HOME": "/tmp"})
    assert begun.exec("echo $PWD $A $HOME").stdout == "/var 1 2 /tmp\n"
    begun.write_file("tmp/relative", "x")
    assert begun.exists("/var/tmp/relative")
    with pytest.raises(SessionAlreadyExistsError):
        shared.create_session("begun")
    shared.delete_session("begun")
    with pytest.raises(SessionNotFoundError):
        begun.exec("true")
    with pytest.raises(SessionNotFoundError):
        shared.delete_session("begun")
    assert shared.create_session("begun").exec("echo $PWD $A").stdout == "/workspace\n"
    shared.delete_session("begun")


def test_a_session_can_t_begin_where_nothing_is(shared: Sandbox) -> None:
    with pytest.raises(PathNotFoundError):
        shared.create_session("nowhere", cwd="/no/such/folder")
    with pytest.raises(InvalidRequestError):
        shared.create_session("nowhere", cwd="relative")
    assert "nowhere" not in shared.list_sessions()


def test_relative_paths_start_in_the_session_s_folder(session: Session) -> None:
    session.exec("mkdir -p /tmp/rel/below; cd /tmp/rel")
    session.write_file("file", "1")
    assert session.exec("cat file").stdout == "1"
    assert [info.name for info in session.list_files(".")] == ["below", "file"]
    assert session.exec("pwd", cwd="below").stdout == "/tmp/rel/below\n"
    with pytest.raises(PathNotFoundError):
        session.exec("pwd", cwd="missing")


def test_a_cwd_and_env_of_one_command_change_nothing(session: Session) -> None:
    session.exec("export A=before; b=1; f() { echo f; }")
    result = session.exec(
        "echo $PWD $A $N $b; f; cd /; A=x; b=2; export C=3; exit 4", cwd="/usr", env={"A": "a b", "N": "n"}
    )
    assert (result.stdout, result.exit_code) == ("/usr a b n 1\nf\n", 4)
    assert session.exec('echo "$PWD|$A|$N|$b|$C"').stdout == "/workspace|before||1|\n"
    assert session.exec("echo $N", env={"N": "'; touch /tmp/pwned; '"}).stdout == "'; touch /tmp/pwned; '\n"
    assert session.exec("cd /; echo $N; kill -9 $BASHPID", cwd="/tmp", env={"N": "1"}).exit_code == 137
    assert session.exec("echo $PWD $b").stdout == "/workspace 1\n"


def test_no_shell_sees_a_list(session: Session) -> None:
    words = [
        "*",
        "$HOME",
        "a b",
        "it's",
        'say "x"',
        "new\nline",
        "",
        "-n",
        "\\",
        "~",
        "`id`",
        "; exit 9",
        "é\u2028",
        "\x7f\x01",
    ]
    assert session.exec(["printf", "%s\\0", *words]).stdout == "".join(f"{word}\0" for word in words)
    session.exec("printf() { echo function; }; alias true=false; export V=1")
    assert session.exec(["printf", "program"]).stdout == "program"
    assert session.exec(["true"]).exit_code == 0
    assert session.exec(["sh", "-c", "echo $V; cd /; exit 3"]).stdout == "1\n"
    assert session.exec(["pwd"]).stdout == "/workspace\n"
    for missing in ("cd", "exit", "no-such-program", "a b", "-x", "if"):
        assert session.exec([missing, "1"]).exit_code == 127, missing
    assert session.exec(["/tmp"]).exit_code == 126
    assert session.exec(["pwd"], cwd="/usr", env={"PWD": "/x"}).stdout == "/usr\n"


def test_commands_of_one_session_wait_for_their_turn(shared: Sandbox, session: Session) -> None:
    session.exec("mkfifo /tmp/gate; : > /tmp/order")
    stream = iter(session.exec_stream("echo up; read x < /tmp/gate; echo 0 >> /tmp/order"))
    while next(stream).type != "stdout":
        pass
    threads = [threading.Thread(target=session.exec, args=(f"echo {number} >> /tmp/order",)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    # Files are not behind the running command.
    assert session.read_file("/tmp/order") == ""
    shared.exec("echo > /tmp/gate")
    assert [event.exit_code for event in stream][-1] == 0
    for thread in threads:
        thread.join(30)
    order = session.read_file("/tmp/order").split()
    assert order[0] == "0" and sorted(order) == ["0", "1", "2", "3"]


def test_other_sessions_run_side_by_side(shared: Sandbox) -> None:
    left, right = shared.create_session("left"), shared.create_session("right", isolation=False)
    shared.exec("mkfifo /tmp/to-right /tmp/to-left")
    results: list[str] = []
    # Each waits for the other: one after the other they would never end.
    threads = [
        threading.Thread(target=lambda: results.append(left.exec("echo l > /tmp/to-right; cat /tmp/to-left").stdout)),
        threading.Thread(target=lambda: results.append(right.exec("cat /tmp/to-right; echo r > /tmp/to-left").stdout)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(results) == ["l\n", "r\n"]
    for name in ("left", "right"):
        shared.delete_session(name)


def test_an_isolated_session_sees_its_own_processes_alone(shared: Sandbox, session: Session) -> None:
    other = shared.create_session("other")
    other.exec("sleep 1001 &")
    shared.exec("sleep 1002 &")
    session.exec("sleep 1003 &")
    sessions: list[tuple[Sandbox | Session, str]] = [(other, "1001"), (shared, "1002"), (session, "1003")]
    for asking, own in sessions:
        seen = asking.exec("pgrep -af '^sleep 100'").stdout
        assert [line.split()[-1] for line in seen.splitlines()] == [own]
    assert session.exec("kill -9 -1; kill -9 1; kill -9 2; kill -0 $$").exit_code in {0, 137}
    assert shared.exec("pgrep -cf '^sleep 100'").stdout == "1\n"
    shared.delete_session("other")
    shared.exec("pkill -f 'sleep 1002'")


def test_sessions_without_isolation_see_each_other(shared: Sandbox) -> None:
    open_ = shared.create_session("open", isolation=False)
    open_.exec("sleep 1004 &")
    # It may be a shell still that is about to become what it was started for.
    assert shared.exec("until pgrep -f '^sleep 1004' >/dev/null; do :; done; pgrep -cf '^sleep 1004'").stdout == "1\n"
    shared.delete_session("open")
    assert shared.exec("pgrep -cf '^sleep 1004'").stdout == "0\n"


@pytest.mark.parametrize("isolation", [True, False])
def test_the_end_of_a_session_ends_all_its_processes(shared: Sandbox, home: Path, isolation: bool) -> None:
    before = processes.of_sandbox(home, shared.id)
    ending = shared.create_session("ending", isolation=isolation)
    ending.exec(
        "sleep 1005 & (sleep 1006 &) ; (setsid sleep 1007 &); nohup sleep 1008 >/dev/null 2>&1 & trap '' TERM HUP"
    )
    assert len(processes.of_sandbox(home, shared.id)) >= len(before) + 5
    shared.delete_session("ending")
    # They are killed when the call returns; on a busy machine they take a moment to be gone.
    end = time.monotonic() + 5
    while (left := processes.of_sandbox(home, shared.id) - before) and time.monotonic() < end:
        pass
    assert not left


def test_variables_that_are_set_reach_every_session(shared: Sandbox, session: Session) -> None:
    session.exec("export GONE=1")
    shared.set_env_vars({"SET": "a 'b' $c\nd", "GONE": None})
    assert session.exec('echo "$SET|$GONE|"; sh -c \'echo "$SET"\'').stdout == "a 'b' $c\nd||\na 'b' $c\nd\n"
    assert shared.exec('echo "$SET"').stdout == "a 'b' $c\nd\n"
    assert shared.create_session("later").exec('echo "$SET"').stdout == "a 'b' $c\nd\n"
    session.set_env_vars({"SET": "mine"})
    assert session.exec("echo $SET").stdout == "mine\n"
    assert session.exec(["printenv", "SET"]).stdout == "mine\n"
    assert shared.exec('echo "${SET:0:1}"').stdout == "a\n"
    shared.set_env_vars({"SET": None})
    assert shared.exec('echo "[$SET]"').stdout == "[]\n"
    shared.delete_session("later")


def test_variables_that_are_set_survive_the_shell(session: Session) -> None:
    session.set_env_vars({"SET": "1"})
    session.exec("kill -9 $$")
    assert session.exec("echo $SET").stdout == "1\n"
    session.exec("exit 1")
    session.set_env_vars({"SET": "2"})
    assert session.exec("echo $SET; exit 1").stdout == "2\n"
    assert session.exec("echo $SET").stdout == "2\n"


@pytest.mark.parametrize("half_way", ["before the first command", "after it"])
def test_state_outlasts_sleep(make_sandbox: MakeSandbox, half_way: str) -> None:
    box = make_sandbox("sleeper", env={"OWN": "own"})
    named = box.create_session("named", env={"S": "s"}, cwd="/tmp")
    if half_way == "after it":
        named.exec("true")
    box.exec(REMEMBER)
    named.exec(REMEMBER + "mkdir -p /tmp/in; cd /tmp/in")
    box.set_env_vars({"LATER": "later"})
    box.write_file("/workspace/file", "kept")
    for _ in range(2):
        assert box.sleep().state == "asleep"
        assert box.exec(RECALL).stdout == RECALLED
        assert box.exec("echo $OWN $LATER; cat /workspace/file").stdout == "own later\nkept"
        assert named.exec(RECALL).stdout == RECALLED.replace("/usr", "/tmp/in")
        assert named.exec("echo $S $OWN $LATER").stdout == "s own later\n"
    assert box.list_sessions() == ["default", "named"]


def test_processes_are_asked_to_end_before_sleep(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox("asked")
    box.exec(
        "mkfifo /tmp/up; (trap 'echo asked > /workspace/told; exit' TERM; echo > /tmp/up; sleep 1000 & wait) & "
        "read line < /tmp/up"
    )
    box.sleep()
    assert box.read_file("/workspace/told") == "asked\n"
    assert box.exec("pgrep -c sleep").stdout == "0\n"


def test_state_outlasts_a_kill_of_the_agent(make_sandbox: MakeSandbox, home: Path) -> None:
    box = make_sandbox("killed", env={"OWN": "own"})
    box.create_session("named", env={"S": "s"}, isolation=False)
    box.exec(REMEMBER)
    box.set_env_vars({"LATER": "later"})
    box.write_file("/workspace/file", "acknowledged")
    box.sleep()
    box.exec("true")
    agent = min(processes.agents(processes.of_sandbox(home, box.id)))
    os.kill(agent, 9)
    for _ in range(3):
        try:
            result = box.exec(RECALL + "; echo $OWN $LATER; cat /workspace/file")
        except ContainerNotReadyError:
            continue  # a call that was under way when the agent died says so; the next one works
        break
    else:
        pytest.fail("three calls after the agent's death failed")
    assert result.stdout == RECALLED + "own later\nacknowledged"
    assert box.get_session("named").exec("echo $S").stdout == "s\n"
    assert "agent" in (box.info().note or "")


def test_commands_of_one_session_run_in_the_order_in_which_they_came(
    shared: Sandbox, session: Session, home: Path
) -> None:
    session.exec("mkfifo /tmp/turn")
    first = iter(session.exec_stream("echo up; read line < /tmp/turn; echo first >> /tmp/turns"))
    while next(first).type != "stdout":
        pass
    with ExitStack() as stack:
        callers = []
        for number in range(6):
            caller = stack.enter_context(socket.socket(socket.AF_UNIX))
            caller.connect(str(home / "run" / f"{shared.id}.sock"))
            body = json.dumps({"id": session.id, "command": f"echo {number} >> /tmp/turns"}).encode()
            caller.sendall(b"POST /api/execute HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            # It has arrived when the answer to a later request of another caller has.
            assert session.read_file("/etc/hosts")
            callers.append(caller)
        shared.exec("echo > /tmp/turn")
        assert list(first)[-1].exit_code == 0
        for caller in callers:
            answer = b""
            while not answer.endswith(b"}"):
                answer += caller.recv(65536)
            assert b'"exitCode":0' in answer
    assert session.read_file("/tmp/turns") == "first\n0\n1\n2\n3\n4\n5\n"


def test_sessions_and_what_they_remember_are_bounded(home: Path) -> None:
    with Sandbox() as sandbox:
        for number in range(255):
            sandbox.create_session(f"s{number}")
        with pytest.raises(ConflictError, match="256 sessions, which is the most"):
            for number in range(255, 258):
                sandbox.create_session(f"s{number}")
        sandbox.delete_session("s0")
        sandbox.create_session("again")
        value = "x" * 120_000
        sandbox.set_env_vars({f"V{number}": value for number in range(8)})
        with pytest.raises(InvalidRequestError, match="the environment is longer than 1,048,576 bytes"):
            sandbox.set_env_vars({"W": value})
        sandbox.set_env_vars({"V0": None, "W": value})
        assert len(sandbox.exec("printf %s $W").stdout) == len(value)
