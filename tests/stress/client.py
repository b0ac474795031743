"""One client of the mixed test, a program: random calls, each answer checked against what it must be.

Arguments: number, ``sync`` or ``async``, seed, how many operations, the folder of its journal. It says each operation's
name on standard output before it begins. What it knows of its sandbox is in the journal before each change and after
it: whoever comes after it, when it was killed, checks that nothing acknowledged is lost, and nothing is half done.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sandcove import ExecutionTimeoutError, PathNotFoundError, ProcessNotFoundError, Sandbox
from tests.conftest import making

__all__ = ["SHARED"]

SHARED = "mixed-shared"
"""The sandbox that all clients use, each in sessions and folders of its own."""
FILES = "/workspace/files"
WAIT = 60.0


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Journal:
    """What is known: a value for each key, or, while it changes, those that are possible. None: it is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.possible: dict[str, list[Any]] = json.loads(path.read_text()) if path.exists() else {}

    def changes(self, **to: Any) -> None:
        for key, value in to.items():
            self.possible[key] = [*self.possible.get(key, [None]), value]
        self._write()

    def is_now(self, **known: Any) -> None:
        for key, value in known.items():
            if value is None:
                self.possible.pop(key, None)
            else:
                self.possible[key] = [value]
        self._write()

    def forget(self) -> None:
        self.possible.clear()
        self._write()

    def get(self, key: str) -> Any:
        return self.possible.get(key, [None])[0]

    def names(self, kind: str) -> list[str]:
        return sorted(key[len(kind) :] for key in self.possible if key.startswith(kind))

    def _write(self) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self.possible))
        new.rename(self._path)


