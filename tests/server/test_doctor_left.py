"""What killed doctors leave behind is deleted by the next doctor and by a server's start, and nothing else is."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandcove import list_sandboxes
from sandcove.runtimes.local.trial_folder import clear_left
from tests.server.test_doctor import DOCTOR, examined, root_only

TRYING = """
import os, sys
from sandcove.runtimes.local import doctor
from sandcove.runtimes.local.trial_folder import trial_folder

def stay():
    doctor._overlay_trial(folder)
    print(os.getpid(), flush=True)
    sys.stdin.read()

with trial_folder() as folder:
    print(folder, flush=True)
    doctor.PATIENCE = 60
    doctor._try(stay)
"""
LEFT = ".doctor-0123456789abcdef"


@pytest.fixture
def place() -> Iterator[Path]:
    """A short path."""
    path = Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@contextmanager
def killed(home: Path) -> Iterator[tuple[Path, int]]:
    """The folder of a doctor that is killed in a trial. The trial's fork has overlays mounted there until the
    descriptor is closed."""
    ours, theirs = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-P", "-c", TRYING],
        stdin=ours,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"SANDCOVE_HOME": str(home)},
    ) as doctor:
        os.close(ours)
        assert doctor.stdout is not None
        folder = Path(doctor.stdout.readline().strip())
        fork = os.pidfd_open(int(doctor.stdout.readline()))
        doctor.kill()
        doctor.wait()
        with open(theirs, "wb") as lives:
            yield folder, lives.fileno()
        assert select.select([fork], [], [], 20)[0], "the fork has not ended"
        os.close(fork)


def left_by_a_killed_doctor(home: Path) -> Path:
    with killed(home) as (folder, _):
        pass
    assert any(path.name == "work" and path.stat().st_mode & 0o777 == 0 for path in folder.rglob("*"))
    return folder


def test_the_next_doctor_deletes_it_once_its_trial_has_ended(capable: None, place: Path) -> None:
    with killed(place) as (folder, _):
        assert examined([sys.executable, *DOCTOR], SANDCOVE_HOME=str(place))["ok"]
        assert os.listdir(place) == [folder.name] and (folder / "upper").is_dir(), "its trial goes on"
    assert examined([sys.executable, *DOCTOR], SANDCOVE_HOME=str(place))["ok"]
    assert os.listdir(place) == []


def test_a_server_deletes_it_when_it_starts(fresh_home: Path) -> None:
    folder = left_by_a_killed_doctor(fresh_home)
    list_sandboxes()
    assert not folder.exists()


def test_one_from_before_there_was_a_folder_for_sandboxes(capable: None, place: Path) -> None:
    place.chmod(0o755)
    folder = left_by_a_killed_doctor(place / "state" / "home")
    assert folder.parent == place
    (place / "state" / "home").mkdir(parents=True)
    assert examined([sys.executable, *DOCTOR], SANDCOVE_HOME=str(place / "state" / "home"))["ok"]
    assert os.listdir(place) == ["state"]


def test_nothing_else_is_deleted(place: Path) -> None:
    (place / "elsewhere" / "kept").mkdir(parents=True)
    (place / LEFT).symlink_to("elsewhere")
    others = [".doctor-settings", f"{LEFT}0", f"x{LEFT}"]
    for name in others:
        (place / name / "kept").mkdir(parents=True)
    for number in range(8):
        (place / f".doctor-fedcba987654321{number}").write_text("a file")
    before = sorted(place.rglob("*"))
    for number in range(8):
        (place / f".doctor-0123456789abcde{number}").mkdir()
    clear_left(place)
    assert sorted(place.rglob("*")) == before
    clear_left(place / "nothing")


@pytest.mark.parametrize(("mode", "deleted"), [(0o755, True), (0o1777, True), (0o777, False), (0o775, False)])
def test_where_others_could_have_named_it_so_it_stays(place: Path, mode: int, deleted: bool) -> None:
    (place / LEFT / "deep").mkdir(parents=True)
    place.chmod(mode)
    clear_left(place)
    assert (place / LEFT).exists() != deleted


@root_only
@pytest.mark.parametrize("of_place", [True, False])
def test_what_is_another_user_s_stays(place: Path, of_place: bool) -> None:
    (place / LEFT).mkdir()
    os.chown(place if of_place else place / LEFT, 12345, 12345)
    clear_left(place)
    assert (place / LEFT).exists()


@root_only
def test_files_of_other_user_ids(place: Path) -> None:
    (place / LEFT / "of-another").mkdir(parents=True, mode=0o700)
    (place / LEFT / "of-another" / "file").write_text("x")
    for path in (place, place / LEFT):
        os.chown(path, 12345, 12345)
    os.seteuid(12345)
    try:
        clear_left(place)  # its owner can't delete what is root's in it, and that is no error
    finally:
        os.seteuid(0)
    assert (place / LEFT / "of-another" / "file").exists()
    for path, owner in ((place, 0), (place / LEFT, 0), (place / LEFT / "of-another", 12345)):
        os.chown(path, owner, owner)
    clear_left(place)
    assert os.listdir(place) == []
