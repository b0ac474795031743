"""Background processes under attack: by what user code leaves behind, by crowds, by callers that leave."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import processes
from sandcove import (
    ContainerNotReadyError,
    ExecutionTimeoutError,
    ProcessEndedError,
    ProcessNotFoundError,
    Sandbox,
    SandboxError,
    Session,
    SessionNotFoundError,
    get_sandbox,
)
from sandcove.agent.process import KILL_GRACE
from tests.server.conftest import ask, served
from tests.server.test_kills import end

__all__ = ["served"]

FORGED = {
    "a variable without a name": "printf '=x\\0' >/var/lib/sandcove/sessions/default/env",
    "no record at all": "head -c 100000 /dev/urandom >/var/lib/sandcove/sessions/default/env",
    "a value with a NUL": "for f in /run/sandcove/*/state.*; do l=$(tail -1 $f); "
    'printf \'declare -x A="\\0"\\n%s\\n\' "$l" >$f; touch -d 2030-01-01 $f; done',
    "folders gone": "rm -rf /run/sandcove/* /var/lib/* /tmp/* /workspace/*",
    "a file for a folder": "rm -rf /var/lib/sandcove/sessions; touch /var/lib/sandcove/sessions",
    "FIFOs for files": "cd /run/sandcove; for d in *; do rm -f $d/state.*; mkfifo $d/state.0 $d/state.1; done",
    "links for files": "cd /run/sandcove; for d in *; do rm -f $d/state.*; ln -s /dev/zero $d/state.0; done",
    "a giant for a file": "for d in /run/sandcove/*; do rm -f $d/state.*; truncate -s 1T $d/state.0 || :; done",
}


@pytest.fixture
def own(home: Path) -> Iterator[Sandbox]:
    """A sandbox that a test may break."""
    with Sandbox() as made:
        yield made


@pytest.mark.parametrize("damage", FORGED.values(), ids=FORGED)
def test_what_user_code_does_to_the_session_s_state_ends_nothing(own: Sandbox, damage: str) -> None:
    stays = own.start_process("read", process_id="stays")
    own.exec("export A=1")
    own.exec(["bash", "-c", damage])
    assert own.start_process("echo on").wait(30) == 0
    stays.refresh()
    assert stays.status == "running"
    assert own.exec("echo on").stdout == "on\n"


def test_a_damage_that_keeps_the_shell_from_starting_is_told(own: Sandbox) -> None:
    own.exec(["bash", "-c", "rm -rf /var/lib/sandcove; echo >/var/lib/sandcove"])
    own.exec("exit")
    with pytest.raises(SandboxError, match="/var/lib/sandcove"):
        own.exec("true")
    assert own.start_process("rm /var/lib/sandcove").wait(30) == 0
    assert own.exec("echo on").stdout == "on\n"


def test_an_environment_that_no_program_can_have_is_told(own: Sandbox) -> None:
    own.exec("export BIG=$(head -c 200000 /dev/zero | tr '\\0' x)")
    with pytest.raises(SandboxError, match="Argument list too long"):
        own.start_process("true")
    own.exec("unset BIG")
    assert own.start_process("true").wait(30) == 0


def test_a_burst_of_starts_deadlocks_nobody(own: Sandbox, home: Path) -> None:
    """Agent and init each wrote to the other, and neither read: the agent stands still, so all begin at once."""
    if os.geteuid() != 0:
        pytest.skip("an ordinary user may not stop the agent")
    own.exec("export LONG=" + "x" * 30_000)
    agent = min(processes.agents(processes.of_sandbox(home, own.id)))
    body = json.dumps({"command": "true", "options": {"autoCleanup": True}}).encode()
    callers = []
    os.kill(agent, signal.SIGSTOP)
    try:
        for _ in range(500):
            callers.append(caller := socket.socket(socket.AF_UNIX))
            caller.settimeout(60)
            caller.connect(str(home / "run" / f"{own.id}.sock"))
            head = f"POST /api/process/start HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
            caller.sendall(head.encode() + body)
    finally:
        os.kill(agent, signal.SIGCONT)
    for caller in callers:
        with caller:
            assert b" 200 " in caller.recv(65536)[:40]
    assert own.exec("echo on").stdout == "on\n"


@contextmanager
def soft_limit(count: int) -> Iterator[None]:
    """So many descriptors for what is started meanwhile: most machines have 1,024, and as a hard limit far more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_common_limit_of_descriptors_does_not_limit_the_agent(fresh_home: Path) -> None:
    with soft_limit(256), Sandbox() as box:
        many = [box.start_process(f"echo {number}; read") for number in range(120)]
        assert all(process.wait_for_log(r"\d+\n", 30) for process in many)
        assert box.exec("ulimit -Sn").stdout == "256\n"
        assert box.create_session("apart").exec("ulimit -Sn").stdout == "256\n"
        assert box.kill_all_processes() == 120


