"""A kernel is forked by a process of the server's and runs the user's code itself: nothing of the server is in it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandcove import CodeContext, Sandbox
from tests.security.probes import NEEDS_ROOT

SECRET = "a-secret-of-the-servers-environment"
CONTROL = "a-text-that-is-in-no-program-at-all"
SEARCH = """
def copies(backwards):
    'How many times the text is in this process; it comes backwards, so as not to be there by the question.'
    word = backwards[::-1].encode()
    found = 0
    # Into one place, and wiped: what is found is not copied to where the search comes by later.
    room = memoryview(bytearray(1 << 20))
    with open('/proc/self/mem', 'rb', buffering=0) as memory:
        for line in list(open('/proc/self/maps')):
            where, rights = line.split()[:2]
            if not rights.startswith('r') or '[v' in line:
                continue
            begin, end = (int(number, 16) for number in where.split('-'))
            memory.seek(begin)
            for at in range(begin, end, 1 << 20):
                try:
                    size = memory.readinto(room[: min(1 << 20, end - at)])
                except OSError:
                    break
                found += room.obj.count(word, 0, size)
                room[:size] = bytes(size)
    return found
"""
MAPPED = """
import os
def writable(path):
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError:
        return False
    return True
[name for name in os.listdir('/proc/self/map_files') if writable('/proc/self/map_files/' + name)]
"""


@pytest.fixture(params=["fork", "copy", "cold", "javascript"])
def context(request: pytest.FixtureRequest, sandbox: Sandbox) -> CodeContext:
    match request.param:
        case "javascript":
            return sandbox.create_code_context("javascript")
        case "cold":
            return sandbox.create_code_context(env_vars={"PYTHONHASHSEED": "1"})
        case "copy":
            return sandbox.create_code_context().fork()
        case _:
            return sandbox.create_code_context()


def read(sandbox: Sandbox, context: CodeContext, path: str) -> str:
    code = (
        f"print(open({path!r}).read())"
        if context.language == "python"
        else f"console.log(require('fs').readFileSync({path!r}, 'utf8'))"
    )
    execution = sandbox.run_code(code, context=context)
    assert execution.error is None, execution.error
    return "".join(execution.logs.stdout)


@NEEDS_ROOT
def test_a_kernel_has_no_capability(sandbox: Sandbox, context: CodeContext) -> None:
    status = dict(
        line.split(":\t") for line in read(sandbox, context, "/proc/self/status").splitlines() if ":\t" in line
    )
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1"
    # Two PID namespaces deep: the room's, and the one for user code.
    assert len(status["NSpid"].split()) == 1


def test_a_kernel_is_in_the_namespaces_of_commands(sandbox: Sandbox, context: CodeContext) -> None:
    listing = "for n in cgroup ipc mnt net pid user uts; do readlink /proc/$$/ns/$n; done"
    theirs = sandbox.exec(listing).stdout.split()
    code = (
        "import os; print(*(os.readlink(f'/proc/self/ns/{n}') for n in 'cgroup ipc mnt net pid user uts'.split()))"
        if context.language == "python"
        else "console.log(...'cgroup ipc mnt net pid user uts'.split(' ')"
        ".map(n => require('fs').readlinkSync(`/proc/self/ns/${n}`)))"
    )
    assert "".join(sandbox.run_code(code, context=context).logs.stdout).split() == theirs


def test_a_kernel_has_no_descriptor_but_its_own(sandbox: Sandbox) -> None:
    for context in (sandbox.create_code_context(), sandbox.create_code_context().fork()):
        code = (
            "import os, json\nfolder = '/proc/self/fd'\n"
            "paths = [f'{folder}/{name}' for name in os.listdir(folder)]\n"
            "print(json.dumps([os.readlink(path) for path in paths if os.path.islink(path)]))"
        )
        links = json.loads("".join(sandbox.run_code(code, context=context).logs.stdout))
        strange = [link for link in links if not link.startswith(("pipe:", "socket:", "/dev/null", "anon_inode:"))]
        assert not strange
        # The channel, and the two ends of what wakes its event loop.
        assert sum(link.startswith("socket:") for link in links) == 3


def test_the_server_s_environment_is_nowhere_in_a_kernel(fresh_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    with Sandbox() as sandbox:
        execution = sandbox.run_code(SEARCH)
        assert execution.error is None, execution.error
        # Of each text there are the copies that the search itself has made.
        found, control, home = (
            sandbox.run_code(f"copies({word[::-1]!r})").text for word in (SECRET, CONTROL, str(fresh_home))
        )
        assert found == control
        assert home == control
        environ = sandbox.run_code("open('/proc/self/environ').read()").text
    assert environ is not None
    assert SECRET not in environ


def test_a_kernel_s_program_is_not_the_host_s(sandbox: Sandbox, tmp_path: Path) -> None:
    context = sandbox.create_code_context()
    own = sandbox.run_code("import os; s = os.stat('/proc/self/exe'); f'{s.st_dev} {s.st_ino}'", context=context).text
    host = os.stat(sys.executable)
    assert own != f"'{host.st_dev} {host.st_ino}'"
    refused = sandbox.run_code("import os; os.open('/proc/self/exe', os.O_RDWR)", context=context).error
    assert refused is not None
    assert refused.name in {"PermissionError", "OSError"}
    # Where a program runs from a file of its own, whoever holds it open can write to it when it has ended.
    copy = tmp_path / "python"
    shutil.copy(os.path.realpath(sys.executable), copy)
    script = (
        "import os\n"
        "held = os.open('/proc/self/exe', os.O_PATH); os.set_inheritable(held, True)\n"
        "os.execv('/bin/sh', ['sh', '-c', f': >> /proc/self/fd/{held} && echo opened'])"
    )
    control = subprocess.run([copy, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert control.stdout == "opened\n"
    held = sandbox.run_code(
        "import os, subprocess\nheld = os.open('/proc/self/exe', os.O_PATH)\n"
        "subprocess.run(['sh', '-c', f': >> /proc/self/fd/{held} && echo opened'], pass_fds=[held])",
        context=context,
    )
    assert "opened" not in "".join(held.logs.stdout)
    # Busy while one runs it, sealed for ever.
    seals = "import fcntl; fcntl.fcntl(open('/proc/self/exe', 'rb'), fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE"
    assert sandbox.run_code(seals, context=context).text == str(fcntl.F_SEAL_WRITE)


def test_no_file_that_a_kernel_has_mapped_can_be_written_through_it(sandbox: Sandbox) -> None:
    execution = sandbox.run_code(MAPPED)
    assert execution.error is not None or execution.text == "[]"


def test_a_cell_can_neither_signal_nor_trace_the_first_process(sandbox: Sandbox, context: CodeContext) -> None:
    if context.language != "python":
        pytest.skip("a cell in Python says it all")
    error = sandbox.run_code("open('/proc/1/mem', 'r+b')", context=context).error
    assert error is not None and error.name == "PermissionError"
    sandbox.run_code("import os; os.kill(1, 9)", context=context)
    assert sandbox.exec("echo alive").stdout == "alive\n"
