"""A sandbox sees no file of the host but the shared, read-only ones, and changes none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandcove import Sandbox
from tests.security.probes import NEEDS_ROOT, inside, outside

OPEN = "os.close(os.open(args[0], os.O_RDONLY))"
STAT = "os.stat(args[0])"
CONNECT = "socket.socket(socket.AF_UNIX).connect(args[0])"
BY_PROCESS = """
for pid in filter(str.isdigit, os.listdir("/proc")):
    for link in ("root", "cwd"):
        for up in ("", "/..", "/../../../../../.."):
            try:
                os.stat(f"/proc/{pid}/{link}{up}{args[0]}")
            except OSError:
                continue
            say(pid)
if not said:
    refuse("no process leads there")
"""
OPEN_FILES = """
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        continue
    for number in numbers:
        try:
            if args[0] in os.readlink(f"/proc/{pid}/fd/{number}"):
                os.stat(f"/proc/{pid}/fd/{number}")
                say(pid)
        except OSError:
            pass
if not said:
    refuse("no process has it open")
"""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the host that everybody may read."""
    path = tmp_path / "secret"
    path.write_text("of the host")
    path.chmod(0o644)
    return path


def test_a_file_of_the_host(cell: Sandbox, secret: Path) -> None:
    assert not inside(cell, OPEN, secret).reached
    assert outside(OPEN, secret).reached


@NEEDS_ROOT
def test_the_accounts_of_the_host(cell: Sandbox) -> None:
    assert not inside(cell, OPEN, "/etc/shadow").reached
    assert outside(OPEN, "/etc/shadow").reached
    assert cell.read_file("/etc/passwd") != Path("/etc/passwd").read_text()


def test_home_folders(cell: Sandbox) -> None:
    listed = "say(sorted(os.listdir(args[0])))"
    assert inside(cell, listed, "/home").said == ["[]"]
    own = os.path.expanduser("~")
    assert outside(listed, own).said != inside(cell, f"os.path.isdir(args[0]) or refuse('none'); {listed}", own).said
    wanted = {".bashrc", ".profile", ".ssh", ".bash_history", ".cache", ".config"} & set(os.listdir(own))
    for name in wanted:
        assert not inside(cell, STAT, f"{own}/{name}").reached
        assert outside(STAT, f"{own}/{name}").reached


def test_the_folder_of_the_server(cell: Sandbox, home: Path) -> None:
    for path in (home, home / "registry.db", home / "server.log", home / "sandboxes" / cell.id):
        assert not inside(cell, STAT, path).reached
        assert outside(STAT, path).reached


def test_the_sockets_of_the_server_and_the_agent(cell: Sandbox, home: Path) -> None:
    for path in (home / "server.sock", home / "run" / f"{cell.id}.sock"):
        assert not inside(cell, CONNECT, path).reached
        assert outside(CONNECT, path).reached


def test_sys(cell: Sandbox) -> None:
    assert not inside(cell, STAT, "/sys/kernel").reached
    assert outside(STAT, "/sys/kernel").reached


def test_by_way_of_a_process(cell: Sandbox, secret: Path) -> None:
    assert not inside(cell, BY_PROCESS, secret).reached
    assert outside(BY_PROCESS, secret).reached


def test_by_way_of_open_files(cell: Sandbox, home: Path) -> None:
    """No process that it can see has a file of the server's folder open."""
    assert not inside(cell, OPEN_FILES, home).reached
    assert outside(OPEN_FILES, home).reached


def test_by_the_parent_of_the_root(cell: Sandbox, secret: Path) -> None:
    climb = "os.chdir('/'); [os.chdir('..') for _ in range(64)]; os.stat(args[0].lstrip('/'))"
    assert not inside(cell, climb, secret).reached
    assert outside(climb, secret).reached


def test_by_file_handle(cell: Sandbox, secret: Path) -> None:
    """open_by_handle_at(2) finds a file by its number, wherever it is mounted: it needs a capability."""
    by_handle = """
buffer = ctypes.create_string_buffer(struct.pack("IiQQ", 128, 0, 0, 0) + bytes(128))
mount = ctypes.c_int()
call(libc.name_to_handle_at(-100, args[0].encode(), buffer, ctypes.byref(mount), 0))
call(libc.open_by_handle_at(os.open(args[0], os.O_RDONLY), buffer, os.O_RDONLY))
"""
    cell.write_file("/workspace/own", "x")
    assert not inside(cell, by_handle, "/workspace/own").reached
    if os.geteuid() == 0:
        assert outside(by_handle, secret).reached


def test_what_it_writes_stays_in_it(cell: Sandbox, home: Path) -> None:
    name = f"/usr/local/{home.name}"
    touch = "os.close(os.open(args[0], os.O_WRONLY | os.O_CREAT))"
    assert inside(cell, touch, name).reached
    assert cell.exists(name)
    assert not os.path.exists(name)
    assert list((home / "sandboxes" / cell.id).rglob(home.name)), "the write is in the sandbox's own layer"


@pytest.mark.xfail(strict=True, reason="the root is a bind mount, and the kernel names its source")
def test_the_mount_table_names_no_path_of_the_host(cell: Sandbox, home: Path) -> None:
    names = "args[0] in open('/proc/self/mountinfo').read() or refuse('not named')"
    assert not inside(cell, names, home).reached


def test_links_are_not_followed_on_the_host(home: Path, tmp_path: Path) -> None:
    """The server makes the missing folders of a sandbox's root before it wakes: never through the sandbox's links."""
    with Sandbox(f"links-{home.name[3:]}".lower().replace("_", "-").rstrip("-")) as sandbox:
        try:
            linked = sandbox.exec(["sh", "-c", 'mv /var /old && ln -s "$1" /var', "sh", str(tmp_path)])
            assert linked.success, linked.stderr
            # The control: the same path means a folder of the host to who follows the link there.
            root = home / "sandboxes" / sandbox.id / "root"
            assert os.path.realpath(root / "var") == str(tmp_path)
            sandbox.sleep()
            sandbox.wake()
            assert os.listdir(tmp_path) == []
        finally:
            sandbox.destroy()