def test_too_many_descriptors_are_told_and_survived(fresh_home: Path) -> None:
    """With a hard limit this low the agent runs out of them: it says so, and goes on when some are free again."""
    import subprocess
    import sys

    code = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from sandcove import Sandbox, SandboxError
with Sandbox() as box:
    started = []
    try:
        for _ in range(200):
            started.append(box.start_process("echo up; read"))
    except SandboxError as error:
        print(error)
    try:
        box.exec("true")
    except SandboxError as error:
        print(error)
    try:
        box.create_session("apart")
    except SandboxError as error:
        print(error)
    started[0].write_stdin("\\n")
    assert started[0].wait(30) == 0 and started[0].logs().stdout == "up\\n"
    assert box.kill_all_processes() == len(started) - 1
    box.cleanup_completed_processes()
    assert box.start_process("true").wait(30) == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    # A command and a session need fewer than a process: they may find as many as they need.
    told = done.stdout.splitlines()
    reasons = ("Too many open files", "are its limits too low")
    assert 1 <= len(told) <= 3 and all(any(why in line for why in reasons) for line in told), done.stdout
    assert "Traceback" not in "".join(log.read_text() for log in fresh_home.glob("sandboxes/*/agent.log"))


def test_descriptors_of_processes_that_are_gone_are_closed(own: Sandbox, home: Path) -> None:
    agent = min(processes.agents(processes.of_sandbox(home, own.id)))
    if not os.access(f"/proc/{agent}/fd", os.R_OK):
        pytest.skip("an ordinary user may not look into the agent")

    def held() -> int:
        return len(os.listdir(f"/proc/{agent}/fd"))

    own.exec("true")
    before = held()
    for _ in range(5):
        own.start_process("echo out; echo err >&2").wait(30)
        own.start_process("echo out; sleep 1001").kill()
        own.start_process("echo daemon; (setsid sleep 0.01 &) ; exec >&-; exit 3").wait(30)
        own.start_process("exec >&- 2>&- <&-; read", timeout=0.05).wait(30)
        own.start_process("sleep 1001", auto_cleanup=True).kill("KILL")
        with pytest.raises(SandboxError):
            own.start_process(["/bin"])
        with pytest.raises(SandboxError):
            own.start_process(["/dev/null"])
        session = own.create_session("brief")
        session.start_process("echo up; sleep 1001")
        own.delete_session("brief")
    own.exec("true")
    own.cleanup_completed_processes()
    # Ten seconds long, those that cleaned up after themselves can be followed.
    assert held() <= before + 5


def test_a_reader_has_all_of_a_log_that_is_deleted_meanwhile(session: Session) -> None:
    size = 30_000_000
    for clean_up in (True, False):
        process = session.start_process(f"head -c {size} /dev/zero; echo end", auto_cleanup=clean_up)
        stream = iter(process.stream())
        seen = len(next(stream).data)
        process.wait(30)
        session.cleanup_completed_processes()
        assert process.id not in [each.id for each in session.list_processes()]
        seen += sum(len(event.data) for event in stream)
        assert seen == size + 4


