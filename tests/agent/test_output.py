"""What commands print: all of it, exactly, to the right caller, however much and whatever it is."""

from __future__ import annotations

import hashlib
import os

import pytest

from sandcove import Sandbox, Session

MIB = 1024 * 1024


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 192 * 1024, 300 * 1024, MIB, 5 * MIB])
def test_output_of_any_size(session: Session, size: int) -> None:
    result = session.exec(f"head -c {size} /dev/urandom | tee /tmp/sum", encoding=None)
    assert len(result.stdout) == size and not result.truncated
    assert session.exec("sha256sum < /tmp/sum").stdout.split()[0] == hashlib.sha256(result.stdout).hexdigest()


def test_both_streams_at_once(session: Session) -> None:
    command = f"head -c {MIB} /dev/zero & head -c {MIB} /dev/zero | tr '\\0' x >&2; wait"
    for _ in range(3):
        result = session.exec(command, encoding=None)
        assert (result.stdout, result.stderr) == (b"\0" * MIB, b"x" * MIB)
    sizes = {"stdout": 0, "stderr": 0}
    for event in session.exec_stream(command):
        if event.type in sizes:
            sizes[event.type] += len(event.bytes)
    assert sizes == {"stdout": MIB, "stderr": MIB}


@pytest.mark.parametrize("size", [64 * 1024, 100_000, 300 * 1024, MIB - 10])
def test_commands_of_any_size(session: Session, size: int) -> None:
    text = "x" * (size - 7)
    assert session.exec(f"echo '{text}'").stdout == f"{text}\n"
    assert session.exec("true #" + text).exit_code == 0
    assert session.exec(["sh", "-c", 'echo "$#"', "sh", *(["y" * 1000] * (size // 2000))]).stdout == f"{size // 2000}\n"


def test_an_argument_that_the_kernel_refuses(session: Session) -> None:
    result = session.exec(["echo", "x" * 200_000])
    assert result.exit_code == 126 and "too long" in result.stderr
    assert session.exec("echo on").stdout == "on\n"


def test_input_of_any_size(session: Session) -> None:
    for size in (0, 1, 65536, 65537, 5 * MIB):
        data = os.urandom(size)
        assert session.exec("sha256sum", stdin=data).stdout.split()[0] == hashlib.sha256(data).hexdigest()
    assert session.exec("head -c 3", stdin="x" * MIB).stdout == "xxx"
    assert session.exec(["cat"], stdin="é\n").stdout == "é\n"
    assert session.exec("read a; echo $a; cat", stdin="1\n2\n3").stdout == "1\n2\n3"
    assert session.exec("cat; cat", stdin="once").stdout == "once"
    assert session.exec("true", stdin=b"\0" * MIB).exit_code == 0


def test_bytes_that_are_no_text(session: Session) -> None:
    everything = bytes(range(256)) * 10
    session.write_file("/tmp/every", everything)
    result = session.exec("cat /tmp/every; cat /tmp/every >&2", encoding=None)
    assert (result.stdout, result.stderr) == (everything, everything)
    assert session.exec("cat /tmp/every").stdout == everything.decode("utf-8", "replace")


@pytest.mark.parametrize("output", ["é€😀é€😀".encode(), b"\xc3\xff\xe2\x82\xc3\xa9\xf0\x9f"])
def test_characters_cut_between_chunks(shared: Sandbox, session: Session, output: bytes) -> None:
    session.exec("rm -f /tmp/beat /tmp/back; mkfifo /tmp/beat /tmp/back")
    escapes = " ".join(f"\\\\x{byte:02x}" for byte in output)
    steps = f"for byte in {escapes}; do printf $byte; read line < /tmp/beat; echo > /tmp/back; done"
    stream = iter(session.exec_stream(steps))
    seen = [next(stream)]
    # Each beat lets one more byte out; the agent has read the one before by the time that the beat has an answer.
    for _ in output:
        shared.exec("echo > /tmp/beat; read line < /tmp/back")
    seen += stream
    printed = [event for event in seen if event.type == "stdout"]
    assert b"".join(event.bytes for event in printed) == output
    assert "".join(event.data for event in printed) == output.decode("utf-8", "replace")


def test_a_stream_is_told_as_it_happens(session: Session) -> None:
    session.exec("mkfifo /tmp/go")
    stream = iter(session.exec_stream("echo first; read line < /tmp/go; echo second; exit 5"))
    seen = [next(stream).type, next(stream).data]
    assert seen == ["start", "first\n"]
    session._sandbox.exec("echo > /tmp/go")
    rest = list(stream)
    assert [event.data for event in rest if event.type == "stdout"] == ["second\n"]
    assert (rest[-1].type, rest[-1].exit_code) == ("complete", 5)


def test_a_background_child_that_holds_the_output(session: Session) -> None:
    session.exec("mkfifo /tmp/late /tmp/done")
    child = "(read x < /tmp/late; echo LATE; echo LATE >&2; head -c 1000000 /dev/zero; echo $? > /tmp/done) & echo now"
    result = session.exec(child)
    assert (result.stdout, result.stderr, result.exit_code) == ("now\n", "", 0)
    result = session.exec("echo > /tmp/late; cat /tmp/done")
    # What it printed went to nobody else, and writing it did not kill it.
    assert (result.stdout, result.stderr) == ("0\n", "")
    assert session.exec("echo on").stdout == "on\n"


def test_a_background_child_in_a_stream(session: Session) -> None:
    events = list(session.exec_stream("sleep 1001 & echo now"))
    assert [event.data for event in events if event.type == "stdout"] == ["now\n"]
    assert events[-1].exit_code == 0
    # It may be a shell still that is about to become what it was started for.
    found = "until pgrep -f '^sleep 1001' >/dev/null; do :; done; pkill -cf '^sleep 1001'"
    assert session.exec(found).stdout == "1\n"


def test_output_that_comes_with_the_end_is_whole(session: Session) -> None:
    for number in range(100):
        assert (
            session.exec(f"echo {number}; echo e{number} >&2; (echo sub{number})").stdout == f"{number}\nsub{number}\n"
        )


def test_more_than_is_collected_is_dropped_and_told(session: Session) -> None:
    result = session.exec(f"head -c {40 * MIB} /dev/zero; echo end >&2", encoding=None)
    assert result.truncated and len(result.stdout) == 32 * MIB and result.stderr == b"end\n"