class Client:
    """The operations; each is a method without arguments that returns when it has checked its answer."""

    def __init__(self, number: int, make: Callable[..., Sandbox], rng: random.Random, folder: Path) -> None:
        self.rng = rng
        self.make = make
        self.name = f"mixed-{number}"
        self.folder = folder
        self.journal = Journal(folder / f"{self.name}.json")
        self.box = make(self.name)
        self.shared = make(SHARED)
        self.counters: dict[str, int] = {}
        self.processes: dict[str, tuple[Any, str, int]] = {}
        self.made = 0

    def unique(self, what: str) -> str:
        self.made += 1
        return f"{what}-{os.getpid()}-{self.made}"

    # --- beginning and end ------------------------------------------------------------------------------

    def take_over(self) -> None:
        """Checks what the one before left, and clears away what is not in the journal."""
        if "destroyed" in self.journal.possible:
            self.box.kill_all_processes()
            self.box.destroy()
            self.journal.forget()
        if not self.box.exists(FILES):
            assert not self.journal.names("file "), "the files are lost"
            self.box.mkdir(FILES, recursive=True)
        self.box.kill_all_processes()
        self.box.cleanup_completed_processes()
        for name in self.box.list_sessions():
            if name != "default":
                self.box.delete_session(name)
        self.verify()

    def verify(self) -> None:
        """All of the sandbox is as the journal has it."""
        there = {info.name for info in self.box.list_files(FILES, include_hidden=True)}
        known = set(self.journal.names("file "))
        assert there <= known, f"files that nobody wrote: {there - known}"
        for name in known:
            found = digest(self.box.read_file(f"{FILES}/{name}", encoding=None)) if name in there else None
            assert found in self.journal.possible[f"file {name}"], f"file {name} is {found}: {self.journal.possible}"
            self.journal.is_now(**{f"file {name}": found})
        for name in self.journal.names("env "):
            value = self.box.exec(f'echo "${{{name}-}}"').stdout.rstrip("\n") or None
            assert value in self.journal.possible[f"env {name}"], f"{name} is {value}: {self.journal.possible}"
            self.journal.is_now(**{f"env {name}": value})
        count = int(self.box.exec("echo $((n))").stdout)
        assert count in self.journal.possible.get("count", [0]), f"n is {count}: {self.journal.possible}"
        self.journal.is_now(count=count)

    def end(self) -> None:
        self.verify()
        self.box.kill_all_processes()
        if self.rng.random() < 0.5:
            self.journal.changes(destroyed=True)
            self.box.destroy()

    # --- commands ---------------------------------------------------------------------------------------

    def run_a_command(self) -> None:
        a, b, code = self.rng.randrange(10**6), self.rng.randrange(10**6), self.rng.choice((0, 0, 1, 3, 255))
        result = self.box.exec(f"echo $(({a} + {b})); echo warned >&2; (exit {code})")
        assert (result.stdout, result.stderr, result.exit_code) == (f"{a + b}\n", "warned\n", code), result

    def leave_the_shell(self) -> None:
        code = self.rng.randrange(256)
        result = self.box.exec(self.rng.choice(("exit {}", "exec bash -c 'exit {}'", "(exit {}); exit")).format(code))
        assert (result.exit_code, result.stdout) == (code, ""), result

    def count(self) -> None:
        self.journal.changes(count=self.journal.get("count") + 1)
        result = self.box.exec("n=$((n + 1)); echo $n")
        assert result.stdout == f"{self.journal.get('count') + 1}\n", (result, self.journal.possible)
        self.journal.is_now(count=self.journal.get("count") + 1)

    def feed_a_command(self) -> None:
        data = self.rng.randbytes(self.rng.choice((0, 1, 1000, 70_000, 300_000)))
        result = self.box.exec(["cat"], stdin=data, encoding=None)
        assert result.stdout == data, (len(result.stdout), len(data))

    def set_a_command_apart(self) -> None:
        value, cwd = self.rng.randbytes(20).hex() + " '\"$x", self.rng.choice(("/tmp", "/usr/bin", FILES))
        result = self.box.exec('echo "$VALUE|$PWD"', env={"VALUE": value}, cwd=cwd)
        assert result.stdout == f"{value}|{cwd}\n", result

    def let_a_command_time_out(self) -> None:
        with pytest.raises(ExecutionTimeoutError) as caught:
            self.box.exec("echo before; sleep 1001 & sleep 1001", timeout=self.rng.uniform(0.05, 0.2))
        assert caught.value.stdout in ("", "before\n"), caught.value.stdout

    def print_much(self) -> None:
        last = self.rng.randrange(1, 80_000)
        result = self.box.exec(f"seq 1 {last}")
        expected = "".join(f"{number}\n" for number in range(1, last + 1))
        assert result.stdout == expected, (last, len(result.stdout), len(expected))

    def stream_to_the_end(self) -> None:
        last = self.rng.randrange(1, 20_000)
        events = list(self.box.exec_stream(f"seq 1 {last}; exit 4"))
        text = "".join(event.data for event in events if event.type == "stdout")
        assert digest(text.encode()) == digest("".join(f"{n}\n" for n in range(1, last + 1)).encode()), (
            last,
            len(text),
        )
        assert (events[-1].type, events[-1].exit_code) == ("complete", 4), events[-1]

    def leave_a_stream(self) -> None:
        stream: Any = self.box.exec_stream(f"seq 1 {self.rng.choice((1, 300_000))}; sleep 1001")
        for event in stream:
            if event.type == "stdout":
                break
        (getattr(stream, "aclose", None) or stream.close)()

    def do_much_at_once(self) -> None:
        """Whatever the order in which the commands have their turn, each has its own answer."""

        def work(number: int) -> str:
            word = f"{self.made}-{number}"
            if number % 3 == 0:
                return self.box.exec(f"echo {word}").stdout.strip() + f" {word}"
            if number % 3 == 1:
                process = self.box.start_process(f"echo {word}", auto_cleanup=True)
                text = "".join(event.data for event in process.stream() if event.type == "stdout")
                return f"{text.strip()} {word}"
            self.box.write_file(f"/tmp/{word}", word)
            return self.box.read_file(f"/tmp/{word}") + f" {word}"

        self.made += 1
        with ThreadPoolExecutor(8) as pool:
            for answer in pool.map(work, range(12)):
                first, _, second = answer.partition(" ")
                assert first == second, answer

    # --- files ------------------------------------------------------------------------------------------

    def write(self) -> None:
        name = f"f{self.rng.randrange(12)}"
        content = self.rng.randbytes(self.rng.choice((0, 10, 1000, 65_536, 700_000)))
        self.journal.changes(**{f"file {name}": digest(content)})
        self.box.write_file(f"{FILES}/{name}", content)
        self.journal.is_now(**{f"file {name}": digest(content)})

    def read(self) -> None:
        name = f"f{self.rng.randrange(12)}"
        expected = self.journal.get(f"file {name}")
        try:
            found = digest(self.box.read_file(f"{FILES}/{name}", encoding=None))
        except PathNotFoundError:
            found = None
        assert found == expected, (name, found, expected)

    def list(self) -> None:
        names = [info.name for info in self.box.list_files(FILES)]
        assert sorted(names) == self.journal.names("file "), (names, self.journal.possible)

    def delete(self) -> None:
        for name in self.journal.names("file ")[:1]:
            self.journal.changes(**{f"file {name}": None})
            self.box.delete_file(f"{FILES}/{name}")
            self.journal.is_now(**{f"file {name}": None})
            assert not self.box.exists(f"{FILES}/{name}")

    def move(self) -> None:
        names = self.journal.names("file ")
        if not names:
            return
        old, new = self.rng.choice(names), f"f{self.rng.randrange(12)}"
        if new in names:
            return
        content = self.journal.get(f"file {old}")
        self.journal.changes(**{f"file {old}": None, f"file {new}": content})
        (self.box.move_file if self.rng.random() < 0.5 else self.box.rename_file)(f"{FILES}/{old}", f"{FILES}/{new}")
        self.journal.is_now(**{f"file {old}": None, f"file {new}": content})

    def carry_a_folder(self) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder) as here:
            there, back = Path(here, "there"), Path(here, "back")
            (there / "deep" / "er").mkdir(parents=True)
            for path in ("a", "deep/b", "deep/er/c"):
                (there / path).write_bytes(self.rng.randbytes(self.rng.choice((0, 500, 50_000))))
            remote = f"/tmp/{self.unique('folder')}"
            self.box.upload(there, remote)
            self.box.download(remote, back)
            self.box.delete_file(remote, recursive=True)

            def tree(root: Path) -> dict[str, bytes]:
                return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

            assert tree(there) == tree(back), (sorted(tree(there)), sorted(tree(back)))

    # --- environment and sessions -----------------------------------------------------------------------

    def set_env(self) -> None:
        name, value = f"E{self.rng.randrange(4)}", self.rng.choice((None, self.rng.randbytes(9).hex()))
        self.journal.changes(**{f"env {name}": value})
        self.box.set_env_vars({name: value})
        self.journal.is_now(**{f"env {name}": value})
        assert self.box.exec(f"echo ${{{name}-none}}").stdout == f"{value or 'none'}\n"

    def create_session(self) -> None:
        name = self.unique("s")
        session = self.box.create_session(name, env={"OWN": name}, isolation=self.rng.random() < 0.5)
        assert session.exec("m=1; echo $OWN").stdout == f"{name}\n"
        self.counters[name] = 1

    def use_a_session(self) -> None:
        for name in self.rng.sample(sorted(self.counters), min(1, len(self.counters))):
            result = self.box.get_session(name).exec("m=$((m + 1)); echo $m $OWN")
            self.counters[name] += 1
            assert result.stdout == f"{self.counters[name]} {name}\n", (result, self.counters)

    def delete_a_session(self) -> None:
        for name in self.rng.sample(sorted(self.counters), min(1, len(self.counters))):
            self.box.get_session(name).exec("sleep 1001 & (setsid sleep 1001 &)")
            self.box.delete_session(name)
            del self.counters[name]
        assert sorted(self.box.list_sessions()) == sorted(["default", *self.counters]), self.counters

    # --- processes --------------------------------------------------------------------------------------

    def start_a_process(self) -> None:
        id_, code = self.unique("p"), self.rng.randrange(256)
        script = f"echo {id_}; sleep 1001 & read -r line; echo got $line; seq 1 5000; kill %1; exit {code}"
        self.processes[id_] = (self.box.start_process(script, process_id=id_), id_, code)
        assert set(self.processes) <= {process.id for process in self.box.list_processes()}

    def finish_a_process(self) -> None:
        for id_ in self.rng.sample(sorted(self.processes), min(1, len(self.processes))):
            process, _, code = self.processes.pop(id_)
            process.write_stdin(f"{id_} again\n")
            text = "".join(event.data for event in process.stream() if event.type == "stdout")
            expected = f"{id_}\ngot {id_} again\n" + "".join(f"{n}\n" for n in range(1, 5001))
            assert text == expected, (len(text), len(expected), text[:100])
            assert process.wait(WAIT) == code
            logs = self.box.get_process_logs(id_)
            assert (logs.stdout, logs.stderr, logs.truncated) == (expected, "", False), logs.stderr

    def kill_a_process(self) -> None:
        for id_ in self.rng.sample(sorted(self.processes), min(1, len(self.processes))):
            process, *_ = self.processes.pop(id_)
            process.kill(self.rng.choice((None, "KILL")))
            assert process.status == "killed", process.status
            assert self.box.get_process(id_).exit_code in (137, 143)
        if self.rng.random() < 0.3:
            assert self.box.kill_all_processes() == len(self.processes)
            self.processes.clear()
            self.box.cleanup_completed_processes()

    def leave_a_process_to_itself(self) -> None:
        code = self.rng.randrange(256)
        process = self.box.start_process(f"seq 1 100; exit {code}", auto_cleanup=self.rng.random() < 0.5)
        assert process.wait(WAIT) == code
        timed = self.box.start_process("sleep 1001 & wait", timeout=0.05)
        assert timed.wait(WAIT) == 137 and self.box.get_process(timed.id).timed_out

    # --- sandboxes --------------------------------------------------------------------------------------

    def come_and_go(self) -> None:
        with self.make() as box:
            box.write_file("/workspace/f", self.name)
            assert box.exec("cat f; sleep 1001 &").stdout == self.name

    def sleep(self) -> None:
        self.box.sleep()
        if self.rng.random() < 0.5:
            self.box.wake()
        for id_ in self.processes:
            with pytest.raises(ProcessNotFoundError):
                self.box.get_process(id_)
        self.processes.clear()
        self.verify()

    def destroy(self) -> None:
        self.journal.changes(destroyed=True)
        self.box.destroy()
        self.journal.forget()
        self.counters.clear()
        self.processes.clear()
        assert not self.box.exists(FILES)
        self.box.mkdir(FILES, recursive=True)
        self.journal.is_now(count=0)

    def share(self) -> None:
        """In one sandbox with all the others."""
        name = self.unique("shared")
        session = self.shared.create_session(name, isolation=self.rng.random() < 0.3)
        assert session.exec(f"mkdir /tmp/{name}; cd /tmp/{name}; echo {name} >f").success
        process = session.start_process("cat f; read; exit 7")
        session.write_file("g", name * 100)
        assert session.exec("cat f g").stdout == f"{name}\n" + name * 100
        process.write_stdin("\n")
        assert process.wait(WAIT) == 7
        assert process.logs().stdout == f"{name}\n"
        session.start_process("sleep 1001")
        self.shared.delete_session(name)