def test_one_that_cleans_up_after_itself_tells_its_starter(session: Session) -> None:
    for number in range(20):
        assert session.start_process(f"exit {number}", auto_cleanup=True).wait(30) == number
    printed: list[str] = []
    process = session.start_process("echo a", auto_cleanup=True, on_output=lambda _, text: printed.append(text))
    assert process.wait(30) == 0
    assert printed == ["a\n"]
    with pytest.raises(ProcessNotFoundError):
        process.refresh()
    with pytest.raises(ProcessEndedError):
        process.wait_for_port(9, 30)
    again = session.start_process("exit 7", process_id=process.id)
    assert again.wait(30) == 7


@pytest.mark.alone
def test_a_fast_reader_of_many_small_pieces_does_not_hold_others_up(
    session: Session, shared: Sandbox, home: Path
) -> None:
    code = "import os\nfor _ in range(60_000): os.write(1, b'o'); os.write(2, b'e')"
    process = session.start_process(["python3", "-c", code])
    process.wait(60)
    sizes: list[int] = []
    path = home / "run" / f"{shared.id}.sock"
    target = f"/api/process/{process.id}/stream"
    reader = threading.Thread(target=lambda: sizes.append(len(ask(path, "GET", target).body)))
    reader.start()
    calls, longest = 0, 0.0
    while reader.is_alive():
        began = time.monotonic()
        session.read_file("/etc/passwd")
        longest = max(longest, time.monotonic() - began)
        calls += 1
    reader.join()
    assert sizes[0] > 120_000
    assert calls > 5 and longest < 1, (calls, longest)


@pytest.mark.alone
def test_many_that_print_at_full_speed_do_not_hold_others_up(session: Session) -> None:
    busy = [session.start_process("exec cat /dev/zero") for _ in range(4)]
    for process in busy:
        next(iter(process.stream()))
    began = time.monotonic()
    for _ in range(20):
        session.read_file("/etc/passwd")
    assert time.monotonic() - began < 5
    for process in busy:
        process.kill()


def test_what_is_printed_right_before_the_end_is_not_lost(session: Session) -> None:
    for size in (1, 4096, 65536, 1_000_000):
        many = [
            session.start_process(f"head -c {size} /dev/zero | tr '\\0' o; printf E >&2; kill -9 $$") for _ in range(8)
        ]
        for process in many:
            assert process.wait(60) == 137
            logs = process.logs()
            assert (len(logs.stdout), logs.stderr) == (size, "E")


def test_the_output_may_be_closed_or_given_away(session: Session) -> None:
    closes = session.start_process("echo out; exec >&- 2>&-; read; exit 4")
    closes.wait_for_log("out", 30)
    closes.refresh()
    assert closes.status == "running"
    closes.write_stdin("\n")
    assert closes.wait(30) == 4
    gives = session.start_process("echo mine; (setsid sh -c 'sleep 0.05; echo late; sleep 1001' &); exit 6")
    assert gives.wait(30) == 6
    assert gives.logs().stdout == "mine\n"


def test_a_writer_that_leaves_while_the_pipe_is_full_blocks_nobody(
    session: Session, shared: Sandbox, home: Path
) -> None:
    process = session.start_process("read -n 1; cat >/dev/null; exit 5")
    body = b"x" * 1_000_000
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(home / "run" / f"{shared.id}.sock"))
        head = f"POST /api/process/{process.id}/stdin HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        caller.sendall(head.encode() + body)
        caller.shutdown(socket.SHUT_WR)
    process.write_stdin("y" * 1_000_000)
    process.close_stdin()
    assert process.wait(30) == 5


