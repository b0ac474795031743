"""What a sandbox sends as a folder can't write outside of the folder that the user named."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandcove import Sandbox
from sandcove.errors import SandboxError
from tests.security.probes import NEEDS_ROOT

Fill = Callable[[tarfile.TarFile, Path], None]


def _member(name: str, type: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = type, target, mode
    return member


def _file(tar: tarfile.TarFile, name: str, data: bytes = b"planted", mode: int = 0o644) -> None:
    member = _member(name, mode=mode)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _absolute(tar: tarfile.TarFile, outer: Path) -> None:
    _file(tar, f"{outer}/planted")


def _upwards(tar: tarfile.TarFile, outer: Path) -> None:
    _file(tar, "../outer/planted")


def _upwards_within(tar: tarfile.TarFile, outer: Path) -> None:
    tar.addfile(_member("a", tarfile.DIRTYPE, mode=0o755))
    _file(tar, "a/../../outer/planted")


def _through_a_link(tar: tarfile.TarFile, outer: Path) -> None:
    tar.addfile(_member("link", tarfile.SYMTYPE, str(outer)))
    _file(tar, "link/planted")


def _through_a_relative_link(tar: tarfile.TarFile, outer: Path) -> None:
    tar.addfile(_member("link", tarfile.SYMTYPE, "../outer"))
    _file(tar, "link/planted")


def _through_links_of_links(tar: tarfile.TarFile, outer: Path) -> None:
    """Each points into the folder by its looks; together they lead out."""
    for folder in ("a", "a/b"):
        tar.addfile(_member(folder, tarfile.DIRTYPE, mode=0o755))
    tar.addfile(_member("a/b/up", tarfile.SYMTYPE, ".."))
    tar.addfile(_member("up", tarfile.SYMTYPE, "a/b/up/../.."))
    _file(tar, "up/outer/planted")


def _over_a_link(tar: tarfile.TarFile, outer: Path) -> None:
    tar.addfile(_member("own", tarfile.SYMTYPE, str(outer / "own")))
    _file(tar, "own", b"changed")


def _hard_link(tar: tarfile.TarFile, outer: Path) -> None:
    """A second name for the user's file, and then new content for it."""
    tar.addfile(_member("name", tarfile.LNKTYPE, str(outer / "own")))
    with_content = _member("name")
    with_content.size = 7
    tar.addfile(with_content, io.BytesIO(b"changed"))


def _folder_over_a_link(tar: tarfile.TarFile, outer: Path) -> None:
    tar.addfile(_member("link", tarfile.SYMTYPE, str(outer)))
    tar.addfile(_member("link", tarfile.DIRTYPE, mode=0o777))
    _file(tar, "link/planted")


ESCAPES: dict[str, Fill] = {
    "absolute": _absolute,
    "upwards": _upwards,
    "upwards within": _upwards_within,
    "through a link": _through_a_link,
    "through a relative link": _through_a_relative_link,
    "through links of links": _through_links_of_links,
    "folder over a link": _folder_over_a_link,
}
# What a careful reader of names would pass, but writes over a file that has another name outside.
OVERWRITES: dict[str, Fill] = {"over a link": _over_a_link, "hard link": _hard_link}


@pytest.fixture(scope="module")
def sender(home: Path) -> Iterator[Sandbox]:
    """A sandbox whose tar sends the archive /workspace/hostile, whatever it is asked for."""
    with Sandbox() as sandbox:
        sandbox.exec("mkdir /workspace/asked && cp /bin/cat /bin/cat.real")
        sandbox.write_file("/tmp/tar", "#!/bin/sh\nexec cat /workspace/hostile\n", mode=0o755)
        sandbox.exec("mv /tmp/tar $(readlink -f /bin/tar)")
        yield sandbox


@pytest.fixture
def outer(tmp_path: Path) -> Path:
    """A folder of the user beside the one that is downloaded into."""
    folder = tmp_path / "outer"
    folder.mkdir()
    (folder / "own").write_text("own")
    return folder


