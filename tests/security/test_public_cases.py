"""Ways out of other sandboxes that became known, each by its number: tried on this one, and where they lead."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import sandcove
from tests.security.probes import NEEDS_ROOT

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