def test_deleting_a_session_ends_what_is_just_about_to_begin_in_it(own: Sandbox) -> None:
    """Commands that wait for their turn started a new shell in the deleted session; a start met no session's end."""
    for isolation in (False, True):
        session = own.create_session("brief", isolation=isolation)
        running = iter(session.exec_stream("echo up; sleep 1001"))
        while next(running).type != "stdout":
            pass
        outcomes: list[str] = []

        def run(number: int, session: Session = session, outcomes: list[str] = outcomes) -> None:
            try:
                if number % 2:
                    session.exec("sleep 1001")
                else:
                    session.start_process("sleep 1001")
                outcomes.append("ran")
            except SandboxError as error:
                outcomes.append(error.code)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        own.delete_session("brief")
        for thread in threads:
            thread.join(30)
        # A process that had started before is killed with the session.
        assert set(outcomes) <= {SessionNotFoundError.code, "ran"}, outcomes
        again = own.create_session("brief", isolation=isolation)
        assert again.exec("echo on").stdout == "on\n"
        own.delete_session("brief")
        assert own.exec("timeout 5 pidwait -f '^sleep 1001'; pgrep -c '^(sleep|bash)'").stdout in ("1\n", "2\n")
        assert own.exec("ls -A /var/lib/sandcove/sessions").stdout in ("", "default\n")


def test_what_meets_a_session_that_is_being_deleted_is_told_that(own: Sandbox) -> None:
    outcomes: set[str] = set()

    def run(number: int) -> None:
        for _ in range(15):
            for call in (
                lambda: own.create_session("brief", isolation=number % 2 == 0).exec("true"),
                lambda: own.get_session("brief").start_process("echo on").wait(30),
                lambda: own.get_session("brief").exec("true"),
                lambda: own.delete_session("brief"),
            ):
                try:
                    call()
                except SandboxError as error:
                    outcomes.add(error.code)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes <= {"SESSION_EXISTS", "SESSION_NOT_FOUND"}, outcomes
    for name in own.list_sessions():
        if name != "default":
            own.delete_session(name)
    assert own.exec("timeout 5 pidwait -f '^sleep 1001'; pgrep -c '^bash'").stdout == "1\n"
    assert own.exec("ls -A /var/lib/sandcove/sessions").stdout in ("", "default\n")


def test_a_session_of_a_thousand_folders_within_each_other_is_deleted(own: Sandbox) -> None:
    session = own.create_session("deep", isolation=False)
    session.exec("true")
    code = "import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')"
    assert session.exec(["python3", "-c", code], cwd="/var/lib/sandcove/sessions/deep").success
    own.delete_session("deep")
    assert own.exec("ls -A /var/lib/sandcove/sessions").stdout in ("", "default\n")


def test_kills_from_all_sides_agree(session: Session) -> None:
    for number in range(10):
        process = session.start_process("sleep 0.05 & sleep 1001 & sleep 0.05; exit 3", timeout=0.05)
        threads = [threading.Thread(target=process.kill, args=(how,)) for how in (None, "TERM", "KILL", None)]
        if number % 2:
            threads.append(threading.Thread(target=session.kill_all_processes))
        for thread in threads:
            thread.start()
        code = process.wait(30)
        for thread in threads:
            thread.join(30)
        process.refresh()
        assert (process.status, code) in {("killed", 137), ("killed", 143), ("failed", 3), ("killed", 3)}
    assert session.exec("echo on").stdout == "on\n"


def test_a_kill_that_comes_with_the_session_s_end_is_answered(own: Sandbox) -> None:
    for _ in range(2):
        session = own.create_session("brief")
        process = session.start_process("trap '' TERM; echo up; while :; do read -t 1; done")
        process.wait_for_log("up", 30)
        errors: list[BaseException] = []

        def kill(process: object = process, errors: list[BaseException] = errors) -> None:
            try:
                process.kill()  # type: ignore[attr-defined]
            except SandboxError as error:
                errors.append(error)

        threads = [threading.Thread(target=kill) for _ in range(3)]
        for thread in threads:
            thread.start()
        own.delete_session("brief")
        for thread in threads:
            thread.join(30)
        assert errors == []
        process.refresh()
        assert process.status == "killed"


@pytest.mark.alone
def test_many_whose_children_will_not_end_are_killed_in_the_time_of_one(own: Sandbox) -> None:
    script = "(trap '' TERM; echo up; exec sleep 1001) & exec sleep 1002"
    for process in [own.start_process(script) for _ in range(100)]:
        process.wait_for_log("up", 30)
    began = time.monotonic()
    assert own.kill_all_processes() == 100
    assert time.monotonic() - began < 3 * KILL_GRACE
    assert own.exec("pgrep -c sleep").stdout == "0\n"