def _archive(fill: Fill, outer: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        fill(tar, outer)
    return buffer.getvalue()


def _download(sender: Sandbox, data: bytes, to: Path) -> None:
    sender.write_file("/workspace/hostile", data)
    try:
        sender.download("/workspace/asked", to)
    except SandboxError:
        pass  # refusing it all is right, and so is leaving out what leads outside


def _naive(data: bytes, to: Path) -> None:
    """The control: what tar does with it when it is told to trust the names."""
    to.mkdir(exist_ok=True)
    subprocess.run(["tar", "-P", "-xf", "-", "-C", to], input=data, check=False, capture_output=True, timeout=20)


@pytest.mark.parametrize("how", ESCAPES)
def test_nothing_lands_outside(sender: Sandbox, outer: Path, tmp_path: Path, how: str) -> None:
    data = _archive(ESCAPES[how], outer)
    _download(sender, data, tmp_path / "into")
    assert os.listdir(outer) == ["own"]
    if how not in ("through links of links", "folder over a link"):
        _naive(data, tmp_path / "naive")
        assert "planted" in os.listdir(outer)


@pytest.mark.parametrize("how", OVERWRITES)
def test_nothing_outside_is_changed(sender: Sandbox, outer: Path, tmp_path: Path, how: str) -> None:
    data = _archive(OVERWRITES[how], outer)
    _download(sender, data, tmp_path / "into")
    assert (outer / "own").read_text() == "own"
    assert (outer / "own").stat().st_nlink == 1


def test_a_link_that_was_there_before(sender: Sandbox, outer: Path, tmp_path: Path) -> None:
    """Another process of the user's machine may have put it there; the archive is harmless in itself."""
    into = tmp_path / "into"
    into.mkdir()
    (into / "link").symlink_to(outer)
    (into / "file").symlink_to(outer / "own")

    def fill(tar: tarfile.TarFile, _: Path) -> None:
        _file(tar, "file", b"changed")
        _file(tar, "link/planted")

    _download(sender, _archive(fill, outer), into)
    assert os.listdir(outer) == ["own"]
    assert (outer / "own").read_text() == "own"
    (tmp_path / "naive").mkdir()
    (tmp_path / "naive" / "link").symlink_to(outer)
    _naive(_archive(lambda tar, _: _file(tar, "link/planted"), outer), tmp_path / "naive")
    assert (outer / "planted").exists()


@NEEDS_ROOT
@pytest.mark.parametrize("type", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_no_device_is_made(sender: Sandbox, outer: Path, tmp_path: Path, type: bytes) -> None:
    member = _member("device", type)
    member.devmajor, member.devminor = 1, 3
    data = _archive(lambda tar, _: tar.addfile(member), outer)
    _download(sender, data, tmp_path / "into")
    assert not os.path.lexists(tmp_path / "into" / "device")
    _naive(data, tmp_path / "naive")
    assert not stat.S_ISREG((tmp_path / "naive" / "device").lstat().st_mode)


def test_no_program_is_set_uid(sender: Sandbox, outer: Path, tmp_path: Path) -> None:
    def fill(tar: tarfile.TarFile, _: Path) -> None:
        _file(tar, "program", mode=0o6755)
        tar.addfile(_member("folder", tarfile.DIRTYPE, mode=0o7777))

    data = _archive(fill, outer)
    _download(sender, data, tmp_path / "into")
    assert stat.S_IMODE((tmp_path / "into" / "program").stat().st_mode) == 0o755
    assert not (tmp_path / "into" / "folder").stat().st_mode & 0o7000
    _naive(data, tmp_path / "naive")
    assert (tmp_path / "naive" / "program").stat().st_mode & 0o6000


@pytest.mark.parametrize("key", ["GNU.sparse.size", "GNU.sparse.realsize"])
def test_a_sparse_file_of_a_petabyte(sender: Sandbox, outer: Path, tmp_path: Path, key: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = _member("sparse")
        member.pax_headers = {key: str(2**50), "GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        tar.addfile(member)
    _download(sender, buffer.getvalue(), tmp_path / "into")
    found = tmp_path / "into" / "sparse"
    assert not found.exists() or found.stat().st_size == 0


def test_a_file_that_is_announced_larger_than_it_comes(sender: Sandbox, outer: Path, tmp_path: Path) -> None:
    member = _member("announced")
    member.size = 2**40
    sender.write_file("/workspace/hostile", member.tobuf(tarfile.GNU_FORMAT) + b"x" * 512)
    with pytest.raises(SandboxError):
        sender.download("/workspace/asked", tmp_path / "into")
    written = sum(path.stat().st_blocks * 512 for path in (tmp_path / "into").rglob("*"))
    assert written < 1024 * 1024