WEIGHTS: dict[str, int] = {
    "run_a_command": 14,
    "leave_the_shell": 3,
    "count": 10,
    "feed_a_command": 5,
    "set_a_command_apart": 5,
    "let_a_command_time_out": 3,
    "print_much": 4,
    "stream_to_the_end": 3,
    "leave_a_stream": 3,
    "do_much_at_once": 3,
    "write": 10,
    "read": 8,
    "list": 4,
    "delete": 3,
    "move": 4,
    "carry_a_folder": 3,
    "set_env": 4,
    "create_session": 3,
    "use_a_session": 5,
    "delete_a_session": 3,
    "start_a_process": 6,
    "finish_a_process": 5,
    "kill_a_process": 3,
    "leave_a_process_to_itself": 3,
    "come_and_go": 3,
    "sleep": 2,
    "destroy": 1,
    "share": 5,
}


def main(number: int, kind: str, seed: str, count: int, folder: Path) -> None:
    faulthandler.register(signal.SIGUSR1)

    def say(word: str) -> None:
        sys.stdout.write(word + "\n")
        sys.stdout.flush()

    with making(kind, keep=True) as make:
        client = Client(number, make, random.Random(seed), folder)
        say("take_over")
        client.take_over()
        for operation in client.rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count):
            say(operation)
            getattr(client, operation)()
        say("end")
        client.end()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5]))