def test_a_port_is_found_among_many_connections(session: Session) -> None:
    code = """
import socket
server = socket.create_server(("127.0.0.1", 4000))
held = [(socket.create_connection(("127.0.0.1", 4000)), server.accept()) for _ in range(200)]
print("up", flush=True)
input()
late = socket.create_server(("::1", 4001), family=socket.AF_INET6), socket.create_server(("127.0.0.1", 4002))
input()
"""
    process = session.start_process(["python3", "-c", code])
    process.wait_for_log("up", 30)
    session.wait_for_port(4000, 30)
    for port in (4001, 4002):
        with pytest.raises(ExecutionTimeoutError):
            session.wait_for_port(port, 0.05)
    process.write_stdin("\n")
    session.wait_for_port(4001, 30)
    session.wait_for_port(4002, 30)


def test_two_starts_with_one_id_are_one(session: Session) -> None:
    outcomes: list[str] = []

    def start() -> None:
        try:
            outcomes.append(session.start_process("echo started; read", process_id="only").id)
        except SandboxError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=start) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["PROCESS_EXISTS"] * 11 + ["only"]


def test_what_it_prints_lies_where_no_user_code_finds_it(own: Sandbox) -> None:
    process = own.start_process("read; echo $(echo c2VjcmV0LXRleHQ= | base64 -d); read")
    process.write_stdin("\n")
    process.wait_for_log("secret-text", 30)
    assert own.exec("grep -rlsa 'secret-tex[t]' / --exclude-dir=sys --exclude-dir=usr --exclude-dir=proc").stdout == ""
    names = own.exec("ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c deleted").stdout
    assert names == "0\n"


def test_sleep_ends_streams_and_waits(home: Path) -> None:
    box = get_sandbox("open-ends")
    outcomes: dict[str, str] = {}
    process = box.start_process("trap '' TERM; echo up; while :; do read -t 1; done")
    process.wait_for_log("up", 30)
    begun = threading.Barrier(4)

    def run(name: str) -> None:
        begun.wait(30)
        try:
            if name == "stream":
                outcomes[name] = [event.type for event in process.stream()][-1]
            elif name == "wait":
                outcomes[name] = str(process.wait())
            else:
                process.wait_for_port(9)
        except SandboxError as error:
            outcomes[name] = error.code

    threads = [threading.Thread(target=run, args=(name,)) for name in ("stream", "wait", "port")]
    try:
        for thread in threads:
            thread.start()
        begun.wait(30)
        box.sleep()
        for thread in threads:
            thread.join(30)
        assert set(outcomes) == {"stream", "wait", "port"}
        codes = {ContainerNotReadyError.code, ProcessNotFoundError.code}
        assert set(outcomes.values()) <= codes, outcomes
    finally:
        box.destroy()


def test_a_reader_of_an_agent_that_is_killed_is_told(served: Path) -> None:
    box = get_sandbox("struck")
    process = box.start_process("echo up; read")
    stream = iter(process.stream())
    assert next(stream).data == "up\n"
    end(min(processes.agents(processes.of_sandbox(served, "struck"))))
    with pytest.raises(ContainerNotReadyError, match="ended during the call"):
        list(stream)
    with pytest.raises(ProcessNotFoundError, match="slept"):
        process.wait(30)
    box.destroy()


@pytest.mark.alone
def test_a_thousand_that_ended_take_little_memory(own: Sandbox, home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("an ordinary user may not look into the agent")
    agent = min(processes.agents(processes.of_sandbox(home, own.id)))

    def run(count: int) -> None:
        for _ in range(count // 50):
            many = [own.start_process("echo out; echo err >&2") for _ in range(50)]
            for process in many:
                process.wait(30)

    run(300)
    before = processes.proportional_memory([agent])
    run(700)
    assert len(own.list_processes()) <= 256 + 50
    assert processes.proportional_memory([agent]) - before < 3
