"""Background processes as users have them, over both halves of the SDK."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from sandcove import (
    ExecutionTimeoutError,
    InvalidRequestError,
    PathNotFoundError,
    ProcessAlreadyExistsError,
    ProcessEndedError,
    ProcessNotFoundError,
    Sandbox,
)
from tests.conftest import MakeSandbox


@pytest.fixture
def box(make_sandbox: MakeSandbox) -> Sandbox:
    return make_sandbox()


def test_a_process_from_start_to_end(box: Sandbox) -> None:
    process = box.start_process("echo out; echo err >&2; read line; echo got $line; exit 3", process_id="p1")
    assert (process.id, process.status, process.exit_code, process.end_time) == ("p1", "running", None, None)
    assert process.pid > 1 and process.session_id == "default"
    process.write_stdin("a line\n")
    assert process.wait(30) == 3
    assert (process.status, process.exit_code, process.signal, process.timed_out) == ("failed", 3, None, False)
    assert process.end_time is not None and process.end_time >= process.start_time
    logs = process.logs()
    assert (logs.stdout, logs.stderr, logs.truncated) == ("out\ngot a line\n", "err\n", False)
    again = box.get_process("p1")
    assert (again.status, again.exit_code, again.command) == ("failed", 3, process.command)
    assert box.get_process_logs("p1") == logs


def test_success_is_completed(box: Sandbox) -> None:
    process = box.start_process("true")
    assert process.wait(30) == 0
    process.refresh()
    assert process.status == "completed"


def test_a_list_is_seen_by_no_shell(box: Sandbox) -> None:
    process = box.start_process(["printf", "%s|", "a b", "$HOME", "*"])
    assert process.wait(30) == 0
    assert process.logs().stdout == "a b|$HOME|*|"
    with pytest.raises(PathNotFoundError, match="no-such-program"):
        box.start_process(["no-such-program"])


def test_it_starts_with_the_sessions_folder_and_variables(box: Sandbox) -> None:
    box.set_env_vars({"FROM_API": "1", "GONE": "x"})
    box.exec("""export FROM_SHELL='it'"'"'s "$x" `y` \\'$'\\n\\001\\377é'; cd /tmp; unset GONE; not_exported=1""")
    box.set_env_vars({"LATER": "2"})
    command = ["env", "-0"]
    process = box.start_process(command, env={"OWN": "3"})
    assert process.wait(30) == 0
    events = [event for event in process.stream() if event.type == "stdout"]
    env = dict(pair.split(b"=", 1) for pair in b"".join(event.bytes for event in events).split(b"\0")[:-1])
    assert env[b"FROM_SHELL"] == b'it\'s "$x" `y` \\\n\x01\xff' + "é".encode()
    assert (env[b"FROM_API"], env[b"LATER"], env[b"OWN"], env[b"PWD"]) == (b"1", b"2", b"3", b"/tmp")
    assert b"GONE" not in env and b"not_exported" not in env
    process = box.start_process("pwd", cwd="/usr")
    assert process.wait(30) == 0 and process.logs().stdout == "/usr\n"
    with pytest.raises(PathNotFoundError, match="/nowhere"):
        box.start_process("true", cwd="/nowhere")


def test_a_busy_session_starts_processes_at_once(box: Sandbox) -> None:
    box.exec("export KNOWN=before")
    running = iter(box.exec_stream("echo up; read line < <(sleep 1001)"))
    while next(running).type != "stdout":
        pass
    process = box.start_process("echo $KNOWN")
    assert process.wait(30) == 0
    assert process.logs().stdout == "before\n"


def test_streams_begin_at_the_first_byte_or_at_a_cursor(box: Sandbox) -> None:
    process = box.start_process("echo one; echo two >&2; read; printf 'thr\\xc3'; read; printf '\\xa9e'")
    first = []
    cursor = 0
    for event in process.stream():
        first.append((event.type, event.data))
        if len(first) == 2:
            cursor = event.cursor
            process.write_stdin("\n")
        if event.data == "thr":
            # The character that is not whole yet comes again, and whole.
            cursor = event.cursor
            process.write_stdin("\n")
            break
    assert first == [("stdout", "one\n"), ("stderr", "two\n"), ("stdout", "thr")]
    rest = list(process.stream(cursor=cursor))
    assert [(event.type, event.data) for event in rest] == [("stdout", "ée"), ("exit", "")]
    assert rest[-1].exit_code == 0
    whole = "".join(event.data for event in box.stream_process_logs(process.id))
    assert sorted(whole) == sorted("one\ntwo\nthrée")
    with pytest.raises(InvalidRequestError, match="cursor"):
        list(process.stream(cursor=10**6))


def test_kill_asks_first(box: Sandbox) -> None:
    process = box.start_process("trap 'echo bye; exit 5' TERM; echo up; while :; do read -t 1; done")
    process.wait_for_log("up", 30)
    process.kill()
    assert (process.status, process.exit_code, process.signal) == ("killed", 5, None)
    assert process.logs().stdout.endswith("bye\n")
    process.kill()  # it has ended: nothing happens
    assert box.get_process(process.id).exit_code == 5


def test_kill_ends_one_that_will_not_with_all_its_children(box: Sandbox) -> None:
    process = box.start_process("trap '' TERM; sh -c 'trap \"\" TERM; echo up; sleep 1001; :' & wait; wait")
    process.wait_for_log("up", 30)
    process.kill()
    assert (process.status, process.signal, process.exit_code) == ("killed", "SIGKILL", 137)
    assert box.exec("pgrep -c -f 'sleep 100[1]'").stdout == "0\n"


def test_kill_ends_children_that_outlive_their_parent(box: Sandbox) -> None:
    process = box.start_process("(trap '' TERM; echo up; sleep 1001; sleep 1002) & (sleep 1003 &); wait")
    process.wait_for_log("up", 30)
    process.kill()
    assert process.signal == "SIGTERM"
    assert box.exec("pgrep -c -f 'sleep 100[123]'").stdout == "0\n"


def test_kill_ends_one_that_is_stopped(box: Sandbox) -> None:
    process = box.start_process("echo up; exec sleep 1001")
    process.wait_for_log("up", 30)
    process.kill("STOP")
    process.kill()
    assert (process.status, process.signal) == ("killed", "SIGTERM")


@pytest.mark.parametrize("name", ["SIGUSR1", "usr1", 10])
def test_a_signal_goes_to_all_of_it_and_ends_nothing_by_itself(box: Sandbox, name: str | int) -> None:
    child = "trap 'echo child got it' USR1; echo up; sleep 1001 & wait; wait"
    process = box.start_process(f"trap 'echo parent got it' USR1; bash -c \"{child}\" & wait; wait; wait; read")
    process.wait_for_log("up", 30)
    box.kill_process(process.id, name)
    process.wait_for_log("parent got it", 30)
    process.wait_for_log("child got it", 30)
    process.refresh()
    assert process.status == "running"
    process.kill("SIGKILL")
    assert (process.status, process.signal, process.exit_code) == ("killed", "SIGKILL", 137)
    with pytest.raises(InvalidRequestError, match="signal"):
        process.kill("SIGNONSENSE")


def test_death_by_a_signal_of_its_own_is_told_apart(box: Sandbox) -> None:
    process = box.start_process("kill -SEGV $$")
    assert process.wait(30) == 139
    assert (process.status, process.signal) == ("killed", "SIGSEGV")
    process = box.start_process("exit 139")
    assert process.wait(30) == 139
    assert (process.status, process.signal) == ("failed", None)


def test_a_timeout_ends_it_with_all_its_children(box: Sandbox) -> None:
    process = box.start_process("echo up; sleep 1001 & (setsid sleep 1001 &) ; sleep 1001", timeout=0.3)
    assert process.wait(30) == 137
    process.refresh()
    assert (process.status, process.signal, process.timed_out) == ("killed", "SIGKILL", True)
    with pytest.raises(InvalidRequestError, match="timeout"):
        box.start_process("true", timeout=0)


def test_waiting_has_a_limit_of_its_own(box: Sandbox) -> None:
    process = box.start_process("read")
    for waiting in (
        lambda: process.wait(0.1),
        lambda: process.wait_for_log("never", 0.1),
        lambda: process.wait_for_port(9, 0.1),
        lambda: box.wait_for_port(9, 0.1),
        lambda: list(process.stream(timeout=0.1)),
    ):
        with pytest.raises(ExecutionTimeoutError):
            waiting()
    process.close_stdin()
    assert process.wait(30) == 1


def test_wait_for_log_finds_what_is_split_and_gives_the_match(box: Sandbox) -> None:
    process = box.start_process("printf 'listening on port '; read; printf 30; echo 00; read")
    process.wait_for_log(r"on port $", 30)
    process.write_stdin("\n")
    match = process.wait_for_log(re.compile(r"port (\d{4})"), 30)
    assert match[1] == "3000"
    process.close_stdin()
    with pytest.raises(ProcessEndedError, match="never"):
        process.wait_for_log("never")
    with pytest.raises(InvalidRequestError, match="no regular expression"):
        process.wait_for_log("(")


def test_wait_for_port(box: Sandbox) -> None:
    server = "import socket; s = socket.create_server(('127.0.0.1', 3000)); print(s.accept()[0].recv(9)); input()"
    process = box.start_process(["python3", "-c", server])
    process.wait_for_port(3000, 30)
    box.wait_for_port(3000, 30)
    # Nobody has connected to find that out.
    assert box.exec("echo -n hello > /dev/tcp/127.0.0.1/3000").success
    process.wait_for_log("b'hello'", 30)
    process.kill()
    dies = box.start_process("exit 7")
    with pytest.raises(ProcessEndedError, match="exit code 7"):
        dies.wait_for_port(3001, 30)
    for wrong in (0, 65536, True, "3000"):
        with pytest.raises(InvalidRequestError, match="port"):
            process.wait_for_port(wrong)  # type: ignore[arg-type]


def test_standard_input_in_pieces_and_its_end(box: Sandbox) -> None:
    process = box.start_process("cat | sha256sum")
    for piece in (b"a\0", "é", bytes(300_000), b""):
        process.write_stdin(piece)
    process.close_stdin()
    assert process.wait(30) == 0
    expected = "printf 'a\\0\\303\\251' >f; head -c 300000 /dev/zero >>f; sha256sum <f"
    assert process.logs().stdout == box.exec(expected).stdout
    with pytest.raises(ProcessEndedError, match="reads no more"):
        process.write_stdin("more")


def test_ids_are_unique_and_checked(box: Sandbox) -> None:
    box.start_process("read", process_id="same")
    with pytest.raises(ProcessAlreadyExistsError, match="same"):
        box.start_process("read", process_id="same")
    for wrong in ("", "a b", "../x", "list", "a" * 129, "é"):
        with pytest.raises(InvalidRequestError):
            box.start_process("true", process_id=wrong)
    assert box.start_process("true").id != box.start_process("true").id
    for call in (box.get_process, box.kill_process, box.get_process_logs):
        with pytest.raises(ProcessNotFoundError, match="nobody"):
            call("nobody")
    with pytest.raises(ProcessNotFoundError):
        list(box.stream_process_logs("nobody"))


def test_lists_and_cleaning_up(box: Sandbox) -> None:
    box.create_session("other")
    other = box.get_session("other")
    ended = box.start_process("true", process_id="ended")
    ended.wait(30)
    box.start_process("read", process_id="running")
    other.start_process("read", process_id="elsewhere")
    assert [process.id for process in box.list_processes()] == ["ended", "running", "elsewhere"]
    assert [process.id for process in other.list_processes()] == ["elsewhere"]
    assert other.cleanup_completed_processes() == 0
    assert box.cleanup_completed_processes() == 1
    with pytest.raises(ProcessNotFoundError):
        ended.logs()
    assert other.kill_all_processes() == 1
    assert box.kill_all_processes() == 1
    assert [process.status for process in box.list_processes()] == ["killed", "killed"]


def test_auto_cleanup_forgets_it(box: Sandbox) -> None:
    process = box.start_process("read", auto_cleanup=True, process_id="brief")
    process.close_stdin()
    assert process.wait(30) == 1
    assert box.list_processes() == []
    assert box.start_process("true", process_id="brief").wait(30) == 0


def test_callbacks(box: Sandbox) -> None:
    printed: list[tuple[str, str]] = []
    codes: list[int] = []
    process = box.start_process(
        "echo a; read; echo b >&2; exit 4",
        on_output=lambda stream, data: printed.append((stream, data)),
        on_exit=codes.append,
    )
    process.write_stdin("\n")
    assert process.wait(30) == 4
    assert (printed, codes) == ([("stdout", "a\n"), ("stderr", "b\n")], [4])


def test_a_callback_may_wait_for_its_process(box: Sandbox) -> None:
    codes: list[int] = []

    async def later(waiting: Any) -> None:
        codes.append(await waiting)

    def on_exit(_: int) -> Any:
        code = getattr(process, "_target", process).wait(30)
        return codes.append(code) if isinstance(code, int) else later(code)

    process = box.start_process("read; exit 5", on_exit=on_exit)
    process.write_stdin("\n")
    assert process.wait(30) == 5
    assert codes == [5]


def test_a_callback_that_raises_harms_nobody(box: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise ValueError("of the user's")

    process = box.start_process("echo a; exit 1", on_output=fail)
    assert process.wait(30) == 1
    assert "of the user's" in caplog.text


def test_a_process_outlives_its_session_not_the_sessions_end(box: Sandbox) -> None:
    session = box.create_session("brief", isolation=False)
    process = session.start_process("sleep 1001")
    box.delete_session("brief")
    process.refresh()
    assert process.status == "killed"
    assert box.exec("pgrep -c -f 'sleep 100[1]'").stdout == "0\n"


def test_processes_end_when_the_sandbox_sleeps(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox("proc-sleeper")
    process = box.start_process("trap 'echo ended > /workspace/told; exit' TERM; echo up; while :; do read -t 1; done")
    process.wait_for_log("up", 30)
    box.sleep()
    with pytest.raises(ProcessNotFoundError, match="slept"):
        process.refresh()
    assert box.read_file("/workspace/told") == "ended\n"


def test_two_hundred_at_once(box: Sandbox) -> None:
    processes = [box.start_process(f"echo {number}; read; exit {number % 100}") for number in range(200)]
    for process in processes:
        process.write_stdin("\n")
    assert [process.wait(60) for process in processes] == [number % 100 for number in range(200)]
    assert [process.logs().stdout for process in processes] == [f"{number}\n" for number in range(200)]


def test_one_outlives_the_program_that_started_it(home: Path) -> None:
    import subprocess
    import sys

    code = "from sandcove import Sandbox; Sandbox('keeper').start_process('echo kept; read', process_id='kept')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    box = Sandbox("keeper")
    try:
        process = box.get_process("kept")
        process.wait_for_log("kept", 30)
        assert process.status == "running"
    finally:
        box.destroy()


def test_many_readers_and_one_that_stopped(box: Sandbox) -> None:
    size = 20_000_000
    process = box.start_process(f"read; head -c {size} /dev/zero")
    stopped = iter(process.stream())
    counts: list[int] = []

    def read() -> None:
        counts.append(sum(len(event.data) for event in process.stream()))

    threads = [threading.Thread(target=read) for _ in range(9)]
    for thread in threads:
        thread.start()
    process.write_stdin("\n")
    assert next(stopped).data  # and takes no more
    assert process.wait(60) == 0
    for thread in threads:
        thread.join(60)
    assert counts == [size] * 9
