"""A sandbox may replace every program and library it has: after it wakes, none of them runs but as user code."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandcove import Sandbox
from tests.security.probes import NEEDS_ROOT

RECORD = "/workspace/record"
# Appends what it can tell of the process that it runs in, one line each; no line where /proc does not show it.
SOURCE = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

__attribute__((constructor)) static void record(void) {
    char line[256], effective[64] = "?", privileges[16] = "?", bounding[64] = "?";
    struct stat place;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status)) {
        sscanf(line, "CapEff: %63s", effective);
        sscanf(line, "CapBnd: %63s", bounding);
        sscanf(line, "NoNewPrivs: %15s", privileges);
    }
    if (status) fclose(status);
    if (stat("/proc/self/ns/pid", &place)) place.st_ino = 0;
    int out = open(RECORD, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (out < 0) return;
    unsigned long number = place.st_ino;
    int size = snprintf(line, sizeof line, "%s %s %s %lu\n", effective, bounding, privileges, number);
    if (write(out, line, size) < 0) return;
    close(out);
}
#ifdef PROGRAM
int main(void) { return 42; }
#endif
"""
# In the sandbox: `$1` is put in place of each of the files that follow.
REPLACE = 'new=$1; shift; for path; do cp -f "$new" "$(readlink -f "$path")" || exit 1; done'
MODULE = "import os\nopen('/workspace/imported', 'a').write('x')\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recorder as a library and as a static program, and the same recording elsewhere on the host."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler: cc")
    folder = tmp_path_factory.mktemp("built")
    (folder / "source.c").write_text(SOURCE)
    for name, *options in (
        ("library", "-shared", "-fPIC", f'-DRECORD="{RECORD}"'),
        ("program", "-static", "-DPROGRAM", f'-DRECORD="{RECORD}"'),
        ("control", "-shared", "-fPIC", f'-DRECORD="{folder}/record"'),
    ):
        done = subprocess.run(
            [compiler, *options, "-o", folder / name, folder / "source.c"], check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            pytest.skip(f"the C compiler can't build the probe: {done.stderr}")
    return folder


@pytest.fixture
def sandbox(home: Path) -> Iterator[Sandbox]:
    made = Sandbox("replaced-programs")
    try:
        yield made
    finally:
        made.destroy()


def _records(sandbox: Sandbox) -> list[list[str]]:
    return [line.split() for line in sandbox.read_file(RECORD).splitlines()] if sandbox.exists(RECORD) else []


def _check(sandbox: Sandbox) -> None:
    """Whatever ran, ran without capabilities, in the PID namespace of user code."""
    for effective, bounding, privileges, namespace in _records(sandbox):
        assert int(effective, 16) == 0
        assert int(bounding, 16) == 0
        assert privileges == "1"
        assert namespace != "0"


@NEEDS_ROOT
def test_the_probe_records_capabilities(built: Path) -> None:
    """The control for all of this file: outside of a sandbox it records that it has some."""
    subprocess.run(["/bin/true"], env={"LD_PRELOAD": str(built / "control")}, check=True)
    effective, bounding, privileges, _ = (built / "record").read_text().split()
    assert int(effective, 16)
    assert int(bounding, 16)
    assert privileges == "0"


def test_a_library_in_every_process(sandbox: Sandbox, built: Path) -> None:
    sandbox.upload(built / "library", "/usr/local/lib/recorder.so")
    sandbox.write_file("/etc/ld.so.preload", "/usr/local/lib/recorder.so\n")
    sandbox.sleep()
    assert sandbox.exec("echo awake").stdout == "awake\n"
    isolated = sandbox.create_session("isolated", isolation=True)
    assert isolated.exec("echo awake").stdout == "awake\n"
    (built / "folder").mkdir(exist_ok=True)
    sandbox.upload(built / "folder", "/workspace/folder")
    own = sandbox.exec("stat -Lc %i /proc/self/ns/pid").stdout.strip()
    records = _records(sandbox)
    assert len(records) >= 4
    _check(sandbox)
    assert own in {record[3] for record in records}


@pytest.mark.parametrize("programs", [["/bin/cat", "/bin/tar", "/bin/sh", "/usr/bin/env"], ["/bin/bash"]])
def test_programs(sandbox: Sandbox, built: Path, programs: list[str]) -> None:
    sandbox.upload(built / "program", "/usr/local/bin/recorder")
    assert sandbox.exec(["sh", "-c", REPLACE, "sh", "/usr/local/bin/recorder", *programs]).success
    sandbox.sleep()
    sandbox.wake()
    if "/bin/bash" in programs:
        with pytest.raises(Exception, match="/bin/bash"):
            sandbox.exec("true", timeout=10)
    else:
        assert sandbox.exec("cat", timeout=10).exit_code == 42
    assert _records(sandbox)
    _check(sandbox)


@pytest.mark.parametrize("what", ["libc.so.6", "ld.so", "libgcc_s.so.1", "libpthread.so.0"])
def test_the_c_library(sandbox: Sandbox, built: Path, what: str) -> None:
    """Nothing starts in the sandbox any more, or it starts as user code; the agent goes on answering."""
    library = _library(what)
    if library is None:
        pytest.skip(f"this machine has no {what}")
    sandbox.upload(built / "library", "/usr/local/lib/recorder.so")
    # The running shell has its libraries open: `cat` and a redirection would need new ones.
    sandbox.exec(
        [
            "python3",
            "-c",
            "import os, sys; os.replace(sys.argv[1], os.path.realpath(sys.argv[2]))",
            "/usr/local/lib/recorder.so",
            library,
        ],
        timeout=20,
    )
    sandbox.sleep()
    sandbox.wake()
    sandbox.write_file("/workspace/big", b"x" * 600_000)
    assert len(sandbox.read_file("/workspace/big", encoding=None)) == 600_000
    assert sandbox.list_files("/workspace")
    _check(sandbox)


def _library(name: str) -> str | None:
    """Where this process has a library from; `ld.so` is what starts programs."""
    if name != "ld.so":
        try:
            ctypes.CDLL(name)
        except OSError:
            return None
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[-1]
        if path.endswith(f"/{name}") or (name == "ld.so" and os.path.basename(path).startswith("ld-linux")):
            return path
    return None


def test_modules_of_python(sandbox: Sandbox) -> None:
    """The agent is Python itself, and was imported before the sandbox was there."""
    plant = f"""
import base64, json, mimetypes, os, pathlib, sys
places = [pathlib.Path(module.__file__) for module in (base64, json, mimetypes)]
places += [pathlib.Path(place) / name for place in sys.path if os.path.isdir(place)
           for name in ("sitecustomize.py", "msgspec/__init__.py", "uvicorn/__init__.py", "sandcove/__init__.py")]
for place in places:
    if place.parent.is_dir() or place.name == "__init__.py":
        place.parent.mkdir(exist_ok=True)
        old = place.read_text() if place.exists() else ""
        place.unlink(missing_ok=True)
        lines = old.splitlines(keepends=True)
        future = [number for number, line in enumerate(lines) if line.startswith("from __future__")]
        at = future[-1] + 1 if future else len(lines)
        place.write_text("".join(lines[:at]) + {MODULE!r} + "".join(lines[at:]))
"""
    assert sandbox.exec(["python3", "-c", plant], timeout=20).success
    sandbox.delete_file("/workspace/imported") if sandbox.exists("/workspace/imported") else None
    sandbox.sleep()
    assert sandbox.exec("echo awake").stdout == "awake\n"
    sandbox.create_session("isolated", isolation=True).exec("true")
    sandbox.write_file("/workspace/big", "x" * 600_000)
    sandbox.read_file("/workspace/big")
    sandbox.list_files("/workspace")
    assert not sandbox.exists("/workspace/imported")
    # The control: a Python of user code imports them.
    sandbox.exec("python3 -c 'import json'", timeout=10)
    assert sandbox.exists("/workspace/imported")
