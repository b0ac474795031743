"""Programs that install what they fetch: from a host of this test's own, and a few from the registries."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import express
from sandcove import Sandbox
from tests.conftest import sandcove_home
from tests.egress.far import NAME, far_host, found, make_archive, make_index, make_repository

PYPI = ("pypi.org", "files.pythonhosted.org")
NPM = ("registry.npmjs.org",)
DEBIAN = ("deb.debian.org",)
WAYS = ("command", "session", "process", "exclamation", "percent", "subprocess")


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if not any(address.startswith("127.") for address in found(NAME)):
        pytest.skip(f"this machine's name {NAME} does not lead to its loopback")
    root = tmp_path_factory.mktemp("far")
    make_index(root, *(f"tiny_{way}" for way in WAYS))
    if shutil.which("git"):
        make_repository(root)
    if shutil.which("dpkg-deb"):
        make_archive(root)
    with far_host(root) as port:
        yield port


@pytest.fixture(scope="module")
def home(capable: None, far: int) -> Iterator[Path]:
    """A server whose operator allows the far host, and what the registries' names lead to here."""
    registries = [f"[{a}]" if ":" in a else a for group in (PYPI, NPM, DEBIAN) for a in sorted(found(*group))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDCOVE_EGRESS_PRIVATE", ",".join([f"127.0.0.1:{far}", *registries]))
        with sandcove_home() as path:
            yield path


@pytest.fixture(scope="module")
def box(home: Path, far: int) -> Iterator[Sandbox]:
    with Sandbox(egress=[f"{NAME}:{far}"]) as sandbox:
        yield sandbox


def reach(*names: str) -> None:
    if not found(*names):
        pytest.skip(f"this machine does not reach {names[0]}")


@pytest.mark.parametrize("way", WAYS)
def test_pip_wherever_code_runs(box: Sandbox, far: int, way: str) -> None:
    install = f"pip install -q --no-input --index-url http://{NAME}:{far}/simple --trusted-host {NAME} tiny_{way}"
    shown = f"import tiny_{way}; print(tiny_{way}.word)"
    if way == "command":
        said = box.exec(f'{install} && python -c "{shown}"', timeout=60).stdout
    elif way == "session":
        said = box.create_session("other").exec(f'{install} && python -c "{shown}"', timeout=60).stdout
    elif way == "process":
        process = box.start_process(f'{install} && python -c "{shown}"')
        process.wait(timeout=60)
        said = process.logs().stdout
    else:
        begin = {
            "exclamation": f"!{install}",
            "percent": f"%{install}",
            "subprocess": f"import subprocess; subprocess.run({install!r}, shell=True, check=True)",
        }[way]
        ran = box.run_code(f"{begin}\n{shown}", timeout=60)
        assert ran.error is None, ran.error
        said = "".join(ran.logs.stdout)
    assert said.splitlines()[-1] == f"tiny_{way}"


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_git_clones_from_a_real_server(box: Sandbox, far: int) -> None:
    url = f"http://{NAME}:{far}/git/repo.git"
    for options, shown in (("", "second"), ("--depth 1", "second"), ("--branch old", "first")):
        ran = box.exec(f"rm -rf /tmp/r && git clone -q {options} {url} /tmp/r && cat /tmp/r/README", timeout=60)
        assert ran.stdout == shown, ran.stderr
    assert box.exec("cd /tmp/r && git fetch -q origin main && git log --format=%s -1 origin/main").stdout == "second\n"
    box.git_checkout(url, target_dir="/workspace/r")
    assert box.read_file("/workspace/r/README") == "second"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("dpkg-deb"), reason="needs a server that is root, and dpkg")
def test_apt_installs(home: Path, far: int) -> None:
    """A package with other users' files, in a sandbox whose root may give none away; it stays over a sleep."""
    with Sandbox("installs", egress=[f"{NAME}:{far}"]) as sandbox:
        try:
            line = f"deb [trusted=yes] http://{NAME}:{far}/apt ./"
            sandbox.exec(f"rm /etc/apt/sources.list.d/*; echo '{line}' > /etc/apt/sources.list", check=True)
            ran = sandbox.exec("apt-get update -q && apt-get install -yq tiny-thing", timeout=60)
            assert ran.exit_code == 0, ran.stdout + ran.stderr
            assert sandbox.exec("tiny-thing").stdout == "tiny runs\n"
            sandbox.sleep()
            assert sandbox.exec("tiny-thing").stdout == "tiny runs\n"
            assert "install ok installed" in sandbox.exec("dpkg -s tiny-thing").stdout
            assert sandbox.exec("apt-get remove -yq tiny-thing && test -e /usr/bin/tiny-thing").exit_code == 1
            assert sandbox.exec("dpkg --audit && apt-get check").exit_code == 0
        finally:
            sandbox.destroy()
    # The host's own list, and another sandbox's, have not changed.
    assert not os.path.exists("/var/lib/dpkg/info/tiny-thing.list")
    with Sandbox() as other:
        assert other.exec("dpkg -s tiny-thing").exit_code == 1


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/etc/debian_version"), reason="needs root, and Debian")
def test_apt_by_its_preset_alone(home: Path) -> None:
    reach(*DEBIAN)
    with Sandbox(egress=["debian"]) as sandbox:
        ran = sandbox.exec("apt-get update -q && apt-get install -yq tree && tree --version", timeout=120)
        assert "tree v" in ran.stdout, ran.stderr
        assert {entry.verdict for entry in sandbox.get_egress_log()} == {"allowed"}


def test_a_wheel_with_native_code_in_an_environment_of_its_own(home: Path) -> None:
    reach(*PYPI)
    with Sandbox(egress=["python"]) as sandbox:
        sandbox.exec("python -m venv --without-pip v", check=True, timeout=60)
        ran = sandbox.exec(
            "pip --python v/bin/python install -q markupsafe && "
            "v/bin/python -c 'import markupsafe._speedups as s; print(s.__file__)'",
            timeout=120,
        )
        assert ran.stdout.startswith("/workspace/v/") and ".so" in ran.stdout, ran.stderr


def test_a_web_application_of_nodes(home: Path) -> None:
    """The example's: it is installed inside, served, and called."""
    reach(*NPM)
    with Sandbox(egress="node") as sandbox:
        if sandbox.exec("command -v npm").exit_code:
            pytest.skip("there is no npm here")
        express.serve(sandbox)
        assert express.note(sandbox, "installed inside") == ["installed inside"]
        assert {entry.verdict for entry in sandbox.get_egress_log()} == {"allowed"}
