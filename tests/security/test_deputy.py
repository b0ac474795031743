"""The agent has rights that user code lacks: its file routes can't be made to use them for user code."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from sandcove import Sandbox
from sandcove.errors import FileSystemError, PathNotFoundError, SandboxError
from tests.security.probes import inside, outside

# By its own number, `self` and PID 1 the agent could reach its own process, or one that user code may not enter.
PLACES = [
    f"/proc/{who}/{what}"
    for who in ("self", "thread-self", "1")
    for what in ("environ", "mem", "maps", "auxv", "exe", "fd/0", "fd/3", "cwd/etc/passwd", "root/etc/passwd")
]
SHUT = (FileSystemError, PathNotFoundError)


@pytest.mark.parametrize("place", PLACES)
def test_a_link_into_a_process(cell: Sandbox, tmp_path: Path, place: str) -> None:
    link = "/tmp/into-a-process"
    assert cell.exec(["ln", "-sfn", place, link]).success
    with pytest.raises(SHUT):
        cell.read_file(link, encoding=None)
    with pytest.raises(SHUT):
        cell.write_file(link, "x")
    with pytest.raises(SHUT):
        cell.download(place, tmp_path / "down")
    # User code itself can read its own: the link is as good as the one who follows it.
    if "/self/environ" in place:
        assert inside(cell, "open(args[0]).read()", link).reached


@pytest.mark.parametrize("what", ["fd", "task/1/fd", "map_files", "cwd", "root"])
def test_a_folder_of_a_process(cell: Sandbox, tmp_path: Path, what: str) -> None:
    place = f"/proc/1/{what}"
    with pytest.raises(SandboxError):
        cell.list_files(f"{place}/")
    with pytest.raises(SandboxError):
        cell.download(f"{place}/", tmp_path / "down")
    with pytest.raises(SandboxError):
        cell.delete_file(f"{place}/etc", recursive=True)
    assert cell.exists("/etc/passwd")
    assert outside("os.listdir(args[0])", "/proc/self/fd").reached


@pytest.mark.parametrize("device", ["zero", "full", "urandom", "ptmx", "tty"])
def test_a_device(cell: Sandbox, tmp_path: Path, device: str) -> None:
    """They have no end, or an effect."""
    assert cell.exec(["ln", "-sfn", f"/dev/{device}", "/tmp/device"]).success
    for path in ("/tmp/device", f"/dev/{device}"):
        with pytest.raises(FileSystemError):
            cell.read_file(path, encoding=None)
        with pytest.raises(FileSystemError):
            cell.write_file(path, "x")
        with pytest.raises(FileSystemError):
            cell.download(path, tmp_path / "down")
    assert outside("open('/dev/zero', 'rb').read(16)").reached


def test_a_pipe_holds_nobody_up(cell: Sandbox, tmp_path: Path) -> None:
    """Without O_NONBLOCK the open would wait for a writer, and the agent with it."""
    cell.exec("mkfifo /tmp/pipe; mkdir -p /tmp/with-pipe; mkfifo /tmp/with-pipe/pipe; ln -sfn /tmp/pipe /tmp/to-pipe")
    for path in ("/tmp/pipe", "/tmp/to-pipe"):
        with pytest.raises(FileSystemError):
            cell.read_file(path)
        with pytest.raises(FileSystemError):
            cell.write_file(path, "x")
    assert {found.name for found in cell.list_files("/tmp/with-pipe")} == {"pipe"}
    cell.delete_file("/tmp/with-pipe", recursive=True)
    assert cell.exec("echo alive").stdout == "alive\n"


READ = """
import resource, sys
from sandcove import Sandbox
from sandcove.errors import SandboxError
sandbox = Sandbox(sys.argv[1])
sandbox.ping()
# A limit on this client only: the machine's memory must not be what stops it.
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    sandbox.read_file(sys.argv[2], encoding=None)
except SandboxError as error:
    print("refused:", error)
except MemoryError:
    print("out of memory")
else:
    print("read")
