"""The systemd unit and the container file: checked and built where there is something that does it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from sandcove.server.config import SETTINGS
from tests.conftest import COMMAND

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "packaging" / "sandcove.service"
CONTAINER = ROOT / "packaging" / "Containerfile"
VARIABLES = {"SANDCOVE_HOME", "SANDCOVE_CONFIG", *(setting.variable for setting in SETTINGS)}


@pytest.mark.parametrize("file", [UNIT, CONTAINER], ids=lambda file: file.name)
def test_a_file_sets_only_what_there_is(file: Path) -> None:
    text = file.read_text()
    assert set(re.findall(r"SANDCOVE_[A-Z_]+", text)) <= VARIABLES
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {name for names in re.findall(r"\[([a-z,]+)\]", text) for name in names.split(",")} <= extras.keys()


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze on this machine")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/sandcove/bin/sandcove", COMMAND))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], check=False, capture_output=True, text=True, timeout=60
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_container_is_built_and_has_the_command() -> None:
    engine = next((name for name in ("podman", "docker") if works(name)), None)
    if engine is None:
        pytest.skip("no podman or docker on this machine can build: none is there, or its engine does not run")
    tag = "localhost/sandcove-test"
    build = [engine, "build", "-q", "-f", str(CONTAINER), "-t", tag, str(ROOT)]
    subprocess.run(build, check=True, timeout=800)
    try:
        told = subprocess.run(
            [engine, "run", "--rm", tag, "--help"], check=True, capture_output=True, text=True, timeout=60
        )
        assert "--tls-cert" in told.stdout
    finally:
        subprocess.run([engine, "rmi", tag], check=False, timeout=60)


def works(engine: str) -> bool:
    if shutil.which(engine) is None:
        return False
    return subprocess.run([engine, "info"], check=False, capture_output=True, timeout=60).returncode == 0
