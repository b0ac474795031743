"""Each fault that was seen in the system that Sandcove re-creates has a test here, named after it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from bench import processes
from sandcove import InvalidRequestError, Sandbox, Session
from sandcove.agent.way_out import way_out
from tests.server.conftest import ask

HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned;",
    "a'b",
    'a"b',
    "a b",
    "a\nb",
    "-rf",
    "--",
    "*",
    "~",
    "\\",
    "é\u2028😀",
    "\x01\x7f",
    "SANDBOX_EOF",
]


@pytest.mark.parametrize("size", [192 * 1024, 256 * 1024, 300 * 1024])
def test_stdout_of_256_kb_hangs(session: Session, size: int) -> None:
    assert session.exec(f"head -c {size} /dev/zero | tr '\\0' x").stdout == "x" * size


@pytest.mark.parametrize("size", [64 * 1024, 300 * 1024])
def test_a_command_of_64_kb_hangs(session: Session, size: int) -> None:
    assert session.exec(f"echo {'x' * size}").stdout == "x" * size + "\n"


@pytest.mark.parametrize("size", [64 * 1024, 300 * 1024, 5_000_000])
def test_a_write_of_64_kb_or_a_read_of_256_kb_hangs(session: Session, size: int) -> None:
    session.write_file("/tmp/big", "x" * size)
    assert session.read_file("/tmp/big") == "x" * size


def test_a_command_that_reads_stdin_eats_the_shell_s_own_input(session: Session) -> None:
    for command in ("cat", "read a; read b", "head -1", "bash", "sh", "cat -; cat <&0"):
        session.exec(command, timeout=20)
        assert session.exec("echo on").stdout == "on\n"


@pytest.mark.parametrize("command", ["exit", "exit 1", "exec true", "exec cat", "set -e; false"])
def test_exit_exec_and_set_e_kill_the_session_for_good(session: Session, command: str) -> None:
    session.exec("kept=1")
    session.exec(command, timeout=20)
    assert session.exec("echo $kept").stdout == "1\n"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_path_is_run_by_the_shell(session: Session, name: str) -> None:
    path = f"/tmp/hostile/{name}"
    session.write_file(path, "content")
    assert session.read_file(path) == "content"
    assert session.stat(path).name == name
    assert name in [info.name for info in session.list_files("/tmp/hostile")]
    session.rename_file(path, path + "2")
    session.delete_file(path + "2")
    session.mkdir(path)
    assert session.exec("pwd", cwd=path).stdout == path + "\n"
    session.delete_file(path)
    assert session.exec("find / -xdev -name pwned").stdout == ""


@pytest.mark.parametrize(
    "content", ["SANDBOX_EOF", "a\nSANDBOX_EOF\ntouch /tmp/pwned\n", "EOF\n", "$(id)", "`id`", "\\", "'"]
)
def test_a_line_of_the_content_ends_the_write(session: Session, content: str) -> None:
    session.write_file("/tmp/content", content)
    assert session.read_file("/tmp/content") == content
    assert session.exec("find / -xdev -name pwned").stdout == ""


@pytest.mark.parametrize("content", ["", "no newline", "one\n", "two\n\n", "\n", "\r\n", "\0", " \t "])
def test_a_write_appends_a_newline(session: Session, content: str) -> None:
    session.write_file("/tmp/exact", content)
    assert session.read_file("/tmp/exact", encoding=None) == content.encode()
    assert session.exec("wc -c < /tmp/exact").stdout == f"{len(content)}\n"


def test_invalid_utf_8_becomes_u_fffd(session: Session) -> None:
    data = bytes(range(256))
    session.write_file("/tmp/binary", data)
    assert session.read_file("/tmp/binary", encoding=None) == data
    assert session.exec("cat /tmp/binary", encoding=None).stdout == data


def test_a_read_waits_behind_a_running_command(session: Session) -> None:
    session.write_file("/tmp/there", "1")
    stream = iter(session.exec_stream("echo up; sleep 1001"))
    while next(stream).type != "stdout":
        pass
    began = time.monotonic()
    assert session.read_file("/tmp/there") == "1"
    session.write_file("/tmp/there", "2")
    assert time.monotonic() - began < 1.8


def test_two_streams_in_one_session_overwrite_each_other(session: Session) -> None:
    seen: dict[int, str] = {}

    def run(number: int) -> None:
        events = session.exec_stream(f"for i in 1 2 3; do echo {number}; done")
        seen[number] = "".join(event.data for event in events if event.type == "stdout")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == {number: f"{number}\n" * 3 for number in range(6)}


@pytest.mark.parametrize("first", ["cd /tmp && ", "A=1; ", "true | ", "if true; then :; fi; "])
def test_nohup_takes_only_the_first_word_of_a_process(session: Session, first: str) -> None:
    process = session.start_process(f"{first}echo up; trap 'echo hung up' HUP; read; pwd")
    process.wait_for_log("up", 30)
    process.write_stdin("\n")
    assert process.wait(30) == 0
    assert process.logs().stdout == ("up\n/tmp\n" if "cd" in first else "up\n/workspace\n")


def test_env_and_cwd_of_a_process_are_ignored(session: Session) -> None:
    process = session.start_process('echo "$A $PWD"; pwd', env={"A": "b c"}, cwd="/usr")
    assert process.wait(30) == 0
    assert process.logs().stdout == "b c /usr\n/usr\n"


@pytest.mark.parametrize("name", [*HOSTILE, "x;touch pwned", "../../tmp/x", "$(touch${IFS}pwned)"])
def test_a_process_id_is_run_by_the_shell(session: Session, name: str) -> None:
    with pytest.raises(InvalidRequestError):
        session.start_process("true", process_id=name + "*")
    for odd in ("-rf", "--", "a:b", "a@b", "..."):
        process = session.start_process("echo on", process_id=odd)
        assert process.wait(30) == 0
        assert session.get_process(odd).logs().stdout == "on\n"
    session.cleanup_completed_processes()
    assert session.exec("find / -xdev -name pwned").stdout == ""


@pytest.mark.parametrize("name", ["INT", "USR1", "QUIT"])
def test_kill_ignores_the_signal(session: Session, name: str) -> None:
    process = session.start_process(f"trap 'echo got {name}; exit 9' {name}; echo up; while :; do read -t 1; done")
    process.wait_for_log("up", 30)
    session.kill_process(process.id, name)
    assert process.wait(30) == 9
    assert process.logs().stdout.endswith(f"got {name}\n")


def test_the_kill_of_a_process_leaves_its_children(session: Session) -> None:
    process = session.start_process("sh -c 'sleep 1001; :' & (sleep 1001 &); sleep 1001 | cat & echo up; wait")
    process.wait_for_log("up", 30)
    process.kill()
    assert session.exec("pgrep -c '^sleep'").stdout == "0\n"


def test_processes_of_one_session_are_polled_for_and_lose_their_exit_code(session: Session) -> None:
    many = [session.start_process(f"exit {number}") for number in range(20)]
    assert [process.wait(30) for process in many] == list(range(20))


def test_secrets_of_the_server_are_in_the_environment_of_process_1(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    with Sandbox() as box:
        seen = box.exec("cat /proc/*/environ | tr '\\0' '\\n' | sort -u; env").stdout
    names = {line.partition("=")[0] for line in seen.splitlines()}
    secret = {
        name
        for name in os.environ
        if name not in {"PATH", "HOME", "PWD", "SHLVL", "LANG", "USER", "LOGNAME", "SHELL", "_"}
    }
    # The sandbox has a proxy and certificates of its own under names that the server may have too.
    leaked = names & (secret - {"TMPDIR", "TERM"} - way_out().keys())
    assert not leaked
    assert "SANDCOVE_HOME" not in seen and str(home) not in seen


def test_the_control_api_is_reachable_from_inside(shared: Sandbox, home: Path) -> None:
    assert shared.exec("find / -xdev -type s 2>/dev/null").stdout == ""
    assert shared.exec("cat /proc/net/unix | grep -c sandcove").stdout == "0\n"
    assert shared.exec("(echo > /dev/tcp/127.0.0.1/3000) 2>/dev/null; echo $?").stdout == "1\n"
    assert not shared.exists(str(home))


def test_a_session_prints_100_mb(session: Session) -> None:
    size = 0
    for event in session.exec_stream("head -c 100000000 /dev/zero | tr '\\0' x; echo end >&2"):
        size += len(event.bytes)
    assert size == 100_000_004


@pytest.mark.slow
def test_a_command_of_over_30_seconds_fails_and_wedges_its_session(shared: Sandbox, session: Session) -> None:
    # Silent all the while: the connection is not taken for dead either.
    command = "sleep 31; echo done"
    collected: list[str] = []
    beside = threading.Thread(target=lambda: collected.append(shared.exec(command).stdout))
    beside.start()
    events = list(session.exec_stream(command))
    beside.join(60)
    assert [event.data for event in events[1:]] == ["done\n", ""]
    assert collected == ["done\n"]
    assert session.exec("echo on").stdout == shared.exec("echo on").stdout == "on\n"


def test_any_page_in_a_browser_may_call_it(shared: Sandbox, home: Path) -> None:
    headers = {"Origin": "https://example.com", "Access-Control-Request-Method": "POST"}
    shared.ping()
    for place, target in ((f"run/{shared.id}.sock", "/api/execute"), ("server.sock", "/v1/sandboxes")):
        for method, status in (("OPTIONS", 405), ("POST", 400)):
            answer = ask(home / place, method, target, b"{", headers)
            assert answer.status == status
            assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_wedged_server_ignores_sigterm(fresh_home: Path) -> None:
    with Sandbox() as box:
        stream = iter(box.exec_stream("trap '' TERM; echo up; while :; do sleep 1001; done"))
        while next(stream).type != "stdout":
            pass
        os.kill(ask(fresh_home / "server.sock", "GET", "/v1/server").json["pid"], 15)
        assert processes.all_gone(fresh_home, within=10) == {}