"""


def test_a_file_longer_than_memory(home: Path) -> None:
    """Its size costs the sandbox nothing; who reads it must not have to find the memory for it."""
    with Sandbox("longer-than-memory", limits={"disk": 0}) as sandbox:
        try:
            sandbox.exec("truncate -s 64G /tmp/sparse; head -c 1000000 /dev/zero > /tmp/short")

            def read(path: str) -> str:
                argv = [sys.executable, "-c", READ, sandbox.id, path]
                done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
                return done.stdout or done.stderr

            assert read("/tmp/short") == "read\n"
            assert read("/tmp/sparse").startswith("refused")
            assert sandbox.exec("echo alive").stdout == "alive\n"
        finally:
            sandbox.destroy()


def test_deleting_a_link_spares_what_it_names(cell: Sandbox) -> None:
    cell.exec("mkdir -p /tmp/kept/below && touch /tmp/kept/file && mkdir /tmp/full && ln -s /tmp/kept /tmp/full/link")
    cell.delete_file("/tmp/full", recursive=True)
    cell.exec("ln -s /tmp/kept /tmp/link")
    cell.delete_file("/tmp/link", recursive=True)
    assert cell.exists("/tmp/kept/file")
    assert not cell.exists("/tmp/full")
    # The control: who walks by names loses it.
    by_name = """
def walk(path):
    for name in os.listdir(path):
        below = path + "/" + name
        walk(below) if os.path.isdir(below) else os.unlink(below)
walk("/tmp/again")
os.path.exists("/tmp/kept/file") and refuse("spared")
"""
    cell.exec("mkdir /tmp/again && ln -s /tmp/kept /tmp/again/link")
    assert inside(cell, by_name).reached


def test_a_folder_that_becomes_a_link_while_it_is_deleted(home: Path) -> None:
    """A hundred recursive deletions against a process that swaps a folder for a link all the time."""
    swap = """
import os
while True:
    try:
        os.makedirs("/tmp/race/top/folder/deep", exist_ok=True)
        os.rename("/tmp/race/top/folder", "/tmp/race/aside")
        os.symlink("/tmp/kept", "/tmp/race/top/folder")
        os.unlink("/tmp/race/top/folder")
        os.rename("/tmp/race/aside", "/tmp/race/top/folder")
    except OSError:
        pass
"""
    with Sandbox() as sandbox:
        sandbox.exec("mkdir -p /tmp/race /tmp/kept/folder && touch /tmp/kept/file /tmp/kept/folder/file")
        sandbox.write_file("/tmp/swap.py", swap)
        sandbox.exec("python3 /tmp/swap.py >/dev/null 2>&1 &")
        for _ in range(100):
            try:
                sandbox.delete_file("/tmp/race/top", recursive=True)
            except SandboxError:
                pass  # something changed under it: what counts is what is left
        sandbox.exec("kill $(jobs -p); wait", timeout=10)
        sandbox.delete_file("/tmp/race", recursive=True)
        assert not sandbox.exists("/tmp/race")
        assert sandbox.exists("/tmp/kept/file")
        assert sandbox.exists("/tmp/kept/folder/file")


def test_a_hostile_archive_that_is_uploaded(home: Path, tmp_path: Path) -> None:
    """Tar unpacks it among user code: what it reaches is the sandbox's, never the host's."""
    outer = tmp_path / "outer"
    outer.mkdir()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in (f"../../../../../../../..{outer}/up", f"{outer}/absolute"):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
        device = tarfile.TarInfo("device")
        device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 1
        tar.addfile(device)
    with Sandbox() as sandbox:
        sandbox.write_file("/tmp/hostile.tar", archive.getvalue())
        unpacked = sandbox.exec(["tar", "-P", "-xf", "/tmp/hostile.tar", "-C", "/workspace"], timeout=20)
        assert not unpacked.success
        assert os.listdir(outer) == []
        assert sandbox.exists(f"{outer}/absolute"), "it was unpacked, in the sandbox"
        assert not sandbox.exists("/workspace/device")
    argv = ["tar", "-P", "-xf", "-", "-C", str(tmp_path)]
    subprocess.run(argv, input=archive.getvalue(), check=False, capture_output=True, timeout=20)
    assert sorted(os.listdir(outer)) == ["absolute", "up"]
